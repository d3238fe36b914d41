"""Straight-line code for the two directions of a record.

A record of six fields takes a dozen calls to check as nested closures, and every
message is checked in this way, so that the same checks are written out as one function
per direction, as `dataclasses` writes out `__init__`. What the checks are, and what a
refusal says, stays with `codec`: what does not pass at once goes to its careful twin.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from starling.protocol.errors import DecodeError, LimitError

_REFUSED = (DecodeError, LimitError)


@dataclass(frozen=True)
class RecordField:
    """One field of a record.

    Attributes:
      test: Python source that is true of `{0}` only if the value stands for itself in
        both directions; empty if none does.
      build: From the wire, for what `test` does not pass; raises what `codec` raises.
      dump: To the wire, likewise.
    """

    test: str
    build: Callable[[Any], Any]
    dump: Callable[[Any], Any]


def straight_build(
    cls: type[Any], items: Sequence[RecordField], careful: Callable[[Any], Any]
) -> Callable[[Any], Any]:
    """From a wire value to an instance, past `__init__` of the frozen dataclass.

    Args:
      cls: Without slots; its fields stand in wire order, and `__init__` only sets them.
      items: One per field.
      careful: Gives the same result, or the error that names what is wrong.
    """
    names = [field.name for field in fields(cls)]
    taken = ", ".join(f"f{at}" for at in range(len(names)))
    made = ", ".join(
        f"{name!r}: {_either(item.test, 'build', at)}"
        for at, (name, item) in enumerate(zip(names, items, strict=True))
    )
    check = "made.__post_init__()" if hasattr(cls, "__post_init__") else "pass"
    source = f"""
def build(value):
    if type(value) is not list or len(value) != {len(names)}:
        return careful(value)
    {taken}, = value
    made = new(cls)
    try:
        made.__dict__.update({{{made}}})
        {check}
    except refused:
        return careful(value)
    return made
"""
    return _define("build", source, cls, items, careful)


def straight_dump(
    cls: type[Any], items: Sequence[RecordField], careful: Callable[[Any], Any]
) -> Callable[[Any], Any]:
    """From an instance to a wire value; arguments as those of `straight_build`."""
    names = [field.name for field in fields(cls)]
    taken = "; ".join(f"f{at} = value.{name}" for at, name in enumerate(names))
    made = ", ".join(_either(item.test, "dump", at) for at, item in enumerate(items))
    source = f"""
def dump(value):
    {taken}
    try:
        return [{made}]
    except refused:
        return careful(value)
"""
    return _define("dump", source, cls, items, careful)


def _either(test: str, direction: str, at: int) -> str:
    """The expression of a field's value: as it is, or as its function makes it."""
    made = f"{direction}{at}(f{at})"
    return f"f{at} if {test.format(f'f{at}')} else {made}" if test else made


def _define(
    name: str,
    source: str,
    cls: type[Any],
    items: Sequence[RecordField],
    careful: Callable[[Any], Any],
) -> Callable[[Any], Any]:
    known: dict[str, Any] = {
        "cls": cls,
        "new": object.__new__,
        "careful": careful,
        "refused": _REFUSED,
    }
    for at, item in enumerate(items):
        known |= {f"build{at}": item.build, f"dump{at}": item.dump}
    # Nothing but field names and bounds of our own schemas stands in the source.
    exec(compile(source, f"<{name} of {cls.__name__}>", "exec"), known)  # noqa: S102
    defined: Callable[[Any], Any] = known[name]
    return defined

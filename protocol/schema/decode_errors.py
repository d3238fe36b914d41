"""Refusals of msgpack bytes: the field by name, and the bound that it breaks.

msgspec names places by position, such as `$[1][0]`; messages here name them as
`Upload.lease: Envelope.sender`, and tell a wrong length from a wrong kind.
"""

import re

import msgspec
from msgspec import inspect

from starling.protocol.errors import DecodeError, LimitError, ProtocolError

_PLACE = re.compile(r" - at `\$((?:\[\d+\])+)`$")
_LENGTH_BYTES = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xDC: 2, 0xDD: 4}
"""Bytes that hold the length, by first byte of a byte string or an array."""


def refusal(kind: object, data: bytes, error: Exception) -> ProtocolError:
    """The error that tells what is wrong with some bytes.

    Args:
      kind: The type that they were to be.
      data: The bytes.
      error: Of msgspec; what `__post_init__` raised is its cause.
    """
    found = _PLACE.search(str(error))
    steps = [int(step) for step in re.findall(r"\d+", found[1])] if found else []
    if not isinstance(error, msgspec.ValidationError):
        return DecodeError(f"not one msgpack value: {error}")
    names, leaf = _follow(inspect.type_info(kind), steps)
    cause = error.__cause__
    # A structure's own refusal says more than its wrapper.
    if isinstance(cause, DecodeError | LimitError):
        return type(cause)(": ".join([*names, str(cause)]), cause.reason)
    wrong_length = " of length " in str(error)
    if not wrong_length or isinstance(leaf, inspect.StructType | inspect.TupleType):
        return DecodeError(": ".join([*names, f"expected {_expected(leaf)}"]))
    return LimitError(": ".join([*names, _too_long(leaf, _length(data, steps))]))


def _follow(kind: inspect.Type, steps: list[int]) -> tuple[list[str], inspect.Type]:
    """Names on the way to a place, and the type there."""
    names: list[str] = []
    here = _bare(kind)
    for step in steps:
        match here:
            case inspect.StructType(cls=cls, fields=fields):
                names.append(f"{cls.__name__}.{fields[step].name}")
                here = _bare(fields[step].type)
            case inspect.TupleType(item_types=items):
                here = _bare(items[step])
            case inspect.VarTupleType(item_type=item):
                here = _bare(item)
            case _:
                raise AssertionError(here)
    return names, here


def _bare(kind: inspect.Type) -> inspect.Type:
    """A type without annotations, and without the nil that may stand for it."""
    match kind:
        case inspect.Metadata(type=inner):
            return _bare(inner)
        case inspect.UnionType(types=types):
            return next(
                _bare(each) for each in types if not isinstance(each, inspect.NoneType)
            )
        case _:
            return kind


def _expected(kind: inspect.Type) -> str:
    match kind:
        case inspect.IntType(ge=least, le=most):
            return f"an integer in [{least}, {most}]"
        case inspect.BytesType():
            return "bytes"
        case inspect.StrType():
            return "printable text"
        case inspect.StructType(cls=cls, fields=fields):
            return f"{len(fields)} fields of {cls.__name__}"
        case inspect.EnumType(cls=cls):
            return f"a number of {cls.__name__}"
        case _:
            return "an array"


def _too_long(kind: inspect.Type, count: int | None) -> str:
    match kind:
        case inspect.StrType(max_length=most):
            return f"text longer than {most} bytes"
        case inspect.BytesType(min_length=least, max_length=most):
            unit = "bytes"
        case inspect.VarTupleType(min_length=least, max_length=most):
            unit = "items"
        case _:
            raise AssertionError(kind)
    shown = "" if count is None else f"{count} {unit}, "
    return f"{shown}{least} to {most} allowed"


def _length(data: bytes, steps: list[int]) -> int | None:
    """The length that the header of a byte string or an array claims."""
    raw = memoryview(data)
    try:
        # Each of these arrays was within its bound: the fault lies inside it.
        for step in steps:
            raw = memoryview(msgspec.msgpack.decode(raw, type=list[msgspec.Raw])[step])
    except ValueError:
        return None
    # Without bytes of its own the length is in the low half of the first one
    # (fixarray).
    width = _LENGTH_BYTES.get(raw[0])
    return int.from_bytes(raw[1 : 1 + width]) if width else raw[0] & 0x0F

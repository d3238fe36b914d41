"""Rules of a field that msgspec has no word for: printable text, differences.

A rule takes a value as it was decoded, or as it is to be encoded, and gives what stands
in its place. It is built once for a type; a type without such fields has none, and so
costs nothing.
"""

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import inspect

from starling.protocol.errors import DecodeError, LimitError

FROM_FIRST = "from_first_most"
"""Key of a field's annotation: the largest value of a tuple kept as differences."""

Rule = Callable[[Any], Any]


def reader_rule(kind: inspect.Type) -> Rule | None:
    """The rule of what was decoded: checks texts, adds up differences.

    It raises `DecodeError` or `LimitError`, with the field's name in the message.
    """
    return _rule(kind, _check_text, _add_up)


def writer_rule(kind: inspect.Type) -> Rule | None:
    """The rule of what is to be encoded: takes differences."""
    return _rule(kind, None, _take_differences)


def _rule(
    kind: inspect.Type,
    text: Callable[[int], Rule] | None,
    differences: Callable[[int], Rule],
) -> Rule | None:
    rule: Rule | None = None
    match kind:
        case inspect.Metadata(type=inner, extra=extra):
            most = (extra or {}).get(FROM_FIRST)
            rule = differences(most) if most else _rule(inner, text, differences)
        case inspect.StrType(max_length=int(most)) if text is not None:
            rule = text(most)
        case inspect.StructType(cls=cls, fields=fields):
            found = {each.name: _rule(each.type, text, differences) for each in fields}
            rule = _for_fields(cls, {name: one for name, one in found.items() if one})
        case inspect.VarTupleType(item_type=item):
            rule = _for_items(_rule(item, text, differences))
        case inspect.TupleType(item_types=items):
            rule = _for_places([_rule(each, text, differences) for each in items])
        case inspect.UnionType(types=types):
            some = [_rule(each, text, differences) for each in types]
            rule = _for_some(next((one for one in some if one), None))
        case _:
            pass
    return rule


def _for_fields(cls: type[Any], rules: dict[str, Rule]) -> Rule | None:
    if not rules:
        return None

    def apply(value: Any) -> Any:  # noqa: ANN401 - any structure
        changes: dict[str, Any] = {}
        for name, rule in rules.items():
            before = getattr(value, name)
            try:
                after = rule(before)
            except (DecodeError, LimitError) as error:
                place = f"{cls.__name__}.{name}"
                raise type(error)(f"{place}: {error}", error.reason) from error
            if after is not before:
                changes[name] = after
        return msgspec.structs.replace(value, **changes) if changes else value

    return apply


def _for_items(rule: Rule | None) -> Rule | None:
    if rule is None:
        return None

    def apply(value: Any) -> Any:  # noqa: ANN401 - a tuple
        items = [rule(item) for item in value]
        same = all(map(lambda one, other: one is other, items, value))
        return value if same else tuple(items)

    return apply


def _for_places(rules: list[Rule | None]) -> Rule | None:
    if not any(rules):
        return None
    return lambda value: tuple(
        item if rule is None else rule(item)
        for rule, item in zip(rules, value, strict=True)
    )


def _for_some(rule: Rule | None) -> Rule | None:
    if rule is None:
        return None
    return lambda value: None if value is None else rule(value)


def _check_text(most: int) -> Rule:
    def check(value: str) -> str:
        if not (value.isprintable() or value == ""):
            raise DecodeError("expected printable text")
        if len(value.encode()) > most:
            raise LimitError(f"text longer than {most} bytes")
        return value

    return check


def _add_up(most: int) -> Rule:
    def absolute(values: tuple[int, ...]) -> tuple[int, ...]:
        first = values[0]
        added = (first, *(first + value for value in values[1:]))
        if not all(0 <= value <= most for value in added):
            raise DecodeError(f"expected integers in [0, {most}]")
        return added

    return absolute


def _take_differences(most: int) -> Rule:
    del most
    return lambda values: tuple(
        value - values[0] if at else value for at, value in enumerate(values)
    )

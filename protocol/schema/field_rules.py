"""Rules of fields that msgspec has no word for: printable texts, differences.

Each is a function that is built once for a type; a type without such fields has none,
and so costs nothing.
"""

from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct, inspect, structs

from starling.protocol.errors import DecodeError, LimitError

FROM_FIRST = "from_first_most"
"""Key of a field's annotation: the largest value of a tuple kept as differences."""

Check = Callable[[Any], object]
"""Raises `DecodeError` or `LimitError`, with the field's name in the message."""
Change = Callable[[Any], Any]
"""Gives what stands in a value's place; raises likewise."""


def text_check(kind: inspect.Type) -> Check | None:
    """The check that every text of a decoded value is printable and short enough."""
    check: Check | None = None
    match kind:
        case inspect.Metadata(type=inner):
            check = text_check(inner)
        case inspect.StrType(max_length=int(most)):
            check = _check_text(most)
        case inspect.StructType(cls=cls, fields=fields):
            check = _check_fields(cls, _found(text_check, fields))
        case inspect.VarTupleType(item_type=item):
            check = _check_items(text_check(item))
        case inspect.TupleType(item_types=items):
            check = _check_places([text_check(item) for item in items])
        case inspect.UnionType(types=types):
            check = _unless_none(text_check, types)
        case _:
            pass
    return check


def added_up(kind: inspect.Type) -> Change | None:
    """The change of a decoded value whose differences become integers again."""
    return _change(kind, _add_up)


def differences(kind: inspect.Type) -> Change | None:
    """The change of a value before it is encoded: integers become differences."""
    return _change(kind, _take_differences)


def _change(kind: inspect.Type, leaf: Callable[[int], Change]) -> Change | None:
    def inside(part: inspect.Type) -> Change | None:
        return _change(part, leaf)

    change: Change | None = None
    match kind:
        case inspect.Metadata(type=inner, extra=extra):
            most = (extra or {}).get(FROM_FIRST)
            change = leaf(most) if most else inside(inner)
        case inspect.StructType(cls=cls, fields=fields):
            change = _change_fields(cls, _found(inside, fields))
        case inspect.VarTupleType(item_type=item):
            change = _change_items(inside(item))
        case inspect.UnionType(types=types):
            change = _unless_none(inside, types)
        case _:
            pass
    return change


def _found(
    make: Callable[[inspect.Type], Change | None], fields: tuple[inspect.Field, ...]
) -> dict[str, Change]:
    made = {field.name: make(field.type) for field in fields}
    return {name: function for name, function in made.items() if function is not None}


def _unless_none(
    make: Callable[[inspect.Type], Change | None], types: tuple[inspect.Type, ...]
) -> Change | None:
    some = next((one for one in map(make, types) if one is not None), None)
    if some is None:
        return None
    return lambda value: None if value is None else some(value)


def _check_fields(cls: type[Any], checks: Mapping[str, Check]) -> Check | None:
    if not checks:
        return None
    entries = tuple(checks.items())

    def check(value: object) -> None:
        name = ""
        try:
            for name, check_field in entries:
                check_field(getattr(value, name))
        except (DecodeError, LimitError) as error:
            raise _named(cls, name, error) from error

    return check


def _check_items(check_item: Check | None) -> Check | None:
    if check_item is None:
        return None

    def check(values: tuple[object, ...]) -> None:
        for value in values:
            check_item(value)

    return check


def _check_places(checks: list[Check | None]) -> Check | None:
    places = [(at, one) for at, one in enumerate(checks) if one is not None]
    if not places:
        return None

    def check(values: tuple[object, ...]) -> None:
        for at, check_item in places:
            check_item(values[at])

    return check


def _check_text(most: int) -> Check:
    def check(value: str) -> None:
        # Names end in terminals, logs and a browser: no escape sequences, line ends or
        # marks that turn text round.
        if not value.isprintable():
            raise DecodeError("expected printable text")
        # Characters are counted already.
        if not value.isascii() and len(value.encode()) > most:
            raise LimitError(f"text longer than {most} bytes")

    return check


def _change_fields(cls: type[Any], changes: Mapping[str, Change]) -> Change | None:
    if not changes:
        return None
    entries = tuple(changes.items())

    def change(value: Struct) -> Struct:
        name = ""
        made: dict[str, object] = {}
        try:
            for name, change_field in entries:
                made[name] = change_field(getattr(value, name))
        except (DecodeError, LimitError) as error:
            raise _named(cls, name, error) from error
        return structs.replace(value, **made)

    return change


def _change_items(change_item: Change | None) -> Change | None:
    if change_item is None:
        return None
    return lambda values: tuple(map(change_item, values))


def _add_up(most: int) -> Change:
    def change(values: tuple[int, ...]) -> tuple[int, ...]:
        first, *rest = values
        return _within(most, [first, *(first + value for value in rest)])

    return change


def _take_differences(most: int) -> Change:
    def change(values: tuple[int, ...]) -> tuple[int, ...]:
        if not values:
            return values
        first, *rest = _within(most, values)
        return (first, *(value - first for value in rest))

    return change


def _within(most: int, values: list[int] | tuple[int, ...]) -> tuple[int, ...]:
    if min(values) < 0 or max(values) > most:
        raise DecodeError(f"expected integers in [0, {most}]")
    return tuple(values)


def _named(
    cls: type[Any], name: str, error: DecodeError | LimitError
) -> DecodeError | LimitError:
    return type(error)(f"{cls.__name__}.{name}: {error}", error.reason)

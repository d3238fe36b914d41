"""Reads JSON documents strictly: every field by name, of one type, within bounds.

A place is the path of a field as messages name it, such as `manifest.loss`. The
standard library parses, since msgspec takes a document with a key in it twice.
"""

import json
from typing import Any

from starling.protocol.errors import DecodeError

NUMBER_MAX = 1e9


def read_json(data: bytes | str, place: str) -> Any:  # noqa: ANN401 - any document
    """A document without duplicate keys, infinities or NaN.

    Raises:
      DecodeError: If it is not JSON.
    """
    try:
        return json.loads(data, object_pairs_hook=_unique, parse_constant=_no_constant)
    # ValueError covers JSON and UTF-8; a deep nest of brackets exhausts recursion.
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"{place}: not JSON: {error}") from error


def check_fields(value: object, place: str, names: tuple[str, ...]) -> None:
    """Refuses what is no object with exactly these fields.

    Raises:
      DecodeError: Naming the fields that are missing or unknown.
    """
    if not isinstance(value, dict):
        raise DecodeError(f"{place}: expected an object")
    if sorted(value) != sorted(names):
        odd = ", ".join(sorted(set(value) ^ set(names)))
        shown = "".join(c if c.isprintable() else "?" for c in odd[:200])
        raise DecodeError(f"{place}: missing or unknown: {shown}")


def items(value: object, place: str, most: int) -> list[Any]:
    """A list of at most so many entries.

    Raises:
      DecodeError: If it is none.
    """
    if not isinstance(value, list) or len(value) > most:
        raise DecodeError(f"{place}: expected a list of at most {most}")
    return value


def integer(value: object, place: str, least: int, most: int) -> int:
    """An integer within bounds, both of them included.

    Raises:
      DecodeError: If it is none.
    """
    # Not `isinstance`, for which `true` is an integer as well.
    if type(value) is not int or not least <= value <= most:
        raise DecodeError(f"{place}: expected an integer in [{least}, {most}]")
    return value


def numbers(value: object, place: str, most: int) -> tuple[float, ...]:
    """At most so many finite numbers, each up to `NUMBER_MAX` from zero.

    Raises:
      DecodeError: If they are not.
    """
    entries = items(value, place, most)
    for entry in entries:
        if type(entry) not in (int, float) or not abs(entry) <= NUMBER_MAX:
            raise DecodeError(f"{place}: expected numbers up to {NUMBER_MAX:.0e}")
    return tuple([float(entry) for entry in entries])


def text(value: object, place: str, most: int) -> str:
    """Printable text of 1 to `most` characters.

    Raises:
      DecodeError: If it is none.
    """
    if not isinstance(value, str) or not 0 < len(value) <= most:
        raise DecodeError(f"{place}: expected 1 to {most} letters")
    if not value.isprintable():
        raise DecodeError(f"{place}: expected printable text")
    return value


def choice(value: object, place: str, choices: tuple[str, ...]) -> str:
    """One of a few words.

    Raises:
      DecodeError: If it is another.
    """
    if not isinstance(value, str) or value not in choices:
        raise DecodeError(f"{place}: expected one of {', '.join(choices)}")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    # Readers differ in which of two equal keys counts.
    if len(document) != len(pairs):
        raise ValueError("a key stands twice")
    return document


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")

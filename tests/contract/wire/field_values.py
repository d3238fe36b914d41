"""Strategies for the fields of structures."""

from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from starling.protocol.ids import TASKS_MAX
from starling.protocol.schema.msgpack_codec import UINT_MAX

digests = st.binary(min_size=32, max_size=32)
signatures = st.binary(min_size=64, max_size=64)
devices = st.binary(min_size=16, max_size=16)
counts = st.one_of(st.integers(0, 300), st.integers(0, UINT_MAX))
heights = st.integers(1, UINT_MAX)
names = st.text(st.characters(categories=["L", "N", "P"]), max_size=16)


def upto(most: int, least: int = 0) -> SearchStrategy[int]:
    """Integers of a field with bounds."""
    return st.integers(least, most)


def tuples(
    items: SearchStrategy[Any], most: int, least: int = 0
) -> SearchStrategy[tuple[Any, ...]]:
    """Tuples of a repeated field."""
    return st.lists(items, min_size=least, max_size=most).map(tuple)


task_numbers = upto(TASKS_MAX)

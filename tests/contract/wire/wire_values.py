"""Strategies for the values of every structure."""

from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.contract.wire.chain_values import CHAIN_VALUES
from tests.contract.wire.enrolment_values import ENROLMENT_VALUES
from tests.contract.wire.field_values import digests, names
from tests.contract.wire.founding_values import FOUNDING_VALUES
from tests.contract.wire.message_values import MESSAGE_VALUES
from tests.contract.wire.task_values import TASK_VALUES


def wire_values() -> SearchStrategy[Any]:
    """Anything that the wire can carry, structure or not."""
    leaves = st.one_of(
        st.none(), st.integers(-5, 300), st.binary(max_size=40), names, digests
    )
    return st.recursive(leaves, lambda inner: st.lists(inner, max_size=4), max_leaves=8)


VALUES: dict[str, SearchStrategy[Any]] = {
    **FOUNDING_VALUES,
    **ENROLMENT_VALUES,
    **MESSAGE_VALUES,
    **TASK_VALUES,
    **CHAIN_VALUES,
}

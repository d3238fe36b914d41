"""Records of operators and motions in the chain's state."""

from starling.coordinator.chain.state.state_table import (
    BYTES,
    NUMBER,
    StateReader,
    Table,
    alone,
    by_identity,
    count,
)

OPERATORS = Table(b"operator/", by_identity, BYTES)
"""By public key: who may admit boards and publish tasks; the records are empty."""
OPERATOR_COUNT = Table(b"operators", alone, NUMBER)
MOTION_COUNT = Table(b"motions", alone, NUMBER)
"""Motions that were ever carried."""


def is_operator(tree: StateReader, public: bytes) -> bool:
    """True if a key is an operator's."""
    return OPERATORS.has(tree, public)


def operator_count(tree: StateReader) -> int:
    """Number of operators."""
    return count(tree, OPERATOR_COUNT)


def motion_count(tree: StateReader) -> int:
    """Number of carried proposals."""
    return count(tree, MOTION_COUNT)

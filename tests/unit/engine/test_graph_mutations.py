"""Whatever our reader takes, protobuf's own reader sees the same in it."""

import pytest

from tests.unit.engine.graph_mutations import accepted, disagreement, normal, seeds

QUICK, LONG, PARTS = 4000, 1_000_000, 20


def test_graphs_of_the_compiler_are_written_as_they_are_read() -> None:
    for data in seeds():
        assert normal(data)


@pytest.mark.slow
def test_accepted_changes_read_the_same_for_protobuf() -> None:
    taken = list(accepted(0, QUICK))

    assert len(taken) > QUICK // 20
    assert not any(disagreement(data, written) for data, written in taken)


@pytest.mark.soak
@pytest.mark.parametrize("part", range(PARTS))
def test_a_million_changes_read_the_same_for_protobuf(part: int) -> None:
    for data, written in accepted(1 + part, LONG // PARTS):
        assert not disagreement(data, written)

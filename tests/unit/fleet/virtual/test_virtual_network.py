"""Brokers in memory: who is at which, and over which link it hears the others."""

import pytest

from starling.fleet.virtual.virtual_network import VirtualNetwork, broker_of
from starling.protocol.wire.topics import Topics


@pytest.mark.parametrize(
    ("number", "brokers", "expected"), [(1, 1, 1), (4, 1, 1), (1, 2, 1), (4, 2, 2)]
)
def test_parties_are_dealt_out_in_turn(
    number: int, brokers: int, expected: int
) -> None:
    assert broker_of(number, brokers) == expected


def test_links_of_a_client_are_numbered_without_its_own_broker() -> None:
    network = VirtualNetwork(Topics("f"), lambda *_: None, lambda *_: None)

    links = [[network._link(own, other) for other in (1, 2, 3)] for own in (1, 2, 3)]

    assert links == [[0, 1, 2], [1, 0, 2], [1, 2, 0]]

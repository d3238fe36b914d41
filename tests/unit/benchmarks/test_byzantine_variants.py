"""What a liar of the benchmarks says can be packed, however it is drawn."""

import random

import pytest

from benchmarks.harness.byzantine_variants import Ask
from starling.coordinator.chain.gossip_messages import FrameSubject, open_frame
from starling.protocol.ids import H
from tests.unit.coordinator.fixtures.four_coordinators import GENESIS, KEYS


@pytest.mark.parametrize("known", ["", "a", "aba"])
def test_liar_that_asks_names_nothing_twice(known: str) -> None:
    key = KEYS[-1]
    liar = Ask(key, GENESIS, H(b"bundle"), random.Random(1), key)
    liar.known = [H(letter.encode()) for letter in known]

    for _ in range(200):
        assert open_frame(liar._request()).subject == FrameSubject.REQUEST

"""What a liar of the benchmarks says can be packed, however it is drawn."""

import random

import pytest

from benchmarks.harness.byzantine_attacks import REQUEST_BYTES_PER_S, Want
from benchmarks.harness.byzantine_variants import Ask
from starling.broker.link_events import MqttMessage
from starling.coordinator.chain.gossip_messages import FrameSubject, open_frame
from starling.protocol.ids import H
from tests.unit.coordinator.fixtures.council_genesis import GENESIS, KEYS


@pytest.mark.parametrize("known", ["", "a", "aba"])
def test_liar_that_asks_names_nothing_twice(known: str) -> None:
    key = KEYS[-1]
    liar = Ask(key, GENESIS, H(b"bundle"), random.Random(1), key)
    liar.known = [H(letter.encode()) for letter in known]

    for _ in range(200):
        assert open_frame(liar._request()).subject == FrameSubject.REQUEST


@pytest.mark.parametrize("kind", [Ask, Want])
def test_liar_that_asks_is_as_loud_in_each_part_of_a_measurement(
    kind: type[Want],
) -> None:
    key = KEYS[-1]
    liar = kind(key, GENESIS, H(b"bundle"), random.Random(1), key)
    said: list[int] = []

    def send(message: MqttMessage) -> int:
        said.append(len(message.payload))
        return len(said)

    liar.send = send
    parts = []
    for begins_s in (100.0, 120.0, 140.0):
        said.clear()
        for tick in range(251):
            liar.act(begins_s + tick / 50)
        # The last second of five.
        before = sum(said)
        for tick in range(251, 301):
            liar.act(begins_s + tick / 50)
        parts.append(sum(said) - before)

    assert all(0.9 < part / REQUEST_BYTES_PER_S < 1.1 for part in parts)

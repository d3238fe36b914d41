"""Fixtures of the tests of a board's training."""

import pytest

from starling.protocol.learning.vector_codecs import (
    CODECS,
    Draw,
    GridVector,
    VectorCodec,
    decode_float32,
)
from tests.unit.agent.training.hostile_gradients import EXACT


@pytest.fixture
def exact_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has an order's codec `EXACT` give the integers themselves."""

    def encode(vector: GridVector, draw: Draw) -> bytes:
        del draw
        return vector.values.astype("<i8").tobytes()

    codec = VectorCodec(encode, decode_float32)
    monkeypatch.setitem(CODECS, EXACT, codec)

"""Differences are made once, kept within bounds, and left out where they do not pay."""

import numpy as np
import pytest

from starling.coordinator.loop.storage import delta_cache
from starling.coordinator.loop.storage.delta_cache import DeltaCache
from starling.protocol.ids import Digest, H
from starling.protocol.wire.chunk_deltas import CHUNK_DELTA, difference
from starling.protocol.wire.chunks import CHUNK_BYTES, chunk_at, chunk_count


def model(step: int, size: int = CHUNK_BYTES // 4 + 100) -> tuple[Digest, bytes]:
    """Parameters that move by some units of 2^-24 with each step."""
    start = np.random.default_rng(1).integers(-(1 << 22), 1 << 22, size)
    moved = start + step * np.random.default_rng(2).integers(-200, 200, size)
    content = (moved * 2.0**-24).astype("<f4").tobytes()
    return H(content), content


def test_every_chunk_comes_out_of_its_difference() -> None:
    base, newer, cache = model(0), model(1), DeltaCache()

    for index in range(chunk_count(len(newer[1]))):
        payload = cache.get(base, newer, index)
        delta = CHUNK_DELTA.unpack(payload)
        piece = base[1][delta.start : delta.start + CHUNK_BYTES]
        assert delta.chunk(piece) == chunk_at(newer[1], newer[0], index)
        assert len(payload) < 0.6 * len(piece)


def test_model_of_another_length_has_no_difference() -> None:
    assert DeltaCache().get(model(0, 90), model(1, 100), 0) == b""


def test_difference_is_made_once_also_where_there_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = []

    def noted(older: bytes, newer: bytes) -> bytes | None:
        made.append((older, newer))
        return difference(older, newer)

    monkeypatch.setattr(delta_cache, "difference", noted)
    cache = DeltaCache()

    found = [cache.get(model(0, 500), model(1, 500), 0) for _ in range(3)]
    found += [cache.get(model(0, 90), model(1, 100), 0) for _ in range(3)]

    assert len(set(found)) == 2
    assert len(made) == 2


def test_cache_lets_go_of_what_was_asked_for_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base, newer = model(0, 500), [model(step, 500) for step in range(1, 5)]
    made = []

    def noted(older: bytes, younger: bytes) -> bytes | None:
        made.append(younger)
        return difference(older, younger)

    monkeypatch.setattr(delta_cache, "difference", noted)
    monkeypatch.setattr(delta_cache, "CACHE_BYTES_MAX", 3_000)
    cache = DeltaCache()
    for each in (*newer, newer[-1], newer[0]):
        cache.get(base, each, 0)

    assert made == [*(content for _, content in newer), newer[0][1]]

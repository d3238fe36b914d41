"""Remembering in bounded memory."""

import pytest

from starling.coordinator.chain.state.generational_cache import (
    CachedCodec,
    GenerationalCache,
)
from starling.protocol.errors import DecodeError
from starling.protocol.ids import H
from starling.protocol.wire.message_bodies import ACCEPTED, Accepted


def test_recent_gives_what_was_kept() -> None:
    recent: GenerationalCache[str, int] = GenerationalCache(10)
    recent.keep("a", 1)

    assert recent.get("a") == 1
    assert recent.get("b") is None


def test_recent_keeps_at_least_the_latest_half_and_never_more_than_all() -> None:
    recent: GenerationalCache[int, int] = GenerationalCache(10)
    for number in range(100):
        recent.keep(number, number)

        assert len(recent) <= 10
        latest = range(max(0, number - 4), number + 1)
        assert [recent.get(each) for each in latest] == list(latest)


def test_recent_counts_weight() -> None:
    recent: GenerationalCache[int, bytes] = GenerationalCache(100)
    for number in range(10):
        recent.keep(number, bytes(20), weight=20)

        assert len(recent) <= 5
    assert recent.get(9) == bytes(20)


def test_recent_too_heavy_is_not_kept() -> None:
    recent: GenerationalCache[str, int] = GenerationalCache(10)
    recent.keep("light", 1)
    recent.keep("heavy", 2, weight=6)

    assert recent.get("heavy") is None
    assert recent.get("light") == 1


def test_recent_codec_reads_what_it_wrote_without_the_codec() -> None:
    codec = CachedCodec(ACCEPTED, 4)
    accepted = Accepted(H(b"update"))
    packed = codec.pack(accepted)

    assert codec.unpack(packed) is accepted
    assert CachedCodec(ACCEPTED, 4).unpack(packed) == accepted


def test_recent_codec_refuses_again_what_the_codec_refuses() -> None:
    codec = CachedCodec(ACCEPTED, 4)

    for _ in range(2):
        with pytest.raises(DecodeError):
            codec.unpack(b"\x00")

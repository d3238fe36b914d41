"""Topics are muted for a while, and nothing is kept of those whose time is over."""

import pytest

from starling.coordinator.loop.messaging import muted_topics
from starling.coordinator.loop.messaging.muted_topics import MUTE_S, MutedTopics


def test_topic_is_muted_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [100.0]
    muted = MutedTopics(lambda: now_s[0])
    muted.add("up")
    assert "up" in muted
    assert "say" not in muted
    now_s[0] += MUTE_S / 2
    muted.add("say")
    now_s[0] += MUTE_S / 2
    assert "up" not in muted
    assert "say" in muted
    # Nothing is kept of those whose time is over.
    monkeypatch.setattr(muted_topics, "MUTE_S", 9.0)
    muted.add("other")
    assert vars(muted)["_until_s"].keys() == {"say", "other"}

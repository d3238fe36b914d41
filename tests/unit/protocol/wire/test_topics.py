"""Topics keep to their depth, and take themselves apart again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starling.protocol.errors import DecodeError
from starling.protocol.wire.topics import Topics, check_fleet_name

TOPICS = Topics("demo")
DEVICE = "a" * 26
ALL = {
    "device state": (TOPICS.device_state(DEVICE), ("d", DEVICE, "state")),
    "up": (TOPICS.up(DEVICE), ("d", DEVICE, "up")),
    "say": (TOPICS.say(DEVICE), ("d", DEVICE, "say")),
    "down": (TOPICS.down(DEVICE), ("d", DEVICE, "down")),
    "model": (TOPICS.model(DEVICE), ("d", DEVICE, "model")),
    "manifest": (TOPICS.manifest(3), ("t", "3", "manifest")),
    "coordinator": (TOPICS.coordinator_state(DEVICE), ("c", DEVICE, "state")),
    "gossip": (TOPICS.gossip(DEVICE), ("g", DEVICE, "say")),
    "private": (TOPICS.private("c" * 26, DEVICE), ("g", "c" * 26, f"to/{DEVICE}")),
}


def matches(topic_filter: str, topic: str) -> bool:
    """MQTT's matching of a filter without '#'."""
    wanted, levels = topic_filter.split("/"), topic.split("/")
    return len(wanted) == len(levels) and all(
        want in ("+", level) for want, level in zip(wanted, levels, strict=True)
    )


@pytest.mark.parametrize(("topic", "parts"), ALL.values(), ids=ALL)
def test_topic_has_six_levels_or_seven_and_parses(
    topic: str, parts: tuple[str, str, str]
) -> None:
    assert TOPICS.parse(topic) == parts
    assert len(topic.split("/")) == (7 if parts[2].startswith("to/") else 6)


def test_board_hears_what_is_meant_for_it_and_for_all() -> None:
    heard = {
        name
        for name, (topic, _) in ALL.items()
        if any(matches(each, topic) for each in TOPICS.board_filters(DEVICE))
    }

    assert heard == {"down", "model", "manifest", "coordinator"}


def test_board_hears_nothing_meant_for_another() -> None:
    other = "b" * 26
    topics = [TOPICS.down(other), TOPICS.model(other), TOPICS.up(other)]

    assert not [
        topic
        for topic in topics
        for each in TOPICS.board_filters(DEVICE)
        if matches(each, topic)
    ]


def test_coordinator_hears_boards_and_coordinators() -> None:
    heard = {
        name
        for name, (topic, _) in ALL.items()
        if any(matches(each, topic) for each in TOPICS.coordinator_filters(DEVICE))
    }

    assert heard == {"device state", "up", "say", "gossip", "private"}


def test_coordinator_does_not_hear_what_is_private_to_another() -> None:
    private = TOPICS.private(DEVICE, "b" * 26)

    assert not [
        each for each in TOPICS.coordinator_filters(DEVICE) if matches(each, private)
    ]


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "/",
        "starling/1/demo",
        "starling/1/demo/",
        "starling/1/demo/d/x",
        "starling/1/demo/d/x/up/more",
        "starling/1/demo/d/x/to/y",
        "starling/1/demo/g/x/say/y",
        "starling/1/demo/g/x/to/y/z",
        "starling/1/demonstration/d/x/up",
        "starling/2/demo/d/x/up",
        "x/starling/1/demo/d/x/up",
        "$SYS/broker/uptime",
    ],
)
def test_parse_of_a_foreign_topic_refuses(topic: str) -> None:
    with pytest.raises(DecodeError, match="not a topic"):
        TOPICS.parse(topic)


@given(st.text(max_size=40))
def test_parse_of_any_text_refuses_or_gives_three_levels(text: str) -> None:
    try:
        parts = TOPICS.parse("starling/1/demo/" + text)
    except DecodeError:
        return

    assert "/".join(parts) == text


@pytest.mark.parametrize(
    "name",
    ["", "-a", "A", "a_b", "a/b", "a+", "#", "a" * 33, "a\n", "é", "a b", "a\x00"],
)
def test_fleet_name_unfit_for_a_topic_refuses(name: str) -> None:
    with pytest.raises(DecodeError, match="fleet name"):
        check_fleet_name(name)
    with pytest.raises(DecodeError, match="fleet name"):
        Topics(name)


@pytest.mark.parametrize("name", ["a", "0", "demo-2", "a" * 32])
def test_fleet_name_fit_for_a_topic_is_kept(name: str) -> None:
    assert check_fleet_name(name) == name

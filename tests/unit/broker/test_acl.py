"""The access file, word for word, and names that could smuggle in a line."""

import pytest

from starling.broker.acl import acl_text, check_user, enrolment_acl_text
from starling.protocol.errors import ConfigError
from starling.protocol.wire.topics import Topics

EXPECTED = """\
# Boards: %u is the user name, which is the device id.
pattern write starling/1/garden/d/%u/state
pattern write starling/1/garden/d/%u/up
pattern write starling/1/garden/d/%u/say
pattern read starling/1/garden/d/%u/down
pattern read starling/1/garden/d/%u/model
pattern read starling/1/garden/t/+/manifest
pattern read starling/1/garden/c/+/state

# All: whoever has a certificate may have it renewed.
pattern write starling/1/garden/r/%u/renewal
pattern read starling/1/garden/r/%u/renewed

user registrar
topic read starling/1/garden/r/+/renewal
topic write starling/1/garden/r/+/renewed

user c1
topic write starling/1/garden/d/+/down
topic write starling/1/garden/d/+/model
topic write starling/1/garden/t/+/manifest
topic write starling/1/garden/c/c1/state
topic write starling/1/garden/g/c1/say
topic write starling/1/garden/g/c1/to/+
topic read starling/1/garden/d/+/up
topic read starling/1/garden/d/+/say
topic read starling/1/garden/d/+/state
topic read starling/1/garden/g/+/say
topic read starling/1/garden/g/+/to/c1

user p1
topic read starling/1/garden/g/+/say
topic read starling/1/garden/g/+/to/p1
"""


def test_acl_text_of_one_coordinator_and_a_peer_is_this() -> None:
    assert acl_text(Topics("garden"), ["c1"], ["p1"]) == EXPECTED


def test_acl_text_does_not_depend_on_order_or_repetition() -> None:
    topics = Topics("garden")

    assert acl_text(topics, ["b", "a"]) == acl_text(topics, ["a", "b", "a"])


def test_expelled_is_denied_everything_whatever_it_was() -> None:
    text = acl_text(Topics("garden"), ["c1", "c2"], ["p1"], ["c2", "p1", "b1"])
    others, _, _ = EXPECTED.partition("\nuser p1\n")
    assert text.startswith(others)
    parts = [part.splitlines() for part in text[len(others) :].split("\n\n")]
    denied = ["topic deny #", "topic deny $SYS/#"]
    found = {part[-3]: part[-2:] for part in parts}
    assert found == {f"user {name}": denied for name in ("b1", "c2", "p1")}


def test_expelled_board_may_hear_why_and_no_more() -> None:
    board = "l2nqfxzwqkhzmzdpvsmw6tqr3e"
    text = acl_text(Topics("garden"), ["c1"], (), [board])
    _, _, lines = text.partition(f"user {board}\n")
    denied = [line.removeprefix("topic deny ") for line in lines.splitlines()]
    granted = {
        line.split(" ", 2)[2].replace("%u", board)
        for line in EXPECTED.splitlines()
        if line.startswith("pattern")
    }
    assert granted - set(denied) == {f"starling/1/garden/d/{board}/down"}
    assert "$SYS/#" in denied


@pytest.mark.parametrize(
    "name",
    ["", "a b", "a\ntopic readwrite #", "#", "+", "%u", "A", "-a", "a/b", "a" * 65],
    ids=repr,
)
def test_user_name_that_could_change_the_rights_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="user name"):
        check_user(name)
    with pytest.raises(ConfigError, match="user name"):
        acl_text(Topics("garden"), [name])
    with pytest.raises(ConfigError, match="user name"):
        acl_text(Topics("garden"), [], (), [name])


def test_enrolment_access_gives_newcomers_their_own_topics_and_no_others() -> None:
    assert enrolment_acl_text(Topics("garden")).splitlines()[1:] == [
        "pattern write starling/1/garden/e/%c/hello",
        "pattern write starling/1/garden/e/%c/claim",
        "pattern read starling/1/garden/e/%c/challenge",
        "pattern read starling/1/garden/e/%c/outcome",
        "",
        "user registrar",
        "topic read starling/1/garden/e/+/hello",
        "topic read starling/1/garden/e/+/claim",
        "topic write starling/1/garden/e/+/challenge",
        "topic write starling/1/garden/e/+/outcome",
    ]

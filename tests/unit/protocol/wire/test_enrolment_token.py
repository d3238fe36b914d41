"""A token's line: one form, no secret in what it says when it is wrong."""

from dataclasses import replace

import pytest

from starling.protocol.errors import DecodeError
from starling.protocol.wire.enrolment_token import EnrolmentToken, token_from_line

TOKEN = EnrolmentToken(
    "broker.example.org",
    8884,
    "meadow",
    bytes(range(32)),
    bytes(range(8)),
    bytes(range(100, 120)),
)


@pytest.mark.parametrize(
    "host", ["broker.example.org", "garden_pi", "192.0.2.7", "2001:db8::7"]
)
def test_token_is_read_back_from_its_line(host: str) -> None:
    token = replace(TOKEN, host=host)

    assert token_from_line(f"  {token.to_line()}\n") == token


def test_token_of_a_founding_is_told_from_another() -> None:
    token = replace(TOKEN, founding=True)

    assert token.to_line().startswith("starling-founding://")
    assert token_from_line(token.to_line()) == token


LINE = TOKEN.to_line()


@pytest.mark.parametrize(
    "line",
    [
        "",
        LINE[:-1],
        LINE + "a",
        LINE.replace("starling:", "https:"),
        LINE.replace(":8884", ":0"),
        LINE.replace(":8884", ":70000"),
        LINE.replace("meadow", "Meadow"),
        LINE.replace("meadow", "-"),
        LINE[:-1] + "1",
        LINE + "\n" + LINE,
        "a" * 100_000,
    ],
)
def test_line_that_is_no_token_is_refused_without_showing_it(line: str) -> None:
    with pytest.raises(DecodeError) as error:
        token_from_line(line)

    assert LINE[-32:] not in str(error.value)


def test_last_letter_whose_spare_bits_are_set_is_refused() -> None:
    fingerprint = LINE.split("/")[4]
    assert fingerprint.endswith("a") or fingerprint.endswith("q")
    other = fingerprint[:-1] + ("b" if fingerprint.endswith("a") else "r")

    with pytest.raises(DecodeError, match="a letter is wrong"):
        token_from_line(LINE.replace(fingerprint, other))


def test_representation_does_not_show_the_secret() -> None:
    assert "secret" not in repr(TOKEN)

"""Arguments with bounds: what is outside is a usage error that names them."""

import argparse

import pytest

from starling.service.arguments import (
    WAIT_S_MAX,
    command,
    waiting_s,
    whole_number,
)


@pytest.mark.parametrize("text", ["0", "11", "-1", "1.5", "nan", "", "9" * 5000])
def test_number_out_of_bounds_is_refused_with_the_bounds(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"in \[1, 10\]") as refused:
        whole_number(1, 10)(text)
    assert len(str(refused.value)) < 100


def test_number_within_bounds_is_read() -> None:
    assert [whole_number(1, 10)(text) for text in ("1", " 7 ", "10")] == [1, 7, 10]


@pytest.mark.parametrize("text", ["nan", "inf", "-0.1", "1e300", "soon", ""])
def test_wait_that_would_never_end_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="number of seconds"):
        waiting_s(text)


def test_wait_is_read() -> None:
    assert [waiting_s(text) for text in ("0", "2.5", "31622400")] == [
        0.0,
        2.5,
        WAIT_S_MAX,
    ]


@pytest.mark.parametrize("words", [["run", "--nope"], ["run", "extra"]], ids=str)
def test_verb_shows_its_own_usage_for_what_it_does_not_know(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    made = command("fleet", "A fleet.", "  starling fleet run")
    verbs = made.add_subparsers(dest="verb", required=True)
    verbs.add_parser("run").add_argument("--boards", type=int)
    verbs.add_parser("stop")

    with pytest.raises(SystemExit) as ended:
        made.parse_args(words)

    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("usage: starling fleet run [-h] [--boards BOARDS]\n")
    assert f"unrecognized arguments: {words[-1]}" in said
    assert made.parse_args(["run", "--boards", "3"]).boards == 3

"""The front page says what the parsers say."""

import re
from pathlib import Path

import pytest

from starling import __main__ as starling

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
LISTED = re.findall(r"^\| `starling ([a-z -]+)` \|", README, re.MULTILINE)


def help_text(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as end:
        starling.main([*words, "--help"])
    assert end.value.code == 0
    return capsys.readouterr().out


ALL = re.findall(
    r"^###? `starling ([a-z -]+)`$",
    (ROOT / "docs" / "commands.md").read_text(),
    re.MULTILINE,
)


@pytest.mark.parametrize("command", sorted({*LISTED, *ALL}))
def test_command_listed_has_help_with_examples(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = help_text(command.split(), capsys)

    assert "usage: starling " + command in text
    assert "starling " + command in text.split("usage:")[1]


@pytest.mark.parametrize("command", starling.COMMANDS)
def test_page_of_commands_has_the_verbs_that_help_shows(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = help_text([command], capsys)

    shown = set(re.findall(r"^    ([a-z-]+)(?: |$)", text, re.MULTILINE))
    page = (ROOT / "docs" / "commands.md").read_text()
    heading = rf"^### `starling {command} ([a-z-]+)`$"
    assert set(re.findall(heading, page, re.MULTILINE)) == shown


def test_readme_stays_short_and_its_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)]+)\)|src=\"([^\"]+)\"", README)

    missing = [a or b for a, b in links if not (ROOT / (a or b)).exists()]
    assert missing == []
    assert len(README.splitlines()) <= 170

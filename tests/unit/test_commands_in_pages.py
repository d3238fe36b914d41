"""Every command that a page writes is one that the program takes.

None is run: `starling` has its words parsed by its own parsers, `make` its targets and
`python -m` its module looked up. A placeholder in capitals, or what a shell would put
in, passes where a number is wanted. A code span may leave out arguments that are
required, but has no verb and no flag that the parser lacks; so with what the source
says in messages, help and docstrings.
"""

import argparse
import ast
import importlib
import importlib.util
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from starling.__main__ import COMMANDS
from starling.compiler.bundle import bundle_inspection
from starling.fleet.faults.board_faults import board_faults
from starling.fleet.faults.broker_faults import broker_faults
from starling.fleet.faults.fault_timeline import timeline
from starling.protocol.errors import ConfigError
from starling.service.completion import SHELLS
from tests.unit.test_language import sources
from tests.unit.written_commands import (
    PAGES,
    ROOT,
    WrittenCommand,
    written_commands,
)

STARLING = re.compile(r"(?:\S*/)?starling")
PYTHON = re.compile(r"(?:\S*/)?python3?")
NAMED = re.compile(
    rf"\bstarling ((?:{'|'.join(COMMANDS)})(?: [a-z-]+| --[a-z-]+| [A-Z]+)*)"
)
PLACEHOLDER = re.compile(r"[A-Z][A-Z_]*|.*\$.*", re.DOTALL)
VERSION_FLAGS = {"-V", "--version", "-h", "--help"}
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
TARGETS = frozenset(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))


def children(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Parsers of the verbs; none where the parser has no verbs."""
    return {
        verb: child
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
        for verb, child in action.choices.items()
    }


def passes_placeholders(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda text: text if PLACEHOLDER.fullmatch(text) else parse(text)


def with_placeholders(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    for action in parser._actions:
        if callable(action.type):
            action.type = passes_placeholders(action.type)
    for child in children(parser).values():
        with_placeholders(child)
    return parser


@cache
def parser_of(command: str) -> argparse.ArgumentParser:
    module = importlib.import_module(COMMANDS[command][0])
    return with_placeholders(module.parser())


def of_program(words: Sequence[str]) -> tuple[str, ...] | None:
    """Words after `starling`, however it is started; None of another program."""
    if words and STARLING.fullmatch(words[0]):
        return tuple(words[1:])
    if (
        len(words) > 1
        and PYTHON.fullmatch(words[0])
        and words[1:3] == ("-m", "starling")
    ):
        return tuple(words[3:])
    return None


def unknown_name(parser: argparse.ArgumentParser, words: Sequence[str]) -> str | None:
    """The first verb or whole flag among the words that the parser does not have."""
    left = list(words)
    while left and (verbs := children(parser)):
        if left[0].startswith("-") or PLACEHOLDER.fullmatch(left[0]):
            break
        if left[0] not in verbs:
            return f"no verb {left[0]!r}"
        parser = verbs[left.pop(0)]
    for word in left:
        flag = word.partition("=")[0]
        if flag.startswith("--") and flag not in parser._option_string_actions:
            return f"no flag {flag!r}"
    return None


def parse_error(
    parser: argparse.ArgumentParser,
    words: Sequence[str],
    capsys: pytest.CaptureFixture[str],
) -> str | None:
    try:
        options = parser.parse_args(words)
    except SystemExit as end:
        said = capsys.readouterr().err.strip().splitlines()
        return said[-1] if end.code else None
    try:
        check_faults(options)
    except ConfigError as error:
        return str(error)
    return None


def check_faults(options: argparse.Namespace) -> None:
    """Reads the fault timeline, which the parser takes as texts."""
    if fault := "; ".join(getattr(options, "fault", ())):
        timeline(fault, options.coordinators)
        broker_faults(fault, options.brokers)
        board_faults(fault, options.devices or 10)


def starling_error(
    words: Sequence[str], *, is_whole: bool, capsys: pytest.CaptureFixture[str]
) -> str | None:
    if not words or words[0] in VERSION_FLAGS or PLACEHOLDER.fullmatch(words[0]):
        return None
    if words[0] == "completion":
        return None if set(words[1:]) <= set(SHELLS) else "no such shell"
    if words[0] not in COMMANDS:
        return f"no command {words[0]!r}"
    parser, rest = parser_of(words[0]), list(words[1:])
    if words[:2] == ("compile", "inspect"):
        parser, rest = bundle_inspection._parser(), rest[1:]
    if error := unknown_name(parser, rest):
        return error
    return parse_error(parser, rest, capsys) if is_whole else None


def module_error(module: str, words: Sequence[str]) -> str | None:
    """Ours must have a file, and each flag stand in one of its package's files."""
    package = ROOT / module.split(".")[0]
    if not package.is_dir():
        return None if importlib.util.find_spec(module) else f"no module {module!r}"
    path = ROOT.joinpath(*module.split("."))
    if not (path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()):
        return f"no module {module!r}"
    text = "".join(source.read_text("utf-8") for source in package.rglob("*.py"))
    unknown = [word for word in words if word.startswith("--") and word not in text]
    return f"no flag {unknown[0]!r}" if unknown else None


def make_error(words: Sequence[str]) -> str | None:
    if "-C" in words:  # Another folder's Makefile.
        return None
    for word in words:
        name, sets, _ = word.partition("=")
        if sets and f"$({name})" not in MAKEFILE and f"${name}" not in MAKEFILE:
            return f"no variable {name!r}"
        if not sets and name not in TARGETS:
            return f"no target {name!r}"
    return None


def error_of(command: WrittenCommand, capsys: pytest.CaptureFixture[str]) -> str | None:
    words = command.words
    if (of_starling := of_program(words)) is not None:
        return starling_error(of_starling, is_whole=command.is_whole, capsys=capsys)
    if len(words) > 2 and PYTHON.fullmatch(words[0]) and words[1] == "-m":
        named = words[2].rpartition(".")[2]
        return None if PLACEHOLDER.fullmatch(named) else module_error(words[2], words)
    if words and words[0] == "make":
        return make_error(words[1:])
    return None


def complaints(
    commands: Iterator[WrittenCommand], capsys: pytest.CaptureFixture[str]
) -> list[str]:
    return [
        f"{command.place}: {' '.join(command.words)}: {error}"
        for command in commands
        if (error := error_of(command, capsys))
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_has_only_commands_that_the_program_takes(
    page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = written_commands(page.read_text("utf-8"), str(page.relative_to(ROOT)))

    assert complaints(written, capsys) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_in_help_are_taken(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parsers = [parser_of(command), *children(parser_of(command)).values()]
    lines = "\n".join(parser.epilog or "" for parser in parsers).replace(
        "\n  ", "\n    "
    )

    written = list(written_commands(lines, f"starling {command} --help"))

    assert written
    assert complaints(iter(written), capsys) == []


def named_in_source() -> Iterator[WrittenCommand]:
    """Commands in the strings of the source, as far as one line has them."""
    for path, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                for line in node.value.splitlines():
                    for found in NAMED.findall(line):
                        words = ("starling", *found.split())
                        place = f"{path}:{node.lineno}"
                        yield WrittenCommand(place, words, is_whole=False)


def test_messages_and_docstrings_name_verbs_and_flags_that_exist(
    capsys: pytest.CaptureFixture[str],
) -> None:
    named = list(named_in_source())

    assert len(named) > 100
    assert complaints(iter(named), capsys) == []


WRONG = {
    "unknown verb": "    starling agent begin --home board",
    "unknown flag": "    sudo -u starling starling agent run --hme board",
    "shortened flag": "    starling agent run --verb",
    "required argument missing": "    starling coordinator publish --bundle bundle",
    "no number": "    starling coordinator resume --height high | cat",
    "nested": "    starling broker expel $(starling coordinator idd) 2> log &",
    "after a backslash": "    python -m starling agent run \\\n        --hme board",
    "in an option": "    starling top --home coordinator [--once | --twice]",
    "fault": "    starling fleet run --fault 'kill coordinator 9 at 2s'",
    "span": "Of `starling agent\nrun --hme board`.",
    "target": "    make tea",
    "variable": "    make example COLOUR=red",
    "module": "    python -m benchmarks.tea",
    "flag of a module": "Of `python -m benchmarks.codecs [--no-such-flag N]`.",
}


@pytest.mark.parametrize("page", WRONG.values(), ids=WRONG)
def test_wrong_command_is_told_with_its_place(
    page: str, capsys: pytest.CaptureFixture[str]
) -> None:
    [complaint] = complaints(written_commands(f"# Page\n\n{page}\n", "p.md"), capsys)

    assert complaint.startswith("p.md:3: ")


RIGHT = {
    "placeholder for a number": "    starling coordinator resume --height H",
    "in a loop": "    for b in 1 2; do starling agent run --home b-$b 2> log & done",
    "in a container": "    docker compose exec device starling agent status",
    "span without what is required": "Of `starling coordinator publish`.",
}


@pytest.mark.parametrize("page", RIGHT.values(), ids=RIGHT)
def test_right_command_passes(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert complaints(written_commands(page, "p.md"), capsys) == []

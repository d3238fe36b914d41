"""Writes the manual pages of all commands from their parsers, as roff.

`make man` puts them into build/man, and the Debian package has those that a board
needs. One page holds a command with all its verbs, as `--help` tells them.

Source: man(7), and groff_char(7) for what has to be escaped.
"""

import argparse
import importlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from starling import __version__
from starling.__main__ import COMMANDS


def escaped(text: str) -> str:
    """A text as roff takes it to mean itself."""
    shown = text.replace("\\", "\\e").replace("-", "\\-")
    # A line that begins so would be a request.
    return "\n".join(
        f"\\&{line}" if line.startswith((".", "'")) else line
        for line in shown.splitlines()
    )


def page(command: str) -> str:
    """The page of one command."""
    module, text = COMMANDS[command]
    parser = importlib.import_module(module).parser()
    name = f"starling-{command}"
    lines = [
        *_head(name, text),
        ".SH SYNOPSIS",
        *_synopsis(parser),
        ".SH DESCRIPTION",
        escaped(_sentence(parser.description or text)),
        *_options(parser),
    ]
    for verb, meaning, child in _verbs(parser):
        lines += _verb(verb, meaning, child)
    lines += _examples(parser)
    lines += [".SH EXIT STATUS", "0 done, 1 failed, 2 usage, 78 configuration."]
    lines += [".SH SEE ALSO", "\\fBstarling\\fR(1)"]
    return "\n".join(lines) + "\n"


def overview() -> str:
    """The page of `starling` itself."""
    rows = [
        line
        for command, (_, text) in COMMANDS.items()
        for line in (".TP", f"\\fBstarling\\-{escaped(command)}\\fR(1)", escaped(text))
    ]
    text = "boards train one model together, and their data stay on them"
    lines = [
        *_head("starling", text),
        ".SH SYNOPSIS",
        "\\fBstarling\\fR \\fICOMMAND\\fR ...",
        ".SH COMMANDS",
        *rows,
        ".SH OPTIONS",
        ".TP",
        "\\fB\\-\\-version\\fR",
        "print the versions of release, wire and chain",
    ]
    return "\n".join(lines) + "\n"


def write(folder: Path, commands: Sequence[str]) -> list[Path]:
    """Writes pages into a folder.

    Args:
      folder: Is made if it is missing.
      commands: Of these, and of `starling` itself.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pages = {"starling": overview()}
    pages |= {f"starling-{command}": page(command) for command in commands}
    written = []
    for name, text in pages.items():
        written.append(folder / f"{name}.1")
        written[-1].write_text(text, "utf-8")
    return written


def _head(name: str, text: str) -> list[str]:
    title = f'.TH {name.upper()} 1 "" "starling {__version__}" "Starling"'
    return [title, ".SH NAME", f"{escaped(name)} \\- {escaped(text)}"]


def _synopsis(parser: argparse.ArgumentParser) -> list[str]:
    usage = " ".join(parser.format_usage().removeprefix("usage: ").split())
    return [f"\\fB{escaped(usage)}\\fR"]


def _verb(name: str, meaning: str, parser: argparse.ArgumentParser) -> list[str]:
    lines = [f".SH {escaped(name).upper()}", *_synopsis(parser), ".PP"]
    lines.append(escaped(_sentence(parser.description or meaning)))
    lines += _options(parser)
    for verb, text, child in _verbs(parser):
        lines += [f".SS {escaped(verb)}", *_synopsis(child), ".PP"]
        lines += [escaped(_sentence(child.description or text)), *_options(child)]
    return [*lines, *_examples(parser)]


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        skipped = argparse._SubParsersAction, argparse._HelpAction
        hidden = action.help == argparse.SUPPRESS or not action.help
        if hidden or isinstance(action, skipped):
            continue
        metavar = action.metavar
        if metavar is None and action.choices:
            metavar = "|".join(map(str, action.choices))
        elif metavar is None:
            metavar = action.dest.upper() if action.option_strings else action.dest
        value = " ".join(metavar) if isinstance(metavar, tuple) else metavar
        names = [f"\\fB{escaped(name)}\\fR" for name in action.option_strings]
        shown = f"\\fI{escaped(str(value))}\\fR" if value and action.nargs != 0 else ""
        yield ".TP"
        yield " ".join(filter(None, [", ".join(names), shown]))
        values = {**vars(action), "prog": parser.prog}
        yield escaped(str(action.help) % values)


def _verbs(
    parser: argparse.ArgumentParser,
) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for choice in action._choices_actions:
                yield choice.dest, choice.help or "", action.choices[choice.dest]


def _examples(parser: argparse.ArgumentParser) -> list[str]:
    """The examples of a parser's epilogue, as they stand there."""
    _, found, rest = (parser.epilog or "").partition("examples:\n")
    text = rest.partition("\n\n")[0].rstrip("\n")
    if not found:
        return []
    return [".SS Examples", ".nf", *(escaped(line) for line in text.split("\n")), ".fi"]


def _sentence(text: str) -> str:
    shown = text.strip()
    return shown if shown.endswith(".") else f"{shown[:1].upper()}{shown[1:]}."


def main() -> int:
    """Writes the pages of all commands and prints their paths."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/man"))
    parser.add_argument(
        "--command",
        choices=sorted(COMMANDS),
        action="append",
        help="of this one alone; may be repeated (default: of all)",
    )
    options = parser.parse_args()
    for path in write(options.out, options.command or list(COMMANDS)):
        sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

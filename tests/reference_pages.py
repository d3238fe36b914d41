"""Pages of docs/ that are written from tables of the source.

`python -m tests.reference_pages` writes them; a test compares them with the tables.
"""

import argparse
import dataclasses
import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_type_hints

from starling.__main__ import COMMANDS
from starling.agent.config import AgentConfig
from starling.board_profiles.board_profile import Profile
from starling.coordinator.config import CoordinatorConfig
from starling.coordinator.task_file.task_settings import TaskSettings
from starling.protocol.refusals import REFUSALS
from starling.protocol.schema.toml_settings import toml_value

DOCS = Path(__file__).parents[1] / "docs"
FILES = (
    (
        "agent.toml",
        AgentConfig,
        "In a board's home; `starling agent init` writes it. See [agent.md](agent.md).",
    ),
    (
        "coordinator.toml",
        CoordinatorConfig,
        "In a coordinator's home; `starling coordinator init` writes it. See "
        "[coordinator.md](coordinator.md).",
    ),
    (
        "task.toml",
        TaskSettings,
        "Given to `starling coordinator publish`; `starling coordinator task-template` "
        "prints one. Real numbers become integers when the task is published.",
    ),
    (
        "A board's profile",
        Profile,
        "One file for each board in `board_profiles/`; agents choose theirs by "
        "`training.board`.",
    ),
)


def settings_rows(cls: type[Any], prefix: str = "") -> Iterator[str]:
    """Rows of a settings class, nested tables after its own keys."""
    kinds = get_type_hints(cls)
    entries = dataclasses.fields(cls)
    nested = [entry for entry in entries if dataclasses.is_dataclass(kinds[entry.name])]
    for entry in (entry for entry in entries if entry not in nested):
        meaning = entry.metadata["starling"]
        required = entry.default is dataclasses.MISSING
        default = "required" if required else f"`{toml_value(entry.default)}`"
        bounds = meaning.bounds().replace("|", "\\|")
        yield f"| `{prefix}{entry.name}` | {default} | {bounds} | {meaning.doc} |"
    for entry in nested:
        kind = kinds[entry.name]
        assert isinstance(kind, type)
        yield from settings_rows(kind, f"{prefix}{entry.name}.")


def settings_page() -> str:
    """Every key of every configuration file."""
    parts = [
        "# Settings\n\nUnknown keys, wrong kinds and values out of bounds are refused "
        "with file, key and bound, exit status 78.\nAbsent keys take their defaults.\n"
    ]
    for title, cls, text in FILES:
        rows = "\n".join(settings_rows(cls))
        head = "| key | default | bounds | meaning |\n|---|---|---|---|"
        parts.append(f"## {title}\n\n{text}\n\n{head}\n{rows}\n")
    return "\n".join(parts)


def refusals_page() -> str:
    """Every reason for a refusal, with its remedy."""
    rows = "\n".join(
        f"| {row.reason.value} | {row.reason.name} | {row.meaning} | {row.remedy} | "
        f"{f'{row.retry_after_s} s' if row.retry_after_s else ''} |"
        for row in REFUSALS.values()
    )
    return (
        "# Refusals\n\nWhatever is refused is counted by its reason in `status`, and "
        "the log has the detail. A board whose\nsigned message is refused is told the "
        "reason, and after how many seconds to try again; with none\ngiven, the same "
        "message is refused for good.\n\n"
        "| number | reason | meaning | remedy | again after |\n|---|---|---|---|---|\n"
        f"{rows}\n"
    )


def verbs_of(parser: argparse.ArgumentParser) -> list[tuple[str, str]]:
    """The verbs of a command, each with its line of help."""
    return [
        (choice.dest, choice.help or "")
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
        for choice in action._choices_actions
    ]


def arguments_rows(parser: argparse.ArgumentParser) -> Iterator[str]:
    """One row for each argument of a verb."""
    for action in parser._actions:
        hidden = action.help == argparse.SUPPRESS or not action.help
        if hidden or isinstance(action, argparse._HelpAction):
            continue
        name = ", ".join(action.option_strings) or str(action.metavar or action.dest)
        value = "" if action.nargs == 0 else str(action.metavar or "")
        if action.choices:
            value = " or ".join(str(choice) for choice in action.choices)
        shown = " ".join([name, value]) if action.option_strings and value else name
        text = str(action.help) % {"default": action.default, "prog": parser.prog}
        yield f"| `{shown.strip()}` | {text} |".replace("%%", "%")


def command_parts(
    name: str, parser: argparse.ArgumentParser, text: str
) -> Iterator[str]:
    """The sections of a command and of its verbs."""
    rows = "\n".join(arguments_rows(parser))
    table = f"\n| argument | meaning |\n|---|---|\n{rows}\n" if rows else ""
    level = "##" if " " not in name else "###"
    yield f"{level} `starling {name}`\n\n{text[:1].upper()}{text[1:]}.\n{table}"
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for verb, meaning in verbs_of(parser):
                yield from command_parts(
                    f"{name} {verb}", action.choices[verb], meaning
                )


def commands_page() -> str:
    """Every command with its verbs and their arguments."""
    parts = [
        "# Commands\n\nEach has `--help` with examples. Exit status: 0 done, 1 failed, "
        "2 usage, 78 configuration.\n"
    ]
    for name, (module, text) in COMMANDS.items():
        parser = importlib.import_module(module).parser()
        parts += command_parts(name, parser, text)
    return "\n".join(parts)


PAGES: dict[str, Callable[[], str]] = {
    "commands.md": commands_page,
    "refusals.md": refusals_page,
    "settings.md": settings_page,
}
"""What makes each page, by its name in docs/."""


def main() -> None:
    """Write the pages."""
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()

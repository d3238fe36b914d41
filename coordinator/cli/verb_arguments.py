"""Parsers of an operator's verbs, and how what a verb did is printed."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.verb_types import Run
from starling.protocol.errors import EXIT_DONE
from starling.service.arguments import home_of

Command = Callable[[argparse.Namespace], int]
"""A verb that finds its home and prints by itself; returns the exit status."""
AddCommand = Callable[[str, Command, str], argparse.ArgumentParser]


def add_command(
    verbs: Any,  # noqa: ANN401 - argparse has no public type for them
    name: str,
    run: Command,
    text: str,
) -> argparse.ArgumentParser:
    """Adds a verb that prints by itself."""
    verb: argparse.ArgumentParser = verbs.add_parser(
        name, help=text, description=text.capitalize() + "."
    )
    verb.add_argument(
        "--home", type=Path, metavar="DIR", help="the coordinator's folder"
    )
    verb.add_argument("--json", action="store_true", help="print one JSON document")
    verb.set_defaults(verb=run)
    return verb


def add_verb(
    verbs: Any,  # noqa: ANN401 - as in `add_command`
    name: str,
    run: Run,
    text: str,
) -> argparse.ArgumentParser:
    """Adds a verb of a home, whose result is printed as text or as JSON."""

    def verb(options: argparse.Namespace) -> int:
        return show(options, *run(home_in(options), options))

    return add_command(verbs, name, verb, text)


def home_in(options: argparse.Namespace) -> CoordinatorHome:
    """The home that the options name.

    Raises:
      ConfigError: If neither they nor the environment name one.
    """
    # Absolute: it is handed to processes and units that work in other folders.
    return CoordinatorHome(home_of(options).absolute())


def show(options: argparse.Namespace, document: dict[str, Any], text: str) -> int:
    """Prints a result, as the options want it.

    Returns:
      The exit status.
    """
    shown = json.dumps(document, indent=1) if options.json else text
    sys.stdout.write(shown + "\n")
    return EXIT_DONE

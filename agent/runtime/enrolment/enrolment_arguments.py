"""Arguments of the verbs that enrol a board: `init`, `enrol` and `install`."""

import argparse
import sys
from pathlib import Path
from typing import Any

from starling.service.arguments import waiting_s

CELLULAR = {"broker.keepalive_s": 600, "broker.retry_most_s": 600.0}
"""Settings for a link that is paid by the byte: at rest about 29 kB a day."""


def new_home(parser: argparse.ArgumentParser) -> None:
    """Adds what a new home is made with."""
    parser.add_argument(
        "--data", type=Path, help="folder of the data set, for a new agent.toml"
    )
    parser.add_argument(
        "--pledge",
        type=int,
        help="how many records the board says it has, for a new agent.toml",
    )
    parser.add_argument(
        "--tell-health",
        action="store_true",
        help="let coordinators see this board's checks, for a new agent.toml",
    )
    parser.add_argument(
        "--cellular",
        action="store_true",
        help="for a link that is paid by the byte: a ping each 10 minutes, and as long "
        "between tries to connect, for a new agent.toml",
    )


def token(
    parser: argparse.ArgumentParser,
    way: Any,  # noqa: ANN401 - argparse keeps the type of its groups private
) -> None:
    """Adds `--token` to a group, and how long to wait."""
    way.add_argument(
        "--token",
        metavar="LINE",
        help="enrol at the broker that it names, and make the home if there is none; "
        "- reads it from standard input",
    )
    parser.add_argument(
        "--wait",
        type=waiting_s,
        default=900.0,
        metavar="SECONDS",
        help="for an operator to accept the code, at most (default 900)",
    )


def first_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Settings of a new `agent.toml`, by dotted key."""
    settings: dict[str, Any] = {}
    if arguments.data:
        settings["data.path"] = str(arguments.data.absolute())
    if arguments.pledge is not None:
        settings["data.pledge"] = arguments.pledge
    if arguments.tell_health:
        settings["privacy.tell_health"] = True
    if arguments.cellular:
        settings |= CELLULAR
    return settings


def show_code(code: str) -> None:
    """Shows a code for people to compare."""
    # Standard output is for the result alone, which scripts read.
    sys.stderr.write(
        f"code {code}: compare it with `starling coordinator enrol list`\n"
    )
    sys.stderr.flush()

"""`starling top`: a running deployment in a terminal, as a fleet's run is shown."""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from starling.protocol.errors import EXIT_DONE, ConfigError, OperationError
from starling.service.arguments import command, home_of

_EVERY_S = 1.0
_EXAMPLES = """\
  starling top --home coordinator
  starling top --home coordinator --once
  starling top --home coordinator --task 1 --json

It reads what the coordinator of that home writes each second, and changes nothing.
Without a terminal it is shown once. STARLING_HOME is the folder without --home.
"""


def main(argv: list[str]) -> int:
    """Runs `starling top`.

    Returns:
      The exit status.

    Raises:
      ConfigError: If there is no such home.
      FederationError: If there is no status, or it is of another release.
    """
    options = parser().parse_args(argv)
    home = home_of(options).absolute()
    if not home.is_dir():
        raise ConfigError("there is no such folder", file=str(home))
    return _show(home, options)


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = command(
        "top",
        "A running deployment in a terminal, by its coordinator's status.",
        _EXAMPLES,
    )
    made.add_argument("--home", metavar="DIR", help="the coordinator's folder")
    made.add_argument("--task", type=int, help="its number (default: the newest)")
    made.add_argument("--once", action="store_true", help="show it once, and end")
    made.add_argument("--json", action="store_true", help="print JSON, and end")
    return made


def _show(home: Path, options: argparse.Namespace) -> int:
    # Imported late, so that --help and usage errors are quick.
    from rich.console import Console
    from rich.live import Live

    from starling.fleet.runtime.deployment_reader import DeploymentReader
    from starling.fleet.runtime.terminal_screen import terminated_as_interrupted

    reader, console = DeploymentReader(home, options.task), Console(highlight=False)
    if options.json:
        sys.stdout.write(json.dumps(reader.document()) + "\n")
        return EXIT_DONE
    if options.once or not console.is_terminal:
        console.print(reader.picture())
        return EXIT_DONE
    picture: Any = reader.picture()
    try:
        with (
            terminated_as_interrupted(),
            Live(picture, console=console, auto_refresh=False, screen=True) as live,
        ):
            while True:
                live.update(reader.picture(), refresh=True)
                time.sleep(_EVERY_S)
    except KeyboardInterrupt:
        return EXIT_DONE
    except OperationError as error:
        raise OperationError(f"the view ends: {error}") from error

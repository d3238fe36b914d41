"""Arguments of all commands: a parser's head, a home, types with bounds."""

import argparse
import math
import os
from collections.abc import Callable
from pathlib import Path

from starling.protocol.errors import ConfigError

HOME_VARIABLE = "STARLING_HOME"
EXIT_STATUS = "0 done, 1 failed, 2 usage, 78 configuration"
WAIT_S_MAX = 366 * 86_400.0
PORT_MAX = 65_535


class _StrictParser(argparse.ArgumentParser):
    """A parser of which each verb refuses what it does not know, with its own usage.

    Left to argparse, a verb hands that up, and the usage shown is the one above it.
    """

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - as in argparse
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown


def command(
    name: str, description: str, examples: str, exit_status: str = EXIT_STATUS
) -> argparse.ArgumentParser:
    """A command's parser.

    Args:
      name: Of the command, without `starling`.
      description: A sentence.
      examples: Lines of them, and what else stands under the help.
      exit_status: Each status with its meaning.
    """
    return _StrictParser(
        prog=f"starling {name}",
        description=description,
        epilog=f"examples:\n{examples}\nexit status: {exit_status}\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def home_of(arguments: argparse.Namespace) -> Path:
    """The home of `--home`, else of the environment.

    Raises:
      ConfigError: If neither names one.
    """
    path = arguments.home or os.environ.get(HOME_VARIABLE)
    if not path:
        raise ConfigError(f"give --home DIR, or set {HOME_VARIABLE}", key="home")
    return Path(path)


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """An argument's type: a whole number within bounds, both of them included."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            # Refused below, in the same words as a number out of bounds.
            number = least - 1
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(
                f"{_shortened(text)} is no whole number in [{least}, {most}]"
            )
        return number

    return read


def waiting_s(text: str) -> float:
    """An argument's type: seconds to wait, a year at most; NaN would wait for ever.

    Raises:
      argparse.ArgumentTypeError: If it is no such number.
    """
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0.0 <= seconds <= WAIT_S_MAX:
        raise argparse.ArgumentTypeError(
            f"{_shortened(text)} is no number of seconds in [0, {WAIT_S_MAX:.0f}]"
        )
    return seconds


def _shortened(text: str) -> str:
    """A text as a message quotes it."""
    return repr(text if len(text) <= 40 else text[:40] + "...")

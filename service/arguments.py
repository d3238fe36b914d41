"""Types of command-line arguments with bounds, which a usage error names."""

import argparse
import math
from collections.abc import Callable

WAIT_S_MAX = 366 * 86_400.0
PORT_MAX = 65_535


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """An argument's type: a whole number within bounds, both of them included."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
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

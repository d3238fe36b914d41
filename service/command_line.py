"""Parts that command lines share: parsers with examples, and the folder of a home."""

import argparse
import os
from pathlib import Path
from typing import TypeAlias

from starling.protocol.errors import ConfigError

HOME_VARIABLE = "STARLING_HOME"
Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 - see below
"""What `add_subparsers` returns; argparse keeps the type's name private."""


def command_parser(
    prog: str, description: str, examples: str
) -> argparse.ArgumentParser:
    """A command's parser; its help ends with the examples as they stand."""
    return argparse.ArgumentParser(
        prog=prog,
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def home_folder(options: argparse.Namespace) -> Path:
    """The folder of `--home`, or else of the environment.

    Raises:
      ConfigError: If neither names one.
    """
    named = options.home or os.environ.get(HOME_VARIABLE)
    if not named:
        raise ConfigError(f"give --home DIR, or set {HOME_VARIABLE}", key="home")
    return Path(named)

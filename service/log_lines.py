"""The form of a log's lines: the journal's, JSON, or with date and time for everybody.

The journal notes the time by itself and takes a line's level from `<3>` to `<7>` before
it, as the kernel writes them.

Source: sd-daemon(3), and systemd.exec(5) on `JOURNAL_STREAM`; RFC 3339, section 5.6.
"""

import argparse
import json
import logging
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime

from starling.protocol.errors import ConfigError

TEXT, JSON = "text", "json"
VARIABLE = "STARLING_LOG_FORMAT"
"""Says the form to a process and those that it starts; text by default."""
LEVEL_VARIABLE = "STARLING_LOG_LEVEL"
"""Says the least severity to them, whatever their settings say."""
QUIET, VERBOSE = "warning", "debug"

_PREFIXES = (
    (logging.CRITICAL, "<2>"),
    (logging.ERROR, "<3>"),
    (logging.WARNING, "<4>"),
    (logging.INFO, "<6>"),
)
_DEBUG = "<7>"
_STDERR = 2
_PLAIN = "%(asctime)s.%(msecs)03d %(levelname)s %(name)s: %(message)s"
_DATE = "%Y-%m-%d %H:%M:%S"


class JournalFormatter(logging.Formatter):
    """Each line of a message with the level before it, and no time."""

    def __init__(self) -> None:
        super().__init__("%(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """The record as lines of the journal."""
        prefix = level_prefix(record.levelno)
        lines = super().format(record).splitlines() or [""]
        return "\n".join(prefix + line for line in lines)


class JsonFormatter(logging.Formatter):
    """A record as one JSON object on one line."""

    def __init__(self, *, journal: bool = False) -> None:
        """Chooses what stands before the object.

        Args:
          journal: Whether its level does, for the journal.
        """
        super().__init__()
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        """The object: `time` (UTC), `level`, `logger`, `message`, maybe `exception`."""
        at = datetime.fromtimestamp(record.created, UTC)
        document = {
            "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        prefix = level_prefix(record.levelno) if self._journal else ""
        return prefix + json.dumps(document)


def level_prefix(level: int) -> str:
    """Prefix of a line of that level of `logging`."""
    for least, prefix in _PREFIXES:
        if level >= least:
            return prefix
    return _DEBUG


def is_journal(descriptor: int, environment: Mapping[str, str]) -> bool:
    """True if an open file is the journal's stream, and not a file or pipe since then.

    Args:
      descriptor: Of the open file.
      environment: Has `JOURNAL_STREAM=DEVICE:INODE` under systemd.
    """
    stream = environment.get("JOURNAL_STREAM", "")
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    # The variable is inherited, too, by who has its standard error elsewhere.
    return stream == f"{status.st_dev}:{status.st_ino}"


def formatter(
    descriptor: int, environment: Mapping[str, str] | None = None
) -> logging.Formatter:
    """The form that fits where the log goes.

    Args:
      descriptor: Where it goes.
      environment: Of this process, by default.

    Raises:
      ConfigError: If the environment names a form that there is not.
    """
    given = os.environ if environment is None else environment
    form = given.get(VARIABLE, TEXT)
    if form not in (TEXT, JSON):
        raise ConfigError(f"{form!r} is neither {TEXT} nor {JSON}", key=VARIABLE)
    if form == JSON:
        return JsonFormatter(journal=is_journal(descriptor, given))
    if is_journal(descriptor, given):
        return JournalFormatter()
    return logging.Formatter(_PLAIN, _DATE)


def add_log_options(verb: argparse.ArgumentParser) -> None:
    """Adds `--log-format`, `--quiet` and `--verbose`."""
    add_verbosity(verb)
    verb.add_argument(
        "--log-format",
        choices=(TEXT, JSON),
        help=f"of the log's lines (default {TEXT}, or what {VARIABLE} says)",
    )


def use_log_options(options: argparse.Namespace) -> None:
    """Has this process, and those that it starts, log as the options say."""
    use_verbosity(options)
    if options.log_format is not None:
        os.environ[VARIABLE] = options.log_format


def add_verbosity(
    verb: argparse.ArgumentParser | argparse._ArgumentGroup,
    quiet: str = "log warnings and errors alone, whatever the settings say",
    verbose: str = "log what is of use to find a fault, too",
) -> None:
    """Adds `--quiet` and `--verbose`, of which one may be given."""
    either = verb.add_mutually_exclusive_group()
    either.add_argument("--quiet", action="store_true", help=quiet)
    either.add_argument("--verbose", action="store_true", help=verbose)


def use_verbosity(options: argparse.Namespace) -> None:
    """Has this process, and those that it starts, log as much as the options say."""
    if options.quiet or options.verbose:
        os.environ[LEVEL_VARIABLE] = QUIET if options.quiet else VERBOSE


def least_level(asked: str, environment: Mapping[str, str] | None = None) -> str:
    """The least severity that is logged, in capital letters.

    Args:
      asked: As in `agent.toml`.
      environment: Of this process, by default; goes before.

    Raises:
      ConfigError: If the environment names a level that there is not.
    """
    given = os.environ if environment is None else environment
    level = given.get(LEVEL_VARIABLE, asked).upper()
    if level not in logging.getLevelNamesMapping():
        raise ConfigError(f"{level.lower()!r} is no level of logs", key=LEVEL_VARIABLE)
    return level


def log_to_stderr(level: str) -> None:
    """Sends every log of this process to standard error.

    Args:
      level: The least severity, as in `agent.toml`.

    Raises:
      ConfigError: If the environment names a form or level that there is not.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(_STDERR))
    logging.basicConfig(level=least_level(level), handlers=[handler])

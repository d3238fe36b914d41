"""A coordinator as a process: its log, its signals, and its start from a snapshot."""

import logging
import signal
import sys

from coordinator.rim.home import CoordinatorHome
from coordinator.rim.runner import Runner
from coordinator.rim.surroundings import Surroundings


def run(home: CoordinatorHome, surroundings: Surroundings | None = None) -> int:
    """Runs a coordinator until SIGTERM or SIGINT.

    Args:
      home: Its folder.
      surroundings: What it runs in; the real world by default.

    Raises:
      ConfigError: Before anything starts.
      StorageError: If the disk refuses.
    """
    level = home.config().log.upper()
    logging.basicConfig(
        level=level, stream=sys.stderr, format="%(levelname)s %(message)s"
    )
    # The reader of a pipe may go; the log must not end us.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    anew, status = True, 0
    while anew:
        runner = Runner(home, surroundings or Surroundings())
        _stop_at_signals(runner)
        try:
            status = runner.run()
        finally:
            runner.close()
        anew = runner.anew
    return status


def _stop_at_signals(runner: Runner) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: runner.stop())

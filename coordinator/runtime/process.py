"""A coordinator as a process: its log, its signals, and its start from a snapshot."""

import logging
import signal
from contextlib import AbstractContextManager, ExitStack

from starling.coordinator.runtime.environment import CoordinatorEnvironment
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.process_loop import ProcessLoop
from starling.coordinator.runtime.setup.certificate_renewal import renew_certificate
from starling.durable.files import make_private, private_files
from starling.sandbox.syscalls import hide_memory
from starling.service.log_lines import log_to_stderr

log = logging.getLogger("starling.coordinator")


def run(
    home: CoordinatorHome,
    surroundings: CoordinatorEnvironment | None = None,
    beside: AbstractContextManager[None] | None = None,
) -> int:
    """Runs a coordinator until SIGTERM or SIGINT.

    Args:
      home: Its folder.
      surroundings: What it runs in; the real world by default.
      beside: What runs with it; entered once all settings are known to be right.

    Raises:
      ConfigError: Before anything starts.
      StorageError: If the disk refuses.
    """
    log_to_stderr(home.config().log)
    for key in home.ignored_settings():
        log.warning("%s is of a later release; ignored: %s", home.path, key)
    # The reader of a pipe may go; the log must not end us.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    with private_files():
        closed = make_private(home.path, leave=("keys",))
        # systemd gives its own folder back to the group before each start.
        if closed and closed != [home.path]:
            log.info("closed to others: %s (%d in all)", closed[0], len(closed))
        with ExitStack() as stack:
            return _run(home, surroundings or CoordinatorEnvironment(), stack, beside)


def _run(
    home: CoordinatorHome,
    surroundings: CoordinatorEnvironment,
    stack: ExitStack,
    beside: AbstractContextManager[None] | None,
) -> int:
    restarts, status = True, 0
    while restarts:
        renew_certificate(home, surroundings.clock.now_ms() / 1000)
        # Anew from the files: a snapshot that was adopted is a start like any other.
        runner = ProcessLoop(home, surroundings)
        _stop_at_signals(runner)
        # The keys are in memory by now.
        hide_memory()
        try:
            if beside is not None:
                stack.enter_context(beside)
                # Once for the process: it outlives a start from a snapshot.
                beside = None
            status = runner.run()
        finally:
            runner.close()
        restarts = runner.restarts
    return status


def _stop_at_signals(runner: ProcessLoop) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: runner.stop())

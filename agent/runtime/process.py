"""The agent's process: its home locked, put together, and run until it is stopped."""

import logging
import queue
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from starling.agent.runtime.assembly import assemble
from starling.agent.runtime.process_loop import AgentProcessLoop, QueuedItem
from starling.agent.runtime.status_file import utc_text
from starling.agent.runtime.storage.agent_home import AgentHome
from starling.agent.trainer.client import COMMAND
from starling.durable.files import private_files, replace_unsynced
from starling.durable.locks import lock
from starling.protocol.errors import FederationError, StorageError
from starling.sandbox.syscalls import hide_memory
from starling.service.log_lines import log_to_stderr
from starling.service.notifications import ServiceNotifier

log = logging.getLogger("agent")


def run(home: AgentHome, trainer: Sequence[str] = COMMAND) -> int:
    """Runs the agent in a home.

    Args:
      home: Its home.
      trainer: What is started to train; see `agent.trainer.client`.

    Returns:
      The exit status.

    Raises:
      ConfigError, StorageError: As `assemble` and the event loop do.
    """
    notifier = ServiceNotifier.from_environment()
    config = home.config()
    log_to_stderr(config.log.level)
    for key in home.ignored_settings():
        log.warning("%s is of a later release; ignored: %s", home.config_file, key)
    home.require_folders()
    # Locked before keys and counters are read: two agents of one home would sign with
    # the same counters.
    with private_files(), lock(home.state / "lock"), _remembering_the_end(home):
        while True:
            inbox: queue.SimpleQueue[QueuedItem] = queue.SimpleQueue()
            parts = assemble(home, config, inbox.put, time.monotonic(), trainer)
            hide_memory()
            following = AgentProcessLoop(parts, inbox, notifier).run()
            # Journals are locked while they are open, and the next round opens them
            # again.
            parts.store.close()
            if following is None:
                return 0
            # It goes on in this process: an exit would look like a fault, or like an
            # end that was asked for.
            following.write(home.task_file)


@contextmanager
def _remembering_the_end(home: AgentHome) -> Iterator[None]:
    """Writes down what ends the process, for whoever looks at the status then."""
    with suppress(OSError):
        home.ended_file.unlink(missing_ok=True)
    try:
        yield
    except (FederationError, OSError, MemoryError) as error:
        text = f"{utc_text(time.time())} {str(error) or type(error).__name__}\n"
        with suppress(StorageError):
            replace_unsynced(home.ended_file, text.encode())
        raise

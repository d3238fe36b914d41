"""Tells people how a running agent is: log, status files and the service manager."""

import logging
import os
import time
from dataclasses import dataclass
from logging import DEBUG, WARNING
from pathlib import Path
from typing import Any

from starling.agent.loop.event_loop import AgentLoop
from starling.agent.runtime import machine_info
from starling.agent.runtime.board_metrics import write_textfile
from starling.agent.runtime.status_file import (
    RuntimeFacts,
    StatusPublisher,
    describe,
    runtime_folder,
)
from starling.agent.runtime.storage.agent_home import AgentHome
from starling.agent.step.effects import Effect
from starling.agent.step.events import Event
from starling.broker.link_events import LinkDisconnected
from starling.protocol.errors import StorageError, TransportError
from starling.service.notifications import ServiceNotifier
from starling.service.repeated_warnings import RepeatedWarnings

LOG = logging.getLogger("agent")
STATUS_S = 1.0
"""Between two changes of the status."""


@dataclass(frozen=True)
class AgentPlace:
    """Place of an agent, in words.

    Attributes:
      broker: Where the broker is.
      board: The board profile's name.
      claim: Where the data set says whose it is.
      textfile: Of the metrics; None for none.
    """

    broker: str
    board: str
    claim: str
    textfile: Path | None = None


class StatusMonitor:
    """See `agent.loop.ports.AgentMonitor`.

    Attributes:
      dirty: Whether something changed since the status was written.
      broker_said: Why there is no connection; empty if there is one.
      disk_said: Why the agent waits for the disk; empty if it does not.
    """

    def __init__(
        self, home: AgentHome, place: AgentPlace, notifier: ServiceNotifier
    ) -> None:
        """Has written nothing yet.

        Args:
          home: The agent's home.
          place: Where it runs.
          notifier: To the service manager.
        """
        self.dirty = True
        self.broker_said = "not yet connected"
        self.disk_said = ""
        self.place = place
        self._notifier = notifier
        self._publisher = StatusPublisher(home, runtime_folder(os.environ))
        self._told = RepeatedWarnings()
        self._told_metrics = RepeatedWarnings()
        self._written_s = 0.0

    @property
    def due_s(self) -> float:
        """Time of the next status."""
        return self._written_s + (
            STATUS_S if self.dirty else self._publisher.heartbeat_s
        )

    def connected(self) -> None:
        """See `AgentMonitor`."""
        self.broker_said = ""
        self._told.forget()
        LOG.info("connected to the broker at %s", self.place.broker)

    def disconnected(self, event: LinkDisconnected) -> None:
        """See `AgentMonitor`.

        Raises:
          TransportError: If nobody will connect again; another start does.
        """
        if event.retry_in_s is None:
            raise TransportError(event.reason)
        retry = f"; next attempt in {event.retry_in_s:.1f} s"
        self.broker_said = f"broker away: {self.place.broker}: {event.reason}"
        # A board without a battery for its clock starts in the past; TLS then calls
        # sound certificates invalid.
        if not machine_info.clock_is_plausible():
            self.broker_said += "; the clock was never set, so no certificate is valid"
        self.dirty = True
        # Without the time to the next attempt, which differs in each: one cause warns
        # once an hour, however often it is tried.
        is_new = self._told.is_new(self.broker_said, time.monotonic())
        LOG.log(WARNING if is_new else DEBUG, "%s%s", self.broker_said, retry)

    def stepped(self, event: Event, effects: tuple[Effect, ...]) -> None:
        """See `AgentMonitor`."""
        LOG.debug("%s -> %s", type(event).__name__, effects)
        # An event without effects changes little that people see, and each write wears
        # the card.
        self.dirty = self.dirty or bool(effects)

    def note(self, text: str, *, warns: bool) -> None:
        """See `AgentMonitor`."""
        LOG.log(WARNING if warns else logging.INFO, "%s", text)

    def write(self, loop: AgentLoop, around: RuntimeFacts) -> None:
        """Writes the status.

        Args:
          loop: The agent.
          around: What the core does not know.
        """
        now_s = time.monotonic()
        document: dict[str, Any] = describe(loop.settings, loop.state, around, now_s)
        self._publisher.write(document, changed=self.dirty)
        if self.place.textfile is not None:
            self._write_metrics(self.place.textfile, document)
        self._notifier.status(document["condition"])
        self._written_s = now_s
        self.dirty = False

    def _write_metrics(self, path: Path, document: dict[str, Any]) -> None:
        try:
            write_textfile(path, document, time.time())
        except StorageError as error:
            text = f"metrics.textfile: {error}; make its folder, or set another file"
            if self._told_metrics.is_new(text, time.monotonic()):
                LOG.warning("%s", text)
        else:
            self._told_metrics.forget()

"""The log and the status file of a running coordinator."""

import logging
import time

from starling.broker.link_events import LinkDisconnected
from starling.coordinator.health import chain_stall
from starling.coordinator.loop.event_loop import CoordinatorLoop
from starling.coordinator.loop.ports import Clock
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.status.host_health import HostHealth
from starling.coordinator.runtime.status.log_alarms import LogAlarms
from starling.coordinator.runtime.status.overload_report import OverloadLog, counts
from starling.coordinator.runtime.status.status_document import StatusFile
from starling.coordinator.step.effects import LogLine, RecordRefusal
from starling.protocol.errors import TransportError
from starling.service.repeated_warnings import RepeatedWarnings

log = logging.getLogger("starling.coordinator")

STATUS_EVERY_S = 1.0
STATUS_SHARE = 0.02
"""Of a core that writing the status may take; it grows with the fleet."""


class ProcessMonitor:
    """Logs, and writes `status.json`; see `coordinator.loop.ports.LoopMonitor`.

    Attributes:
      stopping: Whether the loop ends, so that a connection that ends is no failure.
      status_at_s: When the status is to be written next.
      brokers: A line for each broker beside our own.
    """

    def __init__(
        self, home: CoordinatorHome, broker: str, clock: Clock, status: StatusFile
    ) -> None:
        """Has seen nothing yet.

        Args:
          home: Whose disk is watched.
          broker: Where our own broker is, for people.
          clock: Of the loop.
          status: The file.
        """
        self.stopping = False
        self.status_at_s = 0.0
        self.brokers: list[str] = []
        self._broker = broker
        self._told = RepeatedWarnings()
        self._clock = clock
        self._status = status
        self._outside = HostHealth(home.state)
        self._alarm = LogAlarms(log)
        self._overload = OverloadLog()

    def answered(self, code: int) -> None:
        """See `LoopMonitor`."""
        self._outside.answered(code, self._clock.now_s())

    def connected(self) -> None:
        """See `LoopMonitor`."""
        self._outside.connected()
        self._told.forget()
        log.info("connected to the broker at %s", self._broker)

    def disconnected(self, event: LinkDisconnected) -> None:
        """See `LoopMonitor`."""
        # No further attempt comes though nobody ended it: the link itself failed.
        if event.retry_in_s is None and not self.stopping:
            raise TransportError(event.reason)
        self._outside.disconnected(event.reason)
        self._report_broker(event.reason, event.retry_in_s)

    def _report_broker(self, reason: str, retry_in_s: float | None) -> None:
        """Warns of each reason once an hour; the others show in detail only."""
        is_new = self._told.is_new(reason, self._clock.now_s())
        level = logging.WARNING if is_new else logging.DEBUG
        retry = "" if retry_in_s is None else f"; next attempt in {retry_in_s:.1f} s"
        log.log(level, "broker %s: %s%s", self._broker, reason, retry)

    def refused(self, effect: RecordRefusal, peer: str) -> None:
        """See `LoopMonitor`."""
        self._alarm.refused(effect, peer, self._clock.now_s())

    def log(self, line: LogLine) -> None:
        """See `LoopMonitor`."""
        log.log(level_of(line), "%s", line.text)

    def warn(self, text: str) -> None:
        """See `LoopMonitor`."""
        log.warning("%s", text)

    def versions_changed(self) -> None:
        """See `LoopMonitor`."""
        self._status.versions_changed()

    def write_status(self, loop: CoordinatorLoop, condition: str) -> None:
        """Writes the status, and logs what must not stay unseen.

        Args:
          loop: To show.
          condition: `running`, `stopped`, or what is wrong.
        """
        # Processor time: on a busy machine the clock would make it rare, and whoever
        # watches would see the past.
        used_s = time.thread_time()
        now_s, state = self._clock.now_s(), loop.state
        facts = self._outside.look(self.brokers)
        found = chain_stall.look(loop.settings, state, now_s, facts.troubles)
        self._alarm.warn(facts.warnings, now_s)
        self._alarm.stall(found, state.ledger.height, now_s)
        now_ms = self._clock.now_ms()
        self._status.write(state, condition, facts, found, now_s, now_ms)
        for line in self._overload.lines(counts(state, loop.tally), now_s):
            log.warning("%s", line)
        used_s = time.thread_time() - used_s
        # Of the time from now on writing takes no more than its share.
        wait_s = max(STATUS_EVERY_S, used_s / STATUS_SHARE)
        self.status_at_s = self._clock.now_s() + wait_s


def level_of(line: LogLine) -> int:
    """Level of the log for a line of the core."""
    if line.grave:
        return logging.ERROR
    return logging.WARNING if line.warns else logging.INFO

"""Health of the host: broker, access rights, disk."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from starling.broker.link_events import REFUSED_FROM

DISK_FREE_MIN_BYTES = 256 << 20
"""Below it there is a warning: a full disk ends the process."""
REFUSED_SHOWN_S = 10.0
"""A refusal is shown until the broker has taken all that was published for so long."""
_REASONS = {0x87: "not authorised", 0x97: "quota exceeded", 0x90: "topic name invalid"}


@dataclass(frozen=True)
class HostReport:
    """Health of the host now.

    Attributes:
      broker: What the connections are like, for people.
      connected: Whether our own broker has us.
      rights: What the broker refuses, for people; empty if nothing.
      disk_free_bytes: Room for the chain; None if that cannot be told.
    """

    broker: str
    connected: bool
    rights: str
    disk_free_bytes: int | None

    @property
    def disk(self) -> str:
        """Problem of the disk; empty without one."""
        free = self.disk_free_bytes
        if free is None or free >= DISK_FREE_MIN_BYTES:
            return ""
        return f"disk: {free / 1e6:.0f} MB free, below {DISK_FREE_MIN_BYTES / 1e6:.0f}"

    @property
    def warnings(self) -> tuple[str, ...]:
        """Problems that have no line in the log of their own."""
        return tuple(text for text in (self.rights, self.disk) if text)

    @property
    def troubles(self) -> tuple[str, ...]:
        """All that is wrong."""
        broker = () if self.connected else (f"broker: {self.broker}",)
        return (*broker, *self.warnings)


def disk_section(facts: HostReport) -> dict[str, int | str | None]:
    """Section of a status about the disk."""
    return {"free_bytes": facts.disk_free_bytes, "trouble": facts.disk}


class HostHealth:
    """Keeps what the link and the disk say."""

    def __init__(self, disk: Path) -> None:
        """Nothing is connected yet.

        Args:
          disk: A folder on the disk that must not become full.
        """
        self._disk = disk
        self._broker = "connecting"
        self._connected = False
        self._refused: tuple[int, float] | None = None

    def connected(self) -> None:
        """The broker has us."""
        self._broker, self._connected = "connected", True

    def disconnected(self, reason: str) -> None:
        """It has not."""
        self._broker, self._connected = f"disconnected: {reason}", False

    def answered(self, code: int, now_s: float) -> None:
        """The broker took or refused something that we published.

        Args:
          code: As in `broker.link_events.Delivered`.
          now_s: Monotonic clock.
        """
        if code >= REFUSED_FROM:
            self._refused = code, now_s
        # One taken message is no proof: rights differ from topic to topic.
        elif self._refused and now_s - self._refused[1] > REFUSED_SHOWN_S:
            self._refused = None

    def look(self, elsewhere: Sequence[str]) -> HostReport:
        """Observes the health of the host.

        Args:
          elsewhere: A line for each other broker.
        """
        brokers = "; ".join([self._broker, *elsewhere])
        return HostReport(brokers, self._connected, self._rights(), self._free())

    def _rights(self) -> str:
        if self._refused is None:
            return ""
        code = self._refused[0]
        what = _REASONS.get(code, "refused")
        return f"broker rights: it refuses what we publish, 0x{code:02x} {what}"

    def _free(self) -> int | None:
        try:
            return shutil.disk_usage(self._disk).free
        except OSError:
            return None

"""Counters of boards and messages; for people, so they are not synced."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from starling.coordinator.step.effects import RecordAcceptance, RecordRefusal
from starling.protocol.errors import Reason
from starling.protocol.ids import DeviceId, device_name

PEERS_MAX = 256
STRANGERS_MAX = 4096
ADMITTED_S = 60.0
"""From a board's first word on, within which its admission may still be on its way."""


@dataclass
class DeviceCounters:
    """Counters of one board since the coordinator was set up.

    Attributes:
      accepted: Updates that were taken.
      refused: What was not, by reason.
      bytes_up: That it sent.
      bytes_down: That it was sent.
    """

    accepted: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    bytes_up: int = 0
    bytes_down: int = 0


@dataclass
class CoordinatorCounters:
    """Everything that is counted.

    Attributes:
      devices: By board.
      refused: By reason, boards and everybody else.
      passing: By reason, what a fleet in health refuses too and is not in `refused`:
        requests for what is no longer offered, or not yet, and boards whose admission
        is on its way here.
      peers: By coordinator and reason.
      started_ms: Unix time of the start.
      clock: Monotonic, in seconds.
      ignored: Messages beyond a board's allowance, by its name, since the start.
      dropped: What found no room on its way out, by the lane's name.
    """

    started_ms: int
    clock: Callable[[], float]
    devices: dict[DeviceId, DeviceCounters] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    peers: dict[DeviceId, Counter[str]] = field(default_factory=dict)
    accepted: int = 0
    ignored: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    passing: Counter[str] = field(default_factory=Counter)
    _strangers: dict[DeviceId, float] = field(default_factory=dict)

    def device(self, device: DeviceId) -> DeviceCounters:
        """A board's counters."""
        return self.devices.setdefault(device, DeviceCounters())

    def totals(self) -> tuple[int, ...]:
        """Sums that tell whether anything was counted: each count only grows."""
        counts = self.devices.values()
        return (
            len(self.devices),
            self.accepted,
            self.refused.total(),
            self.ignored.total(),
            sum(count.bytes_up for count in counts),
            sum(count.bytes_down for count in counts),
        )

    def accept(self, effect: RecordAcceptance) -> None:
        """Counts an accepted update."""
        self.accepted += 1
        self.device(effect.device).accepted += 1

    def ignore(self, device: DeviceId) -> None:
        """Counts a message that was dropped unread."""
        self.ignored[device_name(device)] += 1

    def refuse(self, effect: RecordRefusal) -> None:
        """Counts a refusal, apart if it passes by itself."""
        name = Reason(effect.reason).name
        if self._passes(effect):
            self.passing[name] += 1
            return
        self.refused[name] += 1
        if effect.device is not None:
            self.device(effect.device).refused[name] += 1
        peer = effect.peer
        if peer is not None and (peer in self.peers or len(self.peers) < PEERS_MAX):
            self.peers.setdefault(peer, Counter())[name] += 1

    def _passes(self, effect: RecordRefusal) -> bool:
        if effect.device is None:
            return False
        if effect.reason == Reason.NOT_ENROLLED:
            known = effect.device in self._strangers
            if not known and len(self._strangers) >= STRANGERS_MAX:
                return False
            now_s = self.clock()
            return now_s < self._strangers.setdefault(effect.device, now_s) + ADMITTED_S
        return effect.reason == Reason.NOT_HERE

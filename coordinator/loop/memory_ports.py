"""Ports that keep everything in memory: for virtual fleets, and for tests."""

import math
from collections.abc import Sequence

from starling.broker.link_events import LinkDisconnected
from starling.coordinator.chain.node.node import JournalVote
from starling.coordinator.loop.ports import KeepBlob
from starling.coordinator.step.effects import LogLine, RecordRefusal, RemoveInboxFile


class MemoryVoteJournal:
    """Own votes; they last as long as the object."""

    def __init__(self) -> None:
        """Starts empty."""
        self._kept: list[tuple[int, bytes]] = []

    @property
    def entries(self) -> Sequence[bytes]:
        """See `VoteStore`."""
        return [payload for _, payload in self._kept]

    def append(self, votes: Sequence[JournalVote], height: int) -> None:
        """See `VoteStore`."""
        self._kept = [entry for entry in self._kept if entry[0] > height]
        self._kept += [(vote.height, vote.payload) for vote in votes]


class MemoryInbox:
    """A folder of commands; it outlives whoever looks into it.

    Attributes:
      files: What is still there, by name.
    """

    def __init__(self) -> None:
        """Starts empty."""
        self.files: dict[str, bytes] = {}
        self._seen: set[str] = set()

    def drop(self, name: str, content: bytes) -> None:
        """An operator puts a transaction into it."""
        self.files[name] = content

    def reopen(self) -> None:
        """Whoever looks into it starts again, and has seen nothing."""
        self._seen.clear()

    @property
    def due_s(self) -> float:
        """See `Inbox`."""
        return math.inf if self.files.keys() <= self._seen else -math.inf

    def fresh(self, keep: KeepBlob) -> Sequence[tuple[str, bytes]]:
        """See `Inbox`."""
        del keep
        names = sorted(self.files.keys() - self._seen)
        self._seen.update(names)
        return [(name, self.files[name]) for name in names]

    def settle(self, settled: RemoveInboxFile) -> None:
        """See `Inbox`; nobody asks what became of it."""
        self.files.pop(settled.name, None)
        self._seen.discard(settled.name)


class SilentMonitor:
    """Tells nobody anything; see `LoopMonitor`."""

    def answered(self, code: int) -> None:
        """See `LoopMonitor`."""

    def connected(self) -> None:
        """See `LoopMonitor`."""

    def disconnected(self, event: LinkDisconnected) -> None:
        """See `LoopMonitor`."""

    def refused(self, effect: RecordRefusal, peer: str) -> None:
        """See `LoopMonitor`."""

    def log(self, line: LogLine) -> None:
        """See `LoopMonitor`."""

    def warn(self, text: str) -> None:
        """See `LoopMonitor`."""

    def versions_changed(self) -> None:
        """See `LoopMonitor`."""

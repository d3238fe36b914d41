"""The journal of own votes: synced before anything that it holds is published."""

from collections.abc import Callable, Sequence
from pathlib import Path

from starling.coordinator.chain.chain_step import JournalVote
from starling.coordinator.chain.gossip_messages import JOURNAL_ENTRY
from starling.durable.journal import Journal
from starling.durable.journal_frames import DamagedJournal
from starling.protocol.errors import ProtocolError

VOTES_FILE = "votes.journal"
"""Name of the file in a coordinator's `state/`."""
SIZE_BYTES_MAX = 4 << 20
"""Of the journal before it is rewritten; a few thousand heights of a chain of one."""
_REMEDY = (
    "restore it from a backup, together with the chain beside it, or set it aside: "
    "starling coordinator recover"
)


class VoteJournal:
    """An open vote journal.

    Attributes:
      entries: What it held when it was opened; give it to `node.begin`.
    """

    def __init__(
        self,
        path: Path,
        size_bytes_max: int = SIZE_BYTES_MAX,
        on_first: Callable[[], None] | None = None,
    ) -> None:
        """Opens or begins the journal.

        Args:
          path: The file; its folder must exist.
          size_bytes_max: Beyond it, entries of durable heights are dropped.
          on_first: Called once, when the first votes since the opening are written.

        Raises:
          ConfigError: If another process has it open.
          DamagedJournal: If it is damaged.
          StorageError: If the disk refuses.
        """
        try:
            self._journal, payloads = Journal.open(path)
        except DamagedJournal as error:
            raise DamagedJournal(f"{error}; {_REMEDY}", error.offset) from error
        self._kept = [(_height(path, payload), payload) for payload in payloads]
        self.entries = tuple(payloads)
        self._size_bytes_max = size_bytes_max
        self._on_first = on_first

    def append(self, votes: Sequence[JournalVote], height: int) -> None:
        """Writes votes down with one sync; on return they are on the disk.

        Args:
          votes: In order.
          height: Of the last block that is durable; older entries may go.

        Raises:
          StorageError: If the disk refuses.
        """
        payloads = [vote.payload for vote in votes]
        # At a durable height nothing is voted for any more: no restart needs these.
        self._kept = [entry for entry in self._kept if entry[0] > height]
        self._kept += [(vote.height, vote.payload) for vote in votes]
        # One or the other, each with one sync: the new votes are among what is
        # rewritten.
        if self._journal.size_bytes > self._size_bytes_max:
            self._journal.rewrite(payload for _, payload in self._kept)
        else:
            self._journal.append_many(payloads)
        if self._on_first is not None:
            # Only now: had the sync failed, the loss would not be over.
            self._on_first()
            self._on_first = None

    def close(self) -> None:
        """Closes the file and gives its lock back."""
        self._journal.close()


def _height(path: Path, payload: bytes) -> int:
    try:
        return JOURNAL_ENTRY.unpack(payload).height
    except ProtocolError as error:
        raise DamagedJournal(
            f"{path}: an entry is no vote: {error}; {_REMEDY}", 0
        ) from error

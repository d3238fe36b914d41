"""Files of a founding in a coordinator's folder.

    founding/lock                 held by the command that founds
    founding/nonce                of our entry's commitment; secret until we consent
    founding/own                  our entry
    founding/roster               all entries and the genesis, once all are in
    founding/confirmations/<id>   our consent; at the founder, everybody's
    founding/record               all consents, once all agree

and at the founder alone:

    founding/terms.json           what it asked for
    founding/token                line for the others, a secret, until all agree
    founding/entries/<id>         entries of the others

Each file is replaced whole, and stands before anybody is told what it says. The genesis
itself is written last, so that nothing starts before all of them agreed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from starling.durable.files import (
    make_folder,
    read_configured,
    read_if_present,
    storage_errors,
    sync_folder,
    write_atomic,
)
from starling.durable.locks import FileLock, lock
from starling.protocol.chain.credit_policy import CreditPolicy
from starling.protocol.chain.founding_messages import (
    FOUNDING_CONFIRMATION,
    FOUNDING_ENTRY,
    FOUNDING_RECORD,
    FOUNDING_ROSTER,
    NONCE_BYTES,
    FoundingConfirmation,
    FoundingEntry,
    FoundingRecord,
    FoundingRoster,
)
from starling.protocol.chain.genesis import FaultModel
from starling.protocol.errors import ConfigError, ProtocolError
from starling.protocol.ids import device_id, device_name
from starling.protocol.schema.msgpack_codec import Codec
from starling.protocol.wire.enrolment_token import TOKEN_CHARS_MAX

_TERMS_BYTES_MAX = 1 << 16
_T = TypeVar("_T")


@dataclass(frozen=True)
class FoundingTerms:
    """Terms that the founder set.

    Attributes:
      parties: Number of coordinators, the founder included.
      fault_model: Of the chain.
      heartbeat_s: Longest time without a block.
      economy: Credits of the chain.
      broker: The founder's broker's folder.
    """

    parties: int
    fault_model: FaultModel
    heartbeat_s: int
    economy: CreditPolicy
    broker: str


def party_id(public: bytes) -> str:
    """A party's id, under which the broker and people know it."""
    return device_name(device_id(public))


class FoundingStore:
    """The folder of a founding.

    Attributes:
      path: The folder.
    """

    def __init__(self, path: Path) -> None:
        """Names a folder, which `begin` makes."""
        self.path = path
        self._entries = path / "entries"
        self._confirmations = path / "confirmations"

    def begin(self) -> FileLock:
        """Makes the folder and takes its lock.

        Raises:
          ConfigError: If another command founds here.
          StorageError: If the disk refuses.
        """
        folders = (self.path, self._entries, self._confirmations)
        for folder in (self.path.parent, *folders):
            make_folder(folder)
        return lock(self.path / "lock")

    def forget(self) -> None:
        """Removes all but the lock: the founding begins anew."""
        with storage_errors(self.path):
            # The roster first: without it nobody consented to anything.
            for name in ("roster", "token", "own", "nonce", "terms.json"):
                (self.path / name).unlink(missing_ok=True)
                sync_folder(self.path)
            for folder in (self._confirmations, self._entries):
                for file in folder.iterdir():
                    file.unlink()
                sync_folder(folder)

    def own(self) -> FoundingEntry | None:
        """Our entry."""
        return self._read("own", FOUNDING_ENTRY)

    def put_own(self, entry: FoundingEntry, nonce: bytes) -> None:
        """Writes our entry, and before it what it is committed to."""
        # An entry whose nonce is lost could never be consented to.
        write_atomic(self.path / "nonce", nonce)
        write_atomic(self.path / "own", FOUNDING_ENTRY.pack(entry))

    def nonce(self) -> bytes:
        """Nonce of our entry's commitment.

        Raises:
          ConfigError: If it is missing or damaged.
        """
        file = self.path / "nonce"
        content = read_configured(file, NONCE_BYTES)
        if content is None or len(content) != NONCE_BYTES:
            raise self._damaged(file)
        return content

    def roster(self) -> FoundingRoster | None:
        """All entries and the genesis."""
        return self._read("roster", FOUNDING_ROSTER)

    def put_roster(self, roster: FoundingRoster) -> None:
        """Writes it."""
        write_atomic(self.path / "roster", FOUNDING_ROSTER.pack(roster))

    def record(self) -> FoundingRecord | None:
        """All consents."""
        return self._read("record", FOUNDING_RECORD)

    def put_record(self, record: FoundingRecord) -> None:
        """Writes it, and removes the token: all are in."""
        write_atomic(self.path / "record", FOUNDING_RECORD.pack(record))
        with storage_errors(self.path):
            # Unsynced: one that comes back after a power cut is a line that nobody
            # needs.
            (self.path / "token").unlink(missing_ok=True)

    def entry(self, public: bytes) -> FoundingEntry | None:
        """Another party's entry."""
        return self._read(f"entries/{party_id(public)}", FOUNDING_ENTRY)

    def entries(self) -> list[FoundingEntry]:
        """Entries of the others, by id."""
        # Names with a dot first are files that a crash left half written.
        files = sorted(self._entries.glob("[!.]*"))
        found = [self._read(f"entries/{file.name}", FOUNDING_ENTRY) for file in files]
        return [entry for entry in found if entry is not None]

    def put_entry(self, entry: FoundingEntry) -> None:
        """Writes another party's entry, in place of an earlier one."""
        write_atomic(self._entries / party_id(entry.public), FOUNDING_ENTRY.pack(entry))

    def drop_entry(self, entry: FoundingEntry) -> None:
        """Removes another party's entry."""
        file = self._entries / party_id(entry.public)
        with storage_errors(file):
            file.unlink(missing_ok=True)
            sync_folder(self._entries)

    def confirmation(self, public: bytes, chain: bytes) -> FoundingConfirmation | None:
        """A party's consent to a chain."""
        found = self._read(f"confirmations/{party_id(public)}", FOUNDING_CONFIRMATION)
        # A power cut while all is forgotten may leave one to an earlier founding.
        return found if found is not None and found.chain == chain else None

    def put_confirmation(self, given: FoundingConfirmation) -> None:
        """Writes a party's consent."""
        file = self._confirmations / party_id(given.consent.party)
        write_atomic(file, FOUNDING_CONFIRMATION.pack(given))

    def terms(self) -> FoundingTerms | None:
        """The founder's terms; None where we are not the founder.

        Raises:
          ConfigError: If the file is damaged.
        """
        file = self.path / "terms.json"
        content = read_configured(file, _TERMS_BYTES_MAX)
        if content is None:
            return None
        try:
            return msgspec.json.decode(content, type=FoundingTerms)
        except (ValueError, RecursionError) as error:
            raise self._damaged(file) from error

    def put_terms(self, terms: FoundingTerms) -> None:
        """Writes the founder's terms."""
        write_atomic(self.path / "terms.json", msgspec.json.encode(terms) + b"\n")

    def token(self) -> str | None:
        """Line for the others."""
        content = read_configured(self.path / "token", TOKEN_CHARS_MAX)
        return None if content is None else content.decode("ascii", "replace").strip()

    def put_token(self, line: str) -> None:
        """Writes the line for the others."""
        write_atomic(self.path / "token", line.encode())

    def _read(self, name: str, codec: Codec[_T]) -> _T | None:
        file = self.path / name
        try:
            content = read_if_present(file, codec.bytes_max)
            return None if content is None else codec.unpack(content)
        except ProtocolError as error:
            raise self._damaged(file) from error

    def _damaged(self, file: Path) -> ConfigError:
        return ConfigError(
            f"damaged; if nobody runs yet, remove {self.path} and begin anew",
            file=str(file),
        )

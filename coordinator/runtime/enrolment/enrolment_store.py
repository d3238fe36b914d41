"""Tokens and claims of newcomers, in the broker's folder.

    enrolment/tokens/<id>.json             a token, without its secret
    enrolment/claims/<id>-<name>.json      a newcomer that proved it, and its state
    enrolment/claims/<id>-<name>.admission its admission, once it has one
    enrolment/decisions/<id>-<name>.accept an operator's word, until it is carried out
    enrolment/lock                         held by the coordinator that answers
    enrolment/refused.json                 how many messages were refused, and why

Each file is written by one side alone: tokens and decisions by commands, the rest by
the registrar. A claim is on disk before its newcomer hears of it, so that a token's
uses are counted across restarts.
"""

import base64
import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from starling.coordinator.enrolment.registrar import TokenRecord
from starling.durable.files import (
    make_folder,
    read_limited,
    storage_errors,
    sync_folder,
    write_atomic,
)
from starling.protocol.crypto.scram import ScramKeys
from starling.protocol.errors import ConfigError, OperationError
from starling.protocol.wire.enrolment_messages import (
    ADMISSION_BYTES_MAX,
    EnrolmentKind,
)
from starling.protocol.wire.enrolment_token import letters

KEPT_S = 30 * 86_400
"""After its expiry, for which a token and its claims are still shown."""
_BYTES_MAX = 1 << 16
_UNIX_S_MAX = 1 << 33
_ACCEPT, _REJECT = ".accept", ".reject"


class ClaimState(StrEnum):
    """State of a newcomer that proved its token."""

    PENDING = "pending"
    ACCEPTED = "accepted"
    ADMITTED = "admitted"
    REJECTED = "rejected"
    REFUSED = "refused"


@dataclass(frozen=True)
class StoredClaim:
    """A newcomer that proved its token.

    Attributes:
      token: The token's id, as in its line.
      kind: What it is.
      name: Its name at the broker.
      document: Its request or identity, as JSON.
      code: What it shows.
      transcript: SHA-256 of what it proved last, in hex.
      state: How far it is.
      detail: Why it was turned away; empty otherwise.
      made_s: Unix time of its first claim.
    """

    token: str
    kind: EnrolmentKind
    name: str
    document: str
    code: str
    transcript: str
    state: ClaimState
    detail: str
    made_s: int

    @property
    def stem(self) -> str:
        """Name of its files."""
        return f"{self.token}-{self.name}"


class EnrolmentStore:
    """The folder of tokens and claims.

    Attributes:
      path: The folder.
    """

    def __init__(self, broker: Path) -> None:
        """Names the folder in a broker's; `prepare` makes it."""
        self.path = broker / "enrolment"
        self._tokens = self.path / "tokens"
        self._claims = self.path / "claims"
        self._decisions = self.path / "decisions"

    def prepare(self) -> None:
        """Makes the folders.

        Raises:
          StorageError: If the disk refuses.
        """
        for folder in (self.path, self._tokens, self._claims, self._decisions):
            make_folder(folder)

    @property
    def lock_file(self) -> Path:
        """Held by the one registrar."""
        return self.path / "lock"

    def add_token(self, token: TokenRecord) -> None:
        """Keeps a new token."""
        self.prepare()
        document = {
            "format": 1,
            "kind": token.kind.name.lower(),
            "stored_key": token.keys.stored_key.hex(),
            "server_key": token.keys.server_key.hex(),
            "uses": token.uses,
            "expires_s": token.expires_s,
            "by_hand": token.by_hand,
        }
        self._write(self._tokens / f"{letters(token.identity)}.json", document)

    def tokens(self) -> dict[bytes, TokenRecord]:
        """All tokens, the expired ones too.

        Raises:
          ConfigError: If a file is damaged.
        """
        found = [_token(path) for path in sorted(self._tokens.glob("*.json"))]
        return {token.identity: token for token in found}

    def tokens_stamp(self) -> int:
        """Changes with each token that is added or removed."""
        try:
            # Of the folder: each file comes by a rename into it, and goes by a removal.
            return self._tokens.stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def remove_token(self, name: str) -> None:
        """Takes a token back: nobody enrols with it any more.

        Raises:
          OperationError: If there is none of that id.
        """
        path = self._tokens / f"{name}.json"
        # A name from a command line: no separator in it leads out of the folder.
        if not name.isalnum() or not path.exists():
            raise OperationError(f"no token {name}: starling enrol tokens")
        with storage_errors(path):
            path.unlink()
            sync_folder(self._tokens)

    def claims(self) -> list[StoredClaim]:
        """All newcomers, the first first.

        Raises:
          ConfigError: If a file is damaged.
        """
        found = [_claim(path) for path in self._claims.glob("*.json")]
        return sorted(found, key=lambda claim: (claim.made_s, claim.stem))

    def put_claim(self, claim: StoredClaim) -> None:
        """Writes a claim, new or changed."""
        document = {**asdict(claim), "kind": claim.kind.name.lower()}
        self._write(self._claims / f"{claim.stem}.json", document)

    def put_admission(self, claim: StoredClaim, admission: bytes) -> None:
        """Writes what an admitted newcomer is given."""
        write_atomic(self._claims / f"{claim.stem}.admission", admission)

    def admission(self, claim: StoredClaim) -> bytes:
        """Reads what an admitted newcomer is given."""
        return read_limited(
            self._claims / f"{claim.stem}.admission", ADMISSION_BYTES_MAX
        )

    def decide(self, code: str, *, accepts: bool) -> StoredClaim:
        """Writes an operator's decision for the registrar.

        Args:
          code: What the newcomer shows; small letters and no dash will do.
          accepts: Whether it is accepted.

        Raises:
          OperationError: If nobody who waits shows that code.
        """
        wanted = code.upper().replace("-", "")
        waiting = [each for each in self.claims() if each.state is ClaimState.PENDING]
        for claim in waiting:
            if claim.code.replace("-", "") == wanted:
                suffix = _ACCEPT if accepts else _REJECT
                # A file of its own, since the claim's belongs to the registrar.
                write_atomic(self._decisions / f"{claim.stem}{suffix}", b"")
                return claim
        shown = ", ".join(claim.code for claim in waiting) or "nobody waits"
        raise OperationError(f"nobody who waits shows {code}: {shown}")

    def reject(self, claim: StoredClaim) -> None:
        """Has the registrar turn away whoever is not admitted yet."""
        write_atomic(self._decisions / f"{claim.stem}{_REJECT}", b"")

    def decisions(self) -> dict[str, bool]:
        """Decisions of operators that the registrar did not carry out yet, by stem."""
        found = sorted(self._decisions.glob("*"))
        return {
            path.stem: path.suffix == _ACCEPT
            for path in found
            if path.suffix in {_ACCEPT, _REJECT}
        }

    def forget_decision(self, stem: str) -> None:
        """Removes a decision that was carried out."""
        for suffix in (_ACCEPT, _REJECT):
            path = self._decisions / f"{stem}{suffix}"
            with storage_errors(path):
                path.unlink(missing_ok=True)

    def forget_old(self, now_s: float) -> None:
        """Removes tokens that expired long ago, and all claims without a token."""
        for token in self.tokens().values():
            if now_s > token.expires_s + KEPT_S:
                self.remove_token(letters(token.identity))
        kept = {letters(identity) for identity in self.tokens()}
        for claim in self.claims():
            # As long as its token is there a claim counts as one of its uses.
            if claim.token in kept or now_s < claim.made_s + KEPT_S:
                continue
            for path in self._claims.glob(f"{claim.stem}.*"):
                with storage_errors(path):
                    path.unlink()

    def put_refused(self, counted: dict[str, int]) -> None:
        """Writes how many messages were refused, by reason."""
        self._write(self.path / "refused.json", counted)

    def refused(self) -> dict[str, int]:
        """Reads how many messages were refused, by reason.

        Raises:
          ConfigError: If the file is damaged.
        """
        path = self.path / "refused.json"
        return _read(path) if path.exists() else {}

    def _write(self, path: Path, document: object) -> None:
        write_atomic(path, (json.dumps(document, indent=1) + "\n").encode())


def _token(path: Path) -> TokenRecord:
    document = _read(path)
    try:
        name = path.stem.upper()
        return TokenRecord(
            base64.b32decode(name + "=" * (-len(name) % 8)),
            EnrolmentKind[document["kind"].upper()],
            ScramKeys(
                bytes.fromhex(document["stored_key"]),
                bytes.fromhex(document["server_key"]),
            ),
            int(document["uses"]),
            _unix_s(document["expires_s"]),
            bool(document["by_hand"]),
        )
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ConfigError("damaged; remove it", file=str(path)) from error


def _unix_s(value: object) -> int:
    if not isinstance(value, int) or not 0 <= value <= _UNIX_S_MAX:
        raise ValueError(f"{value} is no time")
    return value


def _claim(path: Path) -> StoredClaim:
    document = _read(path)
    try:
        document["kind"] = EnrolmentKind[document["kind"].upper()]
        document["state"] = ClaimState(document["state"])
        return StoredClaim(**document)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ConfigError("damaged; remove it", file=str(path)) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(read_limited(path, _BYTES_MAX))
    except ValueError as error:
        raise ConfigError("damaged; remove it", file=str(path)) from error
    if not isinstance(document, dict):
        raise ConfigError("damaged; remove it", file=str(path))
    return document

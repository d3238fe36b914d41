"""Vectors of used updates, as far as a home keeps them and can open them.

A coordinator opens them with its sealing key. An exported home has no keys; a file of
content keys lies there instead, one for each vector, and whoever has one checks it by
what the board signed.

    HOME/content_keys    for each update its id and its content key, 32 bytes each
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from starling.coordinator.chain.state import transaction_codec
from starling.coordinator.chain.state.task_records import JobMember
from starling.coordinator.chain.storage.chain_store import StoredUpload
from starling.coordinator.lineage.lineage_replay import MissingVector
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.coordinator.update.admission_checks import open_disclosed
from starling.durable.files import read_if_present, write_atomic
from starling.protocol.crypto.keys import OpeningKey
from starling.protocol.crypto.sealed_blob import SEALED, open_sealed
from starling.protocol.errors import ClosedUpdate, ConfigError
from starling.protocol.ids import DIGEST_BYTES, KEY_BYTES
from starling.protocol.learning.task import TaskSpec
from starling.protocol.learning.vector_codecs import Grid

CONTENT_KEYS_FILE = "content_keys"
_ROW_BYTES = DIGEST_BYTES + KEY_BYTES
_FILE_BYTES_MAX = 1 << 30


def content_key(upload: StoredUpload, key: OpeningKey) -> bytes | None:
    """The content key of a stored vector; None if it is not sealed to this key."""
    body = transaction_codec.contribution(upload.update.body)
    sealed = SEALED.unpack(upload.blob)
    try:
        found, _ = open_sealed(sealed, key, upload.update.sender, body.commitment)
    except ClosedUpdate:
        return None
    return found


def write_content_keys(path: Path, keys: Iterable[tuple[bytes, bytes]]) -> None:
    """Writes the file that opens the vectors beside it; pairs of an id and a key."""
    write_atomic(path, b"".join(identity + key for identity, key in keys))


def read_content_keys(path: Path) -> dict[bytes, bytes]:
    """Content keys by the ids of their updates; none if there is no file.

    Raises:
      ConfigError: If it is cut.
    """
    content = read_if_present(path, _FILE_BYTES_MAX) or b""
    if len(content) % _ROW_BYTES:
        raise ConfigError("its last row is cut; export it again", file=str(path))
    rows = [content[at : at + _ROW_BYTES] for at in range(0, len(content), _ROW_BYTES)]
    return {row[:DIGEST_BYTES]: row[DIGEST_BYTES:] for row in rows}


class VectorKeys:
    """Keys that open the vectors of a home."""

    def __init__(self, home: CoordinatorHome) -> None:
        """Reads its file of content keys, or without one its sealing key.

        Raises:
          ConfigError: If there is neither.
        """
        file = home.path / CONTENT_KEYS_FILE
        self._content_keys: Mapping[bytes, bytes] = read_content_keys(file)
        # An exported home has no keys at all.
        self._key = None if file.exists() else home.sealing_key()

    def of(self, upload: StoredUpload) -> bytes | None:
        """The content key of a vector; None if nothing here opens it."""
        found = self._content_keys.get(upload.transaction)
        if found is None and self._key is not None:
            return content_key(upload, self._key)
        return found


class KeptVectors:
    """Gives vectors of a home; see `lineage_replay.OpenVector`."""

    def __init__(self, keys: VectorKeys, store: SqliteStore, spec: TaskSpec) -> None:
        """Reads nothing yet.

        Args:
          keys: Of the home.
          store: Its open chain.
          spec: The task that the vectors belong to.
        """
        self._keys, self._store, self._spec = keys, store, spec

    def __call__(self, member: JobMember) -> Grid:
        """Opens one vector, and checks it against what its board signed."""
        upload = self._store.upload(member.transaction)
        shown = member.transaction.hex()[:16]
        chain_id = self._store.genesis.chain_id()
        # The id is a hash of the signed update: a row that was exchanged shows here.
        if upload is None or upload.update.identity(chain_id) != member.transaction:
            raise MissingVector(f"the vector of update {shown} is not kept")
        key = self._keys.of(upload)
        if key is None:
            raise MissingVector(f"the vector of update {shown} does not open here")
        body = transaction_codec.contribution(upload.update.body)
        sender = upload.update.sender
        return open_disclosed(sender, body, upload.blob, self._spec, key)

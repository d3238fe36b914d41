"""Bundles and models on disk, each in a file named by its digest."""

import hashlib
import json
from collections.abc import Set
from pathlib import Path

from starling.agent.step.effects import AdoptModel
from starling.durable.files import storage_errors, sync_folder, write_atomic
from starling.protocol.ids import DIGEST_BYTES, Digest

CURRENT = "current.json"
_DIGEST_CHARS = 2 * DIGEST_BYTES


class BlobStore:
    """A folder of blobs."""

    def __init__(self, folder: Path) -> None:
        """Uses an existing folder."""
        self._folder = folder

    def path(self, digest: Digest) -> Path:
        """Path of a blob, stored or not."""
        return self._folder / digest.hex()

    def sound(self) -> frozenset[Digest]:
        """Digests of the stored blobs that are intact; removes the rest."""
        kept = set()
        for digest in self._digests():
            with self.path(digest).open("rb") as file:
                found = hashlib.file_digest(
                    file, lambda: hashlib.blake2b(digest_size=DIGEST_BYTES)
                )
            # At each start: a card loses bits, and a model that is not what was proven
            # must not be trained on.
            if found.digest() == digest:
                kept.add(digest)
        self.keep(kept)
        return frozenset(kept)

    def _digests(self) -> frozenset[Digest]:
        names = [path.name for path in self._folder.iterdir()]
        return frozenset(
            Digest(bytes.fromhex(name)) for name in names if _is_digest(name)
        )

    def write(self, digest: Digest, content: bytes) -> None:
        """Keeps a blob; its content was compared with its digest.

        Raises:
          StorageError: If the disk refuses.
        """
        write_atomic(self.path(digest), content)

    def piece(self, digest: Digest, start: int, length: int) -> bytes:
        """At most `length` bytes of a stored blob, from `start` on.

        Raises:
          StorageError: If the disk refuses, or has no such blob.
        """
        with storage_errors(self._folder), self.path(digest).open("rb") as file:
            file.seek(start)
            return file.read(length)

    def keep(self, digests: Set[Digest]) -> None:
        """Removes all others."""
        with storage_errors(self._folder):
            for digest in self._digests() - digests:
                self.path(digest).unlink(missing_ok=True)
            sync_folder(self._folder)

    def adopt(self, model: AdoptModel) -> None:
        """Points `current.json` at the model to use, in one step."""
        document = {
            "version": model.version,
            "bundle": model.bundle.hex(),
            "parameters": model.inference.hex(),
        }
        text = json.dumps(document) + "\n"
        write_atomic(self._folder / CURRENT, text.encode())


def _is_digest(name: str) -> bool:
    try:
        return len(name) == _DIGEST_CHARS and bytes.fromhex(name).hex() == name
    except ValueError:
        return False

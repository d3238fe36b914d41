"""The proofs that a board's updates are final: what it gave, for anybody to check.

Files as `starling chain check-proof` reads them, one for each task and base version.
They are not synced: what a power cut takes can be had again from any chain.
"""

from pathlib import Path

from starling.durable.files import make_folder, storage_errors
from starling.protocol.ids import Version

PROOFS_MAX = 4096
"""About 0.8 KB each; beyond, those of the oldest base versions go."""
SUFFIX = ".proof"


class ProofFolder:
    """A folder of proofs, bounded in number."""

    def __init__(self, folder: Path) -> None:
        """Uses a folder; makes it if need be.

        Raises:
          StorageError: If the disk refuses.
        """
        self._folder = folder
        with storage_errors(folder):
            make_folder(folder)
            names = [path.name for path in folder.glob(f"*{SUFFIX}")]
        self._names = sorted(names, key=_age)

    def keep(self, task: int, base: Version, proof: bytes) -> None:
        """Keeps a packed `protocol.chain.light_client.FinalityProof`.

        Raises:
          StorageError: If the disk refuses.
        """
        path = self._folder / f"{task}-{base}{SUFFIX}"
        # Never half a file under a name that a recount takes for a witness.
        temporary = path.with_name(f".{path.name}.tmp")
        with storage_errors(path):
            temporary.write_bytes(proof)
            temporary.replace(path)
        if path.name not in self._names:
            self._names.append(path.name)
        while len(self._names) > PROOFS_MAX:
            oldest = self._folder / self._names.pop(0)
            with storage_errors(oldest):
                oldest.unlink(missing_ok=True)


def _age(name: str) -> tuple[int, str]:
    """Sorts by base version; a file of somebody else's comes first."""
    base = name.removesuffix(SUFFIX).rpartition("-")[2]
    return (int(base) if base.isdecimal() else -1, name)

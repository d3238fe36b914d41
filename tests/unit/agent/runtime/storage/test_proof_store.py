"""Proofs are kept, newest ones first, whatever else lies in their folder."""

from pathlib import Path

import pytest

from starling.agent.runtime.storage import proof_store
from starling.agent.runtime.storage.proof_store import ProofFolder
from starling.protocol.ids import Version


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_keep_writes_one_file_a_task_and_base(tmp_path: Path) -> None:
    folder = ProofFolder(tmp_path / "proofs")
    folder.keep(0, Version(7), b"first")
    folder.keep(0, Version(7), b"again")
    folder.keep(1, Version(7), b"other task")
    assert names(tmp_path / "proofs") == ["0-7.proof", "1-7.proof"]
    assert (tmp_path / "proofs" / "0-7.proof").read_bytes() == b"again"


def test_keep_beyond_the_limit_lets_the_oldest_go_also_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof_store, "PROOFS_MAX", 3)
    folder = ProofFolder(tmp_path)
    for base in (8, 9, 10):
        folder.keep(0, Version(base), b"x")
    ProofFolder(tmp_path).keep(0, Version(11), b"x")
    assert names(tmp_path) == ["0-10.proof", "0-11.proof", "0-9.proof"]

"""A data set names its ledger, and no other one is begun on it."""

import json
from pathlib import Path

import pytest

from starling.agent.privacy.ledger_entries import LedgerOwner, read_entry
from starling.agent.runtime.privacy_ledger import dataset_claim
from starling.agent.runtime.privacy_ledger.ledger_recount import recount
from starling.agent.runtime.storage.agent_home import AgentHome
from starling.protocol.errors import ConfigError, StorageError
from tests.unit.agent.runtime.privacy_ledger.paid_home import (
    RELEASES,
    begin,
    opened,
    payloads,
)


def test_ledger_has_an_id_that_the_data_set_names(home: AgentHome) -> None:
    first = read_entry(payloads(home)[0])
    claim = dataset_claim.read_claim(home.path / "data")

    assert isinstance(first, LedgerOwner)
    assert claim == dataset_claim.DataSetClaim(first.ledger.hex(), str(home.path))
    assert dataset_claim.claim_file(home.path / "data").stat().st_mode & 0o777 == 0o600
    assert opened(home).owner == first.ledger


def test_second_home_on_the_same_data_is_refused(
    home: AgentHome, tmp_path: Path
) -> None:
    other = begin(tmp_path / "other")

    with pytest.raises(ConfigError, match="--take-data"):
        opened(other, data=home.path / "data")
    assert payloads(other) == []


def test_copy_of_the_data_with_its_file_is_refused(
    home: AgentHome, tmp_path: Path
) -> None:
    other = begin(tmp_path / "other")
    claim = dataset_claim.claim_file(home.path / "data")
    dataset_claim.claim_file(other.path / "data").write_bytes(claim.read_bytes())

    with pytest.raises(ConfigError, match=f"ledger of {home.path}"):
        opened(other)


def test_claim_that_is_damaged_is_refused(home: AgentHome) -> None:
    dataset_claim.claim_file(home.path / "data").write_bytes(b"{}")

    with pytest.raises(ConfigError, match="is damaged"):
        opened(home)
    with pytest.raises(ConfigError, match="is damaged"):
        recount(home, home.path / "data")


def test_folder_that_cannot_be_written_to_is_remembered_in_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = begin(tmp_path / "home")

    def refuse(path: Path, content: bytes) -> None:
        if path.name == dataset_claim.FILE:
            error = OSError(30, "Read-only file system")
            raise StorageError("refused") from error
        path.write_bytes(content)

    monkeypatch.setattr(dataset_claim, "write_atomic", refuse)
    first = dataset_claim.take(home.path / "data", b"a" * 16, home.path)

    assert first is dataset_claim.ClaimLocation.AT_HOME
    kept = json.loads((home.state / dataset_claim.KEPT_FILE).read_text())
    assert kept["inode"] == (home.path / "data").stat().st_ino
    with pytest.raises(ConfigError, match="another ledger"):
        dataset_claim.take(home.path / "data", b"b" * 16, home.path)


def test_home_that_was_renamed_keeps_its_data_set(
    home: AgentHome, tmp_path: Path
) -> None:
    home.path.rename(tmp_path / "elsewhere")
    moved = AgentHome(tmp_path / "elsewhere")

    assert len(opened(moved).charges) == RELEASES
    claim = dataset_claim.read_claim(moved.path / "data")
    assert claim is not None
    assert claim.home == str(moved.path)

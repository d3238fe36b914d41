"""A coordinator's home: versions, what is kept of them, and who made them."""

import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from starling.__main__ import main
from starling.coordinator.chain.tasks import version_cut
from starling.coordinator.chain.verification.receipt import RECEIPT
from starling.coordinator.runtime.storage.sqlite_schema import CHAIN_FILE
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.export.runtime.coordinator_home import CoordinatorModels
from starling.export.runtime.model_source import chosen
from starling.fleet import FleetPlan, run_virtual
from starling.protocol.chain.light_client import version_key
from starling.protocol.errors import ConfigError, OperationError


@pytest.fixture
def thinned(coordinator: Path, tmp_path: Path) -> Path:
    """The home without the parameters of the best and of the newest version."""
    home = tmp_path / "thinned"
    shutil.copytree(coordinator, home)
    store = SqliteStore.open(home / "state" / CHAIN_FILE)
    best = max(store.versions(0), key=lambda row: row.accuracy or 0.0).version
    with store.transaction():
        for version in (best, 5):
            digests = store.model(0, version)
            assert digests is not None
            store.drop_blob(digests.inference)
    store.close()
    return home


def test_contributors_add_up_to_the_updates_of_the_versions(
    source: CoordinatorModels,
) -> None:
    row = source.rows(0)[-1]

    counts = source.contributors(row)

    made = sum(each.updates or 0 for each in source.rows(0))
    assert len(counts) == 4
    assert sum(counts.values()) >= made == 10
    assert source.contributors(source.rows(0)[0]) == {}


def test_every_version_is_proven(source: CoordinatorModels) -> None:
    thetas = {source.proven(row).theta.tobytes() for row in source.rows(0)}

    assert len(thetas) == 6


def test_best_that_is_not_kept_names_the_best_that_is(thinned: Path) -> None:
    source = CoordinatorModels(thinned)

    with pytest.raises(OperationError, match="is not kept; the best that is kept is"):
        chosen(source, 0, "best")
    with pytest.raises(OperationError, match="parameters of version 5 are not kept"):
        source.proven(chosen(source, 0, "5"))
    assert chosen(source, 0, None).kept
    assert chosen(source, 0, "latest").version == max(
        row.version for row in source.rows(0) if row.kept
    )
    source.close()


FORGETFUL = FleetPlan(
    devices=4,
    buffer=2,
    until_version=33,
    seed=1,
    # So large a step leaves the best behind.
    learning_rate=40.0,
    momentum=0.95,
    releases=60,
)


def test_best_is_proven_though_the_state_knows_it_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(version_cut, "DISSENT_VERSIONS", 2)
    assert run_virtual(FORGETFUL, threads=1, home=tmp_path / "home").outcome.verified
    home = tmp_path / "home" / "coordinator"
    source = CoordinatorModels(home)
    rows = source.rows(0)
    best = max(rows, key=lambda row: (row.accuracy or 0.0, -(row.loss or 0.0)))
    with closing(SqliteStore.read(home / "state" / CHAIN_FILE)) as store:
        assert store.get(version_key(0, best.version)) is None

    found = source.proven(chosen(source, 0, "best"))
    source.close()

    assert found.claim.row == best
    assert next(row for row in rows if row.kept) == best
    found.claim.version.check(source._genesis)
    out = tmp_path / "proof"
    named = f"0:{best.version}"
    words = ["prove", "--home", str(home), "--model", named, "--out", str(out)]
    assert main(["chain", *words]) == 0
    RECEIPT.unpack(out.read_bytes()).check(source._genesis)


def test_best_that_the_state_knows_no_more_is_not_kept(
    coordinator: Path, tmp_path: Path
) -> None:
    home = tmp_path / "long"
    shutil.copytree(coordinator, home)
    source = CoordinatorModels(home)
    best = chosen(source, 0, "best").version
    source.close()
    with closing(sqlite3.connect(home / "state" / CHAIN_FILE)) as file, file:
        file.execute("DELETE FROM state WHERE key = ?", (version_key(0, best),))
        file.execute("DELETE FROM facts WHERE name = 'proof of the best/0'")

    source = CoordinatorModels(home)

    assert [row.version for row in source.rows(0) if not row.kept] == [best]
    assert chosen(source, 0, None).version != best
    with pytest.raises(OperationError, match=f"version {best}, is not kept; the best"):
        chosen(source, 0, "best")
    with pytest.raises(OperationError, match="cannot be proven any more"):
        source.proven(chosen(source, 0, str(best)))
    source.close()


def test_chain_of_another_genesis_is_refused(
    coordinator: Path, source: CoordinatorModels
) -> None:
    other = replace(source._genesis, created_ms=9)

    with pytest.raises(ConfigError, match="another genesis"):
        CoordinatorModels(coordinator, other)

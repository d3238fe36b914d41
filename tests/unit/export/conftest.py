"""A fleet that ran, and what it left."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from starling.agent.runtime.storage.agent_home import AgentHome
from starling.agent.runtime.storage.blob_store import BlobStore
from starling.agent.runtime.storage.trusted_state_file import (
    StoredTrust,
    keep_proof,
    write_progress,
)
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.storage.sqlite_schema import CHAIN_FILE
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.export.provenance import ProvenModel
from starling.export.runtime.coordinator_home import CoordinatorModels
from starling.fleet import FleetPlan, run_virtual
from starling.fleet.runtime.report_files import write_report
from starling.protocol.chain.enrolment import Admission
from starling.protocol.chain.light_client import (
    MANIFEST,
    ModelManifest,
    pin,
    task_key,
    version_key,
)
from starling.protocol.ids import TaskId, Version

PEM = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"
PLAN = FleetPlan(devices=4, buffer=2, until_version=5, seed=11)


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a virtual fleet; nobody may write to it."""
    folder = tmp_path_factory.mktemp("report")
    made = run_virtual(PLAN, threads=1, home=folder / "home")
    assert made.outcome.verified
    write_report(folder, made.document)
    return folder


@pytest.fixture(scope="session")
def coordinator(report: Path) -> Path:
    return report / "home" / "coordinator"


@pytest.fixture
def source(coordinator: Path) -> Iterator[CoordinatorModels]:
    opened = CoordinatorModels(coordinator)
    yield opened
    opened.close()


@pytest.fixture
def model(source: CoordinatorModels) -> ProvenModel:
    return source.proven(source.rows(0)[-1])


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An .npz file of 200 digits."""
    from sklearn.datasets import load_digits

    file = tmp_path_factory.mktemp("data") / "digits.npz"
    found = load_digits()
    x = (found.data[:200] / 16).astype(np.float32)
    np.savez(file, x=x, y=found.target[:200])
    return file


@pytest.fixture
def board(tmp_path: Path, coordinator: Path) -> Path:
    """A board's home that uses the newest version of the coordinator's chain."""
    home = AgentHome(tmp_path / "board")
    home.begin({})
    store = SqliteStore.read(CoordinatorHome(coordinator).state / CHAIN_FILE)
    admission = Admission(
        home.identity(), store.genesis, "broker.example", 8883, PEM, PEM
    )
    home.admission_file.write_text(admission.to_json())
    newest = store.versions(0)[-1].version
    manifest = _manifest(store, newest)
    _, spec = manifest.check(pin(store.genesis))
    trusted = pin(store.genesis).accept(manifest.header, manifest.certificate)
    write_progress(
        home.state / "progress", StoredTrust(trusted, MANIFEST.pack(manifest))
    )
    keep_proof(home.state / "progress", home.models)
    blobs = BlobStore(home.models)
    for digest in (spec.bundle, manifest.model.inference):
        content = store.blob(digest)
        assert content is not None
        blobs.write(digest, content)
    store.close()
    return home.path


def _manifest(store: SqliteStore, version: int) -> ModelManifest:
    tip, digests = store.tip(), store.model(0, version)
    assert digests is not None
    assert tip.header is not None
    assert tip.certificate is not None
    return ModelManifest(
        TaskId(0),
        Version(version),
        digests,
        tip.header,
        tip.certificate,
        tip.tree.prove(version_key(0, version)),
        tip.tree.prove(task_key(0)),
    )

"""A fleet goes on from a version that was made again without its attacker."""

import json
from pathlib import Path

import pytest

from starling import __main__ as starling
from starling.coordinator.aggregation.strategy import pack_model, unpack_model
from starling.coordinator.chain.state import rollback_records
from starling.coordinator.chain.state.task_records import JobMember
from starling.coordinator.chain.verification.chain_replay import (
    CheckedBlock,
    check_rows,
)
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.tracing.lineage import LineageReader
from starling.coordinator.tracing.lineage_replay import replay
from starling.coordinator.update.admission_checks import open_update
from starling.durable.files import write_atomic
from starling.fleet import FleetPlan
from starling.fleet.runtime.kept_chain import KeptChain
from starling.fleet.runtime.training_material import prepare
from starling.fleet.runtime.virtual_run import Pace, run_prepared
from starling.fleet.virtual.virtual_fleet import VirtualFleet
from starling.protocol.ids import TaskId, device_name
from starling.protocol.learning.task import version_digest
from starling.protocol.learning.vector_codecs import Grid

BEFORE, AFTER = 4, 8
PLAN = FleetPlan(
    devices=4,
    buffer=3,
    privacy="none",
    until_version=AFTER,
    seed=5,
    fault="boards 1 flip signs 3 from version 0",
)


class Operator:
    """Rolls a fleet back, once it has some versions, by the command that people use."""

    def __init__(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.home, self._capsys = home, capsys
        self.fleet: VirtualFleet | None = None
        self.said: dict[str, object] = {}

    def __call__(self, fleet: VirtualFleet) -> str:
        self.fleet = fleet
        if fleet.version >= BEFORE and not self.said:
            self._roll_back(fleet)
        return ""

    def _roll_back(self, fleet: VirtualFleet) -> None:
        coordinator = fleet.foremost
        kept = KeptChain(self.home, fleet.genesis)
        kept.finish(coordinator)
        kept.close()
        folder = CoordinatorHome(self.home)
        folder.inbox.mkdir()
        folder.keys.mkdir(mode=0o700)
        write_atomic(folder.keys / "signing", coordinator.settings.ledger.key.seed)
        write_atomic(folder.keys / "operator", fleet._operator.seed)
        board = device_name(fleet.identities[0])
        words = ["coordinator", "rollback", "0", "--without", board, "--no-wait"]
        self._capsys.readouterr()
        assert starling.main([*words, "--home", str(self.home), "--json"]) == 0
        self.said = json.loads(self._capsys.readouterr().out)
        with coordinator.store.transaction():
            for blob in folder.inbox.glob("*.blob"):
                coordinator.store.put_blob(blob.read_bytes())
        (transaction,) = folder.inbox.glob("*.tx")
        coordinator.operate("rollback.tx", transaction.read_bytes())


def test_fleet_goes_on_from_the_version_that_was_never_attacked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    operator = Operator(tmp_path / "operator", capsys)

    run = run_prepared(prepare(PLAN), Pace(), threads=1, watch=operator)

    assert run.outcome.verified
    fleet, said = operator.fleet, operator.said
    assert fleet is not None
    coordinator = fleet.foremost
    tree, task = coordinator.state.ledger.tree, coordinator.state.tasks[TaskId(0)]
    version = rollback_records.newest_rollback(tree, 0)
    rolled = rollback_records.rollback(tree, 0, version)
    assert rolled is not None
    assert rolled.without == (fleet.identities[0],)
    assert said["again"] == rolled.again
    assert BEFORE < version <= task.head
    assert rolled.again < version

    # The same updates, aggregated by the strategy without the attacker's.
    reader = LineageReader(TaskId(0))
    for found in check_rows(coordinator.store.genesis, coordinator.rows()):
        assert isinstance(found, CheckedBlock)
        reader.observe(found.tip.height, found.changes, found.tip.tree)
    versions = {each.version: each for each in reader.versions()}
    key, store = coordinator.settings.gate.key, coordinator.store

    def vector(member: JobMember) -> Grid:
        upload = store.upload(member.transaction)
        assert upload is not None
        return open_update(key, upload.update, upload.blob, task.spec)

    first = task.spec.initial
    parts = [store.blob(part) for part in (first.theta, first.momentum, first.average)]
    theta, momentum, average = parts
    assert theta is not None
    assert momentum is not None
    assert average is not None
    lineage = [each for each in reader.versions() if 0 < each.version <= rolled.again]
    clean = unpack_model(theta, momentum, average)
    for step in replay(task.spec, clean, lineage, vector, set(rolled.without)):
        clean = step.after
    assert pack_model(clean).digests() == rolled.model
    assert versions[version].rolled_back
    assert versions[version].digest == version_digest(rolled.model)
    assert said["left_out"] == sum(
        member.board in rolled.without
        for each in lineage
        if each.job
        for member in each.job.members
    )
    # What was trained from before it counts no more.
    later = [each for each in reader.versions() if each.version > version]
    assert later
    assert all(
        member.base >= version
        for each in later
        if each.job
        for member in each.job.members
    )

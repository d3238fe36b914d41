"""A fleet goes on from a version that was made again without its attacker."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from starling import __main__ as starling
from starling.coordinator.aggregation.strategy import (
    ModelState,
    pack_model,
    unpack_model,
)
from starling.coordinator.chain.state import rollback_records
from starling.coordinator.chain.state.task_records import JobMember
from starling.coordinator.chain.verification.chain_replay import (
    CheckedBlock,
    check_rows,
)
from starling.coordinator.lineage.lineage import FinalVersion, LineageReader
from starling.coordinator.lineage.lineage_replay import replayed_state
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.update.admission_checks import open_update
from starling.durable.files import write_atomic
from starling.fleet import FleetPlan
from starling.fleet.runtime.kept_chain import KeptChain
from starling.fleet.runtime.training_material import prepare
from starling.fleet.runtime.virtual_run import Pace, run_prepared
from starling.fleet.virtual.virtual_coordinator import VirtualCoordinator
from starling.fleet.virtual.virtual_fleet import VirtualFleet
from starling.protocol.ids import DeviceId, TaskId, device_name
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
        validators = fleet.coordinators[: 2 * len(fleet.coordinators) // 3 + 1]
        homes = [self._written(fleet, each) for each in validators]
        board = device_name(fleet.identities[0])
        known = str(min(each.state.tasks[TaskId(0)].head for each in validators))
        words = ["rollback", "0", "--without", board, "--version", known]
        if len(validators) == 1:
            self.said = self._run(homes[0], *words, "--no-wait")
        else:
            motion = str(self.home / "motion")
            self.said = self._run(homes[0], *words, "--out", motion)
            for other in homes[1:]:
                self._run(other, "motion", "approve", motion)
            self._run(homes[0], "motion", "submit", motion)
        for validator, home in zip(validators, homes, strict=True):
            with validator.store.transaction():
                for blob in home.inbox.glob("*.blob"):
                    validator.store.put_blob(blob.read_bytes())
        (transaction,) = homes[0].inbox.glob("*.tx")
        validators[0].operate("rollback.tx", transaction.read_bytes())

    def _written(
        self, fleet: VirtualFleet, coordinator: VirtualCoordinator
    ) -> CoordinatorHome:
        """A validator's home, as far as the commands read it."""
        home = CoordinatorHome(self.home / coordinator.name)
        kept = KeptChain(home.path, fleet.genesis)
        kept.finish(coordinator)
        kept.close()
        home.inbox.mkdir()
        home.keys.mkdir(mode=0o700)
        write_atomic(home.keys / "signing", coordinator.settings.ledger.key.seed)
        write_atomic(home.keys / "operator", fleet._operator.seed)
        return home

    def _run(self, home: CoordinatorHome, *words: str) -> dict[str, object]:
        self._capsys.readouterr()
        place = ["--home", str(home.path), "--json"]
        assert starling.main(["coordinator", *words, *place]) == 0
        document: dict[str, object] = json.loads(self._capsys.readouterr().out)
        return document


def test_fleet_of_four_coordinators_rolls_back_by_motion(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    operator = Operator(tmp_path / "operators", capsys)
    plan = replace(PLAN, coordinators=4)

    run = run_prepared(prepare(plan), Pace(), threads=1, watch=operator)

    assert run.outcome.verified
    assert operator.fleet is not None
    for each in operator.fleet.coordinators:
        tree = each.state.ledger.tree
        version = rollback_records.newest_rollback(tree, 0)
        assert BEFORE < version < each.state.tasks[TaskId(0)].head
        assert not each.tally.refused["STALE"]


def lineage_of(coordinator: VirtualCoordinator) -> tuple[FinalVersion, ...]:
    reader = LineageReader(TaskId(0))
    for found in check_rows(coordinator.store.genesis, list(coordinator.store.rows())):
        assert isinstance(found, CheckedBlock)
        reader.observe(found.tip.height, found.changes, found.tip.tree)
    return reader.versions()


def aggregated(
    coordinator: VirtualCoordinator,
    lineage: Sequence[FinalVersion],
    without: Sequence[DeviceId],
) -> ModelState:
    """The same updates, aggregated by the strategy without some boards'."""
    key, store = coordinator.settings.gate.key, coordinator.store
    spec = coordinator.state.tasks[TaskId(0)].spec

    def vector(member: JobMember) -> Grid:
        upload = store.upload(member.transaction)
        assert upload is not None
        return open_update(key, upload.update, upload.blob, spec)

    theta, momentum, average = [
        store.blob(part)
        for part in (spec.initial.theta, spec.initial.momentum, spec.initial.average)
    ]
    assert theta is not None
    assert momentum is not None
    assert average is not None
    start = unpack_model(theta, momentum, average)
    return replayed_state(spec, start, lineage, vector, set(without))


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

    found = lineage_of(coordinator)
    versions = {each.version: each for each in found}
    lineage = [each for each in found if 0 < each.version <= rolled.again]
    clean = aggregated(coordinator, lineage, rolled.without)
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
    later = [each for each in found if each.version > version]
    assert later
    assert all(
        member.base >= version
        for each in later
        if each.job
        for member in each.job.members
    )

"""A fleet that scores: attackers are quarantined and told, honest boards are not."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from starling.coordinator.chain.state import score_subjects
from starling.coordinator.chain.tasks import reputations, scores
from starling.coordinator.cli import reputation_command
from starling.coordinator.loop.ports import Item
from starling.coordinator.step.events import VersionScored
from starling.fleet import FleetPlan, Pace
from starling.fleet.datasets.hold_out import ROOT_RECORDS, root_rows
from starling.fleet.runtime.training_material import prepare
from starling.fleet.runtime.virtual_run import run_prepared
from starling.fleet.virtual.virtual_coordinator import VirtualCoordinator
from starling.fleet.virtual.virtual_fleet import VirtualFleet
from starling.protocol.errors import ConfigError
from starling.protocol.ids import device_name
from starling.protocol.learning.score_policy import QUARANTINE_S_MAX

ATTACKERS = 2
SCORING_S = 3.0
PLAN = FleetPlan(
    devices=10,
    buffer=5,
    split="shards:2",
    privacy="none",
    until_version=12,
    coordinators=4,
    scores="projection",
    weights=(1, 1, 1, 1, 2),
    fault=f"boards 1-{ATTACKERS} flip signs from version 0",
)


def test_attackers_are_quarantined_and_told_and_honest_boards_are_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[VirtualFleet] = []

    def watch(fleet: VirtualFleet) -> str:
        seen[:] = [fleet]
        return ""

    material = prepare(PLAN)
    ended = run_prepared(material, Pace(), threads=1, home=tmp_path, watch=watch)
    (fleet,) = seen
    assert ended.outcome.verified
    tree = fleet.foremost.state.ledger.tree
    known = [reputations.reputation(tree, board) for board in fleet.identities]
    assert [bool(each.quarantines) for each in known] == [True] * ATTACKERS + (
        [False] * (PLAN.devices - ATTACKERS)
    )
    assert all(each.scored <= 10 for each in known[:ATTACKERS])
    refused = [each.refused for each in ended.last.devices]
    assert all("QUARANTINED" in each for each in refused[:ATTACKERS])
    assert not any("QUARANTINED" in each for each in refused[ATTACKERS:])
    assert len(score_subjects.subjects(tree, 0, 3)) == PLAN.buffer
    assert (scores.scores(tree, 0, 3) or pytest.fail("not scored")).given == 3

    home = ("--home", str(tmp_path / "coordinator"))
    assert reputation_command.main([*home, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    listed = {row["board"]: row for row in document["boards"]}
    for board, each in zip(fleet.identities, known, strict=True):
        row = listed[device_name(board)]
        assert row["expectation"] == each.expectation_ppm / 10**6
        assert row["quarantined"] == bool(each.quarantines)
    assert reputation_command.main([*home]) == 0
    out = capsys.readouterr().out
    assert out.count("now, 1 in all") == ATTACKERS
    assert out.count("never") == PLAN.devices - ATTACKERS


def test_scores_that_come_after_the_next_version_still_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Under fedavg only the head is a base; here scores take longer than a wave."""
    put = VirtualCoordinator.put

    def late(self: VirtualCoordinator, item: Item) -> None:
        if isinstance(item, VersionScored):
            self.later(SCORING_S, lambda: put(self, item))
        else:
            put(self, item)

    monkeypatch.setattr(VirtualCoordinator, "put", late)
    seen: list[VirtualFleet] = []
    overtaken: set[int] = set()

    def watch(fleet: VirtualFleet) -> str:
        seen[:] = [fleet]
        head, tree = fleet.versions.head, fleet.foremost.state.ledger.tree
        overtaken.update(
            at for at in range(1, head) if scores.scores(tree, 0, at) is None
        )
        return ""

    plan = replace(PLAN, fault="", rule="fedavg", until_version=6)
    ended = run_prepared(prepare(plan), Pace(waves=True), threads=1, watch=watch)
    assert ended.outcome.verified
    (fleet,) = seen
    assert {1, 2} <= overtaken
    known = [
        reputations.reputation(fleet.foremost.state.ledger.tree, board).scored
        for board in fleet.identities
    ]
    assert sum(known) >= plan.buffer * (plan.until_version - 2)


def test_root_set_is_of_training_records_that_no_board_has() -> None:
    scored, plain = prepare(PLAN), prepare(replace(PLAN, scores="none"))
    assert plain.root is None
    assert scored.root is not None
    assert len(scored.root) == ROOT_RECORDS
    assert np.bincount(scored.root.y).tolist() == [ROOT_RECORDS // 10] * 10
    dealt = np.concatenate([board.x for board in scored.boards])
    assert len(dealt) == len(plain.data.training) - ROOT_RECORDS
    assert len(scored.data.held_out) == len(plain.data.held_out)


def test_root_rows_of_few_records_and_of_numbers() -> None:
    rng = np.random.default_rng(1)
    assert len(root_rows(np.arange(30) % 3, rng)) == 3
    assert len(root_rows(np.ones((2_000, 1), np.float32), rng)) == ROOT_RECORDS


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param({"scores": "loss"}, "--scores", id="no rule"),
        pytest.param(
            {"scores": "accuracy", "privacy": "record"}, "take projection", id="noise"
        ),
        pytest.param({"weights": (1, 2)}, "2 weights, there are 5", id="few weights"),
        pytest.param({"weights": (1, 1, 1, 1, -1)}, "--select", id="negative"),
        pytest.param({"quarantine_s": -1}, "--quarantine", id="quarantine"),
    ],
)
def test_plan_that_cannot_be_is_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        replace(PLAN, **change)


def test_run_ends_when_all_but_the_quarantined_have_spent_their_budgets() -> None:
    plan = replace(
        PLAN,
        split="iid",
        coordinators=1,
        privacy="record",
        epsilon=60.0,
        releases=4,
        until_version=1000,
        quarantine_s=QUARANTINE_S_MAX,
    )

    ended = run_prepared(prepare(plan), Pace(virtual_time=True), threads=1)

    assert ended.outcome.stopped_because == f"budgets spent, {ATTACKERS} in quarantine"
    assert 1 <= ended.last.version < 10

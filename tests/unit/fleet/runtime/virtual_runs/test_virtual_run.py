"""A virtual fleet runs the real cores: it learns, pays, proves, and repeats itself."""

from dataclasses import replace

import numpy as np
import pytest

from starling.coordinator.task_file.task_settings import TaskSettings, publication
from starling.fleet import FleetPlan, FleetRun, Pace, run_virtual
from starling.fleet.attacks.attack_schedule import AttackKind
from starling.fleet.datasets.partition import Examples
from starling.fleet.monitor.run_snapshot import VersionPoint
from starling.fleet.plan import PRIVACY_KINDS, RULES
from starling.fleet.presets import DataShares, task_settings
from starling.fleet.runtime import virtual_run
from starling.fleet.runtime.training_material import prepare
from starling.fleet.virtual.fleet_shape import FleetShape
from starling.fleet.virtual.virtual_fleet import VirtualFleet
from starling.fleet.virtual.workload import ZeroWorkload
from starling.protocol.chain.blocks import HEADER
from starling.protocol.errors import ConfigError
from starling.protocol.learning.codec_terms import CODEC_NAMES
from starling.protocol.learning.metrics import ClassMetrics

PLAN = FleetPlan(devices=6, buffer=3, until_version=6, seed=3)


@pytest.fixture(scope="module")
def private_run() -> FleetRun:
    return run_virtual(PLAN, threads=1)


def timeless(run: FleetRun) -> list[VersionPoint]:
    return [replace(point, time_s=0.0) for point in run.last.versions]


def idle_fleet(boards: int, buffer: int, *, waves: bool) -> VirtualFleet:
    plan = FleetPlan(devices=boards, buffer=buffer, privacy="none")
    shares = DataShares((64,), 143, 143)
    settings: TaskSettings = task_settings(plan, shares)
    material = prepare(replace(PLAN, privacy="none"))
    rng = np.random.default_rng(1)
    return VirtualFleet(
        FleetShape(boards, settings.leases, waves, (1.0,) * boards),
        publication(settings, material.bundle, "task"),
        ZeroWorkload(143),
        rng.bytes,
        rng,
    )


def test_run_virtual_private_digits_learns(private_run: FleetRun) -> None:
    accuracies = [point.accuracy or 0.0 for point in private_run.last.versions]
    assert private_run.outcome.stopped_because == "version reached"
    assert accuracies[0] < 0.2
    assert accuracies[-1] > 0.5


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("restart broker at 1s", "has no broker's process"),
        ("board 2 pauses from 1s to 2s", "has no process that could pause"),
    ],
)
def test_run_virtual_refuses_faults_of_processes(fault: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        run_virtual(replace(PLAN, fault=fault), threads=1)


def test_run_virtual_private_pays_within_the_cap(private_run: FleetRun) -> None:
    spent = [device.epsilon for device in private_run.last.devices]
    assert 0.0 < max(spent) <= PLAN.epsilon
    assert private_run.heading.privacy is not None


@pytest.mark.parametrize("codec", CODEC_NAMES)
def test_run_virtual_four_coordinators_get_the_same_from_every_codec(
    codec: str,
) -> None:
    plan = replace(PLAN, codec=codec, coordinators=4, until_version=2)
    run = run_virtual(plan, threads=1)
    assert run.outcome.stopped_because == "version reached"
    assert run.outcome.verified
    assert not any(device.refused for device in run.last.devices)


@pytest.mark.parametrize("kind", [k for k in PRIVACY_KINDS if k != "record"])
@pytest.mark.parametrize("codec", ["block8", "rotated1"])
def test_run_virtual_every_mechanism_is_paid_for_and_accepted(
    kind: str, codec: str
) -> None:
    run = run_virtual(replace(PLAN, privacy=kind, codec=codec), threads=1)
    assert run.outcome.stopped_because == "version reached"
    assert not any(device.refused for device in run.last.devices)
    terms = run.heading.privacy
    if kind == "none":
        assert terms is None
        return
    assert terms is not None
    assert (terms.unit == "one record") == kind.startswith("record")
    assert 0.0 < max(device.epsilon for device in run.last.devices) <= PLAN.epsilon


def test_run_virtual_noised_local_steps_learn() -> None:
    run = run_virtual(replace(PLAN, privacy="record-dpsgd"), threads=1)
    assert (run.last.versions[-1].accuracy or 0.0) > 0.5


def test_run_virtual_measures_the_last_model_on_all_and_on_each_board(
    private_run: FleetRun,
) -> None:
    found = private_run.outcome.metrics
    assert found is not None
    assert isinstance(found.held_out, ClassMetrics)
    assert found.held_out.examples == 360
    # The last version's accuracy is measured apart, by other code.
    assert found.held_out.accuracy == private_run.last.accuracy
    assert len(found.held_out.recalls) == 10
    boards = found.boards["accuracy"]
    assert boards.count == PLAN.devices
    assert 0.0 < boards.least <= boards.median <= boards.most <= 1.0
    assert private_run.document["metrics"]["boards"]["accuracy"]["most"] == boards.most


def test_run_virtual_chain_holds_from_its_first_block(private_run: FleetRun) -> None:
    assert private_run.outcome.verified
    assert private_run.document["chain"]["verified"] is True


def test_virtual_hub_tampered_block_does_not_hold() -> None:
    fleet = idle_fleet(6, 3, waves=True)
    while fleet.version < 2:
        assert fleet.advance()
    assert fleet.verify()
    store = fleet.coordinators[0].store
    known = store.header(store.height())
    assert known is not None
    header = replace(known.header, time_ms=known.header.time_ms + 1)
    with store.transaction():
        row = (HEADER.pack(header), header.height)
        store._write("UPDATE blocks SET header = ? WHERE height = ?", row)
    assert not fleet.verify()


def test_run_virtual_same_seed_gives_the_same_run(private_run: FleetRun) -> None:
    again = run_virtual(PLAN, threads=2)
    assert timeless(again) == timeless(private_run)
    assert again.last.coordinators == private_run.last.coordinators


def test_run_virtual_other_seed_gives_another_chain(private_run: FleetRun) -> None:
    other = run_virtual(replace(PLAN, seed=4, until_version=1), threads=1)
    assert other.last.coordinators[0].id != private_run.last.coordinators[0].id


def test_run_virtual_tiny_budget_ends_when_it_is_spent() -> None:
    plan = FleetPlan(devices=4, buffer=2, until_version=50, releases=2)
    run = run_virtual(plan, threads=1)
    assert run.outcome.stopped_because == "budgets spent"
    assert max(device.accepted for device in run.last.devices) == 2
    assert max(device.epsilon for device in run.last.devices) <= plan.epsilon


def test_run_virtual_ends_when_too_few_boards_can_pay_for_a_version() -> None:
    # One board has had fewer turns than the others, and alone makes no version.
    plan = FleetPlan(
        devices=5, buffer=4, leases=5, releases=16, seed=2, until_version=50
    )
    run = run_virtual(plan, threads=1)
    assert run.outcome.stopped_because == "budgets spent"


def test_run_virtual_local_training_learns_without_privacy() -> None:
    plan = FleetPlan(devices=6, buffer=3, until_version=6, privacy="none")
    run = run_virtual(plan, Pace(waves=True), threads=1)
    assert run.last.accuracy is not None
    assert run.last.accuracy > 0.7
    assert run.heading.privacy is None
    assert {point.staleness_mean for point in run.last.versions[1:]} == {0.0}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("devices", "buffer", "leases"),
    [(10, 2, 10), (10, 2, 6), (20, 2, 20), (10, 4, None)],
    ids=["five versions late", "three late", "ten late", "default"],
)
def test_run_virtual_late_updates_never_lead_away_from_what_was_reached(
    devices: int, buffer: int, leases: int | None
) -> None:
    plan = FleetPlan(
        devices=devices, buffer=buffer, leases=leases, privacy="none", until_version=80
    )

    run = run_virtual(plan, threads=1)

    reached = [point.accuracy or 0.0 for point in run.last.versions]
    assert max(reached) > 0.9
    for version in range(40, len(reached)):
        assert reached[version] > max(reached[:version]) - 0.02


def test_run_virtual_without_data_names_what_is_missing() -> None:
    with pytest.raises(ConfigError, match=r"absent\.npz"):
        run_virtual(replace(PLAN, data="absent.npz"))


def test_virtual_fleet_many_boards_all_updates_are_final() -> None:
    fleet = idle_fleet(40, 10, waves=False)
    while fleet.version < 12:
        assert fleet.advance()
    shown = fleet.snapshot(1.0)
    made = sum(point.updates for point in shown.versions)
    assert made == 120
    assert shown.refusals() == []
    assert made <= shown.accepted <= made + fleet.shape.awake
    turns = [device.accepted for device in shown.devices]
    assert max(turns) - min(turns) <= 2


@pytest.mark.parametrize("kind", [kind.value for kind in AttackKind])
def test_run_virtual_takes_every_attack_for_a_normal_update(kind: str) -> None:
    fault = f"boards 1-2 {kind} from version 0"
    run = run_virtual(replace(PLAN, fault=fault, until_version=3), threads=1)
    assert run.outcome.stopped_because == "version reached"
    assert not any(device.refused for device in run.last.devices)
    assert [each["number"] for each in run.document["attackers"]] == [1, 2]
    works = run.document["backdoor_success"]
    assert (works is not None) == (kind == AttackKind.BACKDOOR.value)


def test_run_virtual_attacked_repeats_itself() -> None:
    attacked = replace(PLAN, fault="boards 1-2 use alie from version 0")
    first, again = (timeless(run_virtual(attacked, threads=n)) for n in (1, 2))
    assert first == again


def test_run_virtual_attackers_do_harm(private_run: FleetRun) -> None:
    fault = "boards 1-3 reach the bound from version 0"
    run = run_virtual(replace(PLAN, fault=fault), threads=1)
    assert (run.last.accuracy or 0.0) < (private_run.last.accuracy or 0.0) - 0.2


def test_run_virtual_with_four_coordinators_outlasts_its_faults() -> None:
    plan = replace(
        PLAN,
        coordinators=4,
        brokers=2,
        until_version=4,
        fault="kill coordinator 2 at 1s; restart coordinator 2 at 3s",
    )

    run = run_virtual(plan, threads=1)

    assert run.outcome.stopped_because == "version reached"
    assert run.last.time_s >= 18.0
    assert [event["text"] for event in run.document["events"]] == [
        "coordinator 2 was killed",
        "coordinator 2 is started again",
    ]
    assert [point.number for point in run.last.coordinators] == [1, 2, 3, 4]
    assert run.outcome.verified


def test_run_virtual_whose_coordinators_are_all_killed_ends_with_its_time() -> None:
    plan = replace(PLAN, fault="kill coordinator 1 at 1s", time_limit_s=20.0)

    run = run_virtual(plan, threads=1)

    assert run.outcome.stopped_because == "time limit"
    assert run.last.coordinators[0].down


def test_run_virtual_board_that_diverges_is_named_and_ends_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    material = prepare(replace(PLAN, privacy="none"))
    sick = material.boards[2]
    wide = sick.x.copy()
    wide[:, 7] = 1e6
    boards = [*material.boards]
    boards[2] = Examples(wide, sick.y)
    ill = replace(material, boards=boards)
    monkeypatch.setattr(virtual_run, "prepare", lambda _plan: ill)

    run = run_virtual(replace(PLAN, privacy="none", until_version=4), threads=1)

    assert run.outcome.stopped_because == "version reached"
    failed = [each for each in run.document["devices"] if each["trainings_failed"]]
    assert [each["id"] for each in failed] == [run.last.devices[2].id]
    assert "column 8 of 64" in failed[0]["failure"]
    assert "scale the data" in failed[0]["failure"]
    assert failed[0]["updates_accepted"] == 0
    assert min(each.accepted for each in run.last.devices if not each.failed) > 0


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "fedavg"])
def test_run_virtual_learns_by_every_rule(rule: str) -> None:
    plan = FleetPlan(
        devices=6, buffer=2, until_version=12, privacy="none", rule=rule, seed=3
    )

    run = run_virtual(plan, threads=1)

    assert run.outcome.verified
    assert (run.last.accuracy or 0.0) > 0.6
    assert (run.last.versions[-1].loss or 9.0) < (run.last.versions[0].loss or 0.0)


@pytest.mark.parametrize("coordinators", [1, 4])
def test_run_that_diverges_pauses_and_says_so_with_budget_left(
    coordinators: int,
) -> None:
    plan = FleetPlan(
        devices=6,
        buffer=2,
        releases=60,
        learning_rate=40.0,
        momentum=0.9,
        guard_patience=5,
        until_version=60,
        coordinators=coordinators,
    )

    made = run_virtual(plan, threads=1)

    held_out = made.last.held_out
    assert made.outcome.stopped_because == "paused"
    assert made.outcome.verified
    assert held_out is not None
    assert held_out.paused
    assert held_out.is_worse
    assert held_out.newest - held_out.best >= 5
    assert "has not fallen for 5 versions" in made.document["held_out"]["text"]
    assert 0 < made.last.epsilon_max < 4.0
    assert made.last.version < 60

"""`run_virtual`: hundreds to thousands of boards in this process."""

import gc
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from starling.coordinator.task_file.task_settings import TaskSettings, publication
from starling.fleet.attacks.attack_schedule import AttackKind, BoardAttack
from starling.fleet.faults.board_faults import (
    LINK_KINDS,
    LINKS_IN_CONTAINERS,
    BoardFault,
    BoardFaultKind,
    board_faults,
)
from starling.fleet.faults.broker_faults import broker_faults
from starling.fleet.faults.fault_timeline import timeline
from starling.fleet.monitor.run_snapshot import RunHeading, RunSnapshot
from starling.fleet.plan import FleetPlan
from starling.fleet.presets import DataShares, heading, horizon_s, task_settings
from starling.fleet.report.convergence import BudgetWatch, spent_text, why_over
from starling.fleet.report.run_report import FleetRun, RunOutcome, report
from starling.fleet.runtime.central_training import pooled_baseline
from starling.fleet.runtime.kept_chain import RUNNING, STOPPED, KeptChain
from starling.fleet.runtime.processes.home_setup import occupied
from starling.fleet.runtime.training_material import TrainingMaterial, prepare
from starling.fleet.runtime.training_pool import TrainingPool
from starling.fleet.virtual.committee import CommitteeShape
from starling.fleet.virtual.fleet_shape import FleetShape
from starling.fleet.virtual.own_rule import OwnRules
from starling.fleet.virtual.virtual_fleet import VirtualFleet
from starling.protocol.chain.genesis import FaultModel, Genesis
from starling.protocol.crypto.keys import known_signatures
from starling.protocol.errors import ConfigError

SNAPSHOT_EVERY_S = 0.25
STATUS_EVERY_S = 1.0
"""As a coordinator's process writes it."""
SIGNATURES_KNOWN = 1 << 16
"""Those of the messages between two versions, and more; 25 MB."""
SPEED_SIGMA_MAX = 3.0
OVER_SELECT_MAX = 0.5
"""A coordinator leases a buffer and a half of one base version at most."""
_LOOK_EVERY = 64
_TRAINING_S = 1.0
OnSnapshot = Callable[[RunHeading, RunSnapshot], None]
Watch = Callable[[VirtualFleet], str]

_SELECT_NOTE = (
    "virtual boards sleep until it is their turn, and all have as many: --select"
    " decides among boards that wait for a lease, which processes do"
)


@dataclass(frozen=True)
class Pace:
    """Pace of virtual boards in virtual time.

    Attributes:
      waves: Whether a version's boards all start when the version before is final:
        synchronous training.
      speed_sigma: Spread of the boards' speeds, lognormal; 0 makes all alike.
      virtual_time: Whether `time_s` in the report is virtual; else it is this
        machine's.
      over_select: Share of boards that a wave asks beyond K; the first K updates make
        the version, the others come too late. Above 0 it makes waves.
    """

    waves: bool = False
    speed_sigma: float = 0.25
    virtual_time: bool = False
    over_select: float = 0.0

    def __post_init__(self) -> None:
        """Refuses what no fleet can do.

        Raises:
          ConfigError: Naming the flag and the bound.
        """
        if not 0.0 <= self.speed_sigma <= SPEED_SIGMA_MAX:
            detail = f"{self.speed_sigma:g} is not in [0, {SPEED_SIGMA_MAX:g}]"
            raise ConfigError(detail, key="--speed-sigma")
        if not 0.0 <= self.over_select <= OVER_SELECT_MAX:
            detail = f"{self.over_select:g} is not in [0, {OVER_SELECT_MAX:g}]"
            raise ConfigError(detail, key="--over-select")

    @property
    def in_step(self) -> bool:
        """True if no update that counts is ever late."""
        return self.waves or self.over_select > 0


def run_virtual(
    plan: FleetPlan,
    pace: Pace | None = None,
    *,
    threads: int | None = None,
    on_snapshot: OnSnapshot = lambda _heading, _snapshot: None,
    home: Path | None = None,
    live: bool = False,
) -> FleetRun:
    """Runs a whole fleet in this process: the same cores, a link in memory.

    Args:
      plan: What is asked for.
      pace: How boards spend virtual time; asynchronous, all alike, by default.
      threads: That train; by default all cores, and one for the smallest models.
      on_snapshot: Called about four times a second.
      home: Where chain and models are left, as a fleet of processes leaves them; an
        earlier fleet there goes. None keeps nothing.
      live: Whether chain and status are written there while the fleet runs, too.

    Raises:
      ConfigError: If the plan cannot run, or `home` holds something else.
      StorageError: If the disk refuses.
    """
    started_s = time.monotonic()
    material = prepare(plan)
    return run_prepared(
        material,
        pace or Pace(),
        threads=threads,
        on_snapshot=on_snapshot,
        home=home,
        live=live,
        started_s=started_s,
    )


def run_prepared(
    material: TrainingMaterial,
    pace: Pace,
    *,
    threads: int | None = None,
    on_snapshot: OnSnapshot = lambda _heading, _snapshot: None,
    home: Path | None = None,
    live: bool = False,
    watch: Watch = lambda _fleet: "",
    started_s: float | None = None,
    rules: OwnRules | None = None,
) -> FleetRun:
    """Runs a fleet whose data were dealt out and whose model was compiled before.

    Args:
      material: All of that, with the plan.
      pace: How boards spend virtual time.
      threads: As for `run_virtual`, like `on_snapshot`, `home` and `live`.
      on_snapshot: See above.
      home: See above.
      live: See above.
      watch: Called after every few steps; what it returns ends the run, and says why.
      started_s: When preparation began, by the monotonic clock; now by default.
      rules: In place of the plan's; all of these by default.

    Raises:
      ConfigError, StorageError: As `run_virtual`.
    """
    started_s = time.monotonic() if started_s is None else started_s
    rules = rules or OwnRules()
    plan, shown = material.plan, _heading(material)
    workers = TrainingPool(
        material, plan.seed, threads, shown.attacks, known=plan.buffer
    )
    with closing(workers), ExitStack() as stack:
        fleet = _fleet(material, pace, workers, rules)
        begun_s = _begin(fleet, pace)
        chain = None
        if home is not None:
            chain = stack.enter_context(_chain_in(home, fleet.genesis))
        if chain and live:
            on_snapshot = _writing_status(chain, fleet, on_snapshot)
        ended = _drive(plan, fleet, shown, begun_s, on_snapshot, watch)
        fleet.finish()
        watch(fleet)
        last = fleet.snapshot(_time_s(fleet, begun_s))
        metrics = workers.metrics(fleet.inference)
        backdoor = _backdoor(workers, fleet.inference, shown.attacks)
        verified = fleet.verify()
        if chain is not None:
            chain.finish(fleet.foremost)
            chain.write_status(fleet.foremost, STOPPED)
    wall_s = time.monotonic() - started_s
    baseline = pooled_baseline(material, metrics) if plan.baseline else None
    outcome = RunOutcome(
        ended, wall_s, begun_s - started_s, verified, None, metrics, backdoor, baseline
    )
    document = report(_config(plan, pace, rules), shown, last, outcome)
    return FleetRun(shown, last, outcome, document)


def _heading(material: TrainingMaterial) -> RunHeading:
    plan, data = material.plan, material.data
    notes = (*data.notes, *([_SELECT_NOTE] if any(plan.weights) else []))
    return heading(plan, data.name, material.shares, material.bundle, notes)


def _begin(fleet: VirtualFleet, pace: Pace) -> float:
    """Time at which the run begins, by the clock that its versions are told by."""
    begun_s = time.monotonic()
    if not pace.virtual_time and fleet.shape.steady:
        fleet.clock = lambda: time.monotonic() - begun_s
    return begun_s


def _config(plan: FleetPlan, pace: Pace, rules: OwnRules) -> dict[str, object]:
    return {**plan.document(), "virtual": True, **asdict(pace), **rules.names()}


@contextmanager
def _chain_in(home: Path, genesis: Genesis) -> Iterator[KeptChain]:
    """Files of the chain, in a folder that no other fleet uses meanwhile."""
    with (
        occupied(home) as homes,
        closing(KeptChain(homes.coordinator, genesis)) as kept,
    ):
        yield kept


def _writing_status(
    chain: KeptChain, fleet: VirtualFleet, on_snapshot: OnSnapshot
) -> OnSnapshot:
    """Has the home told of the run, once a second, before whoever else looks."""
    next_s = 0.0

    def observe(shown: RunHeading, snapshot: RunSnapshot) -> None:
        nonlocal next_s
        if time.monotonic() >= next_s:
            chain.extend(fleet.foremost)
            chain.write_status(fleet.foremost, RUNNING)
            next_s = time.monotonic() + STATUS_EVERY_S
        on_snapshot(shown, snapshot)

    return observe


def _fleet(
    material: TrainingMaterial,
    pace: Pace,
    workers: TrainingPool,
    rules: OwnRules,
) -> VirtualFleet:
    """The fleet that a plan asks for; boards' speeds are drawn here."""
    plan = material.plan
    faults = board_faults(plan.fault, plan.devices)
    _refuse_process_faults(plan, faults)
    settings, asked = _settings(plan, material.shares, pace)
    # More boards than a version takes would make the next one late before it begins.
    awake = asked if pace.in_step else settings.leases
    rng = np.random.default_rng((plan.seed, 1))
    spread = rng.normal(0.0, pace.speed_sigma, plan.devices)
    committee = CommitteeShape(
        plan.coordinators,
        plan.brokers,
        FaultModel[plan.fault_model.upper()],
        timeline(plan.fault, plan.coordinators),
    )
    shape = FleetShape(
        plan.devices,
        awake,
        pace.in_step,
        tuple(_TRAINING_S * float(s) for s in np.exp(spread)),
        rest_s=_rest_s(plan, awake),
        windows=material.shares.reuse,
        leave_behind=pace.over_select > 0,
        committee=committee,
        board_faults=faults,
    )
    task = publication(settings, material.bundle, "task")
    return VirtualFleet(shape, task, workers, rng.bytes, rng, rules=rules)


def _refuse_process_faults(plan: FleetPlan, faults: Sequence[BoardFault]) -> None:
    """Refuses what goes wrong with processes alone.

    Raises:
      ConfigError: If a broker or a board's process is to stop, or a link is to be late
        or narrow.
    """
    if broker_faults(plan.fault, plan.brokers):
        raise ConfigError("a virtual fleet has no broker's process", key="--fault")
    if any(each.kind is BoardFaultKind.PAUSE for each in faults):
        detail = "a virtual board has no process that could pause; let it leave"
        raise ConfigError(detail, key="--fault")
    if any(each.kind in LINK_KINDS - {BoardFaultKind.DROP} for each in faults):
        raise ConfigError(LINKS_IN_CONTAINERS, key="--fault")


def _settings(
    plan: FleetPlan, shares: DataShares, pace: Pace
) -> tuple[TaskSettings, int]:
    """The task, and how many boards a wave asks.

    Raises:
      ConfigError: If it asks more than there are.
    """
    settings = task_settings(plan, shares, in_step=pace.in_step)
    if not pace.over_select:
        return settings, plan.buffer
    asked = math.ceil(plan.buffer * (1 + pace.over_select))
    if asked > plan.devices:
        detail = f"asks {asked} boards, there are {plan.devices}"
        raise ConfigError(detail, key="--over-select")
    leases = max(asked, settings.leases)
    return replace(settings, staleness_max=0, leases=leases), asked


def _backdoor(
    workers: TrainingPool, inference: bytes, attacks: Sequence[BoardAttack]
) -> float | None:
    """Success rate of a timeline's first backdoor; None without one."""
    for attack in attacks:
        if attack.kind is AttackKind.BACKDOOR:
            return workers.backdoor_success(inference, int(attack.amount))
    return None


def _drive(
    plan: FleetPlan,
    fleet: VirtualFleet,
    shown: RunHeading,
    begun_s: float,
    on_snapshot: OnSnapshot,
    watch: Watch,
) -> str:
    """Lets time pass until the run ends; says why it ended."""
    next_s, least_s = 0.0, horizon_s(plan)
    budgets = BudgetWatch(plan.devices, plan.buffer)
    barred = partial(fleet.barred, plan.time_limit_s)
    try:
        with few_collections(), known_signatures(SIGNATURES_KNOWN):
            while fleet.version < plan.until_version or fleet.elapsed_s < least_s:
                goes_on = _advance(fleet, plan.until_version, least_s)
                now = (fleet.elapsed_s, fleet.version, fleet.spent)
                may_end = fleet.elapsed_s >= least_s
                if not goes_on or (may_end and budgets.is_over(*now, barred)):
                    return spent_text(barred())
                time_s = time.monotonic() - begun_s
                if max(time_s, _time_s(fleet, begun_s)) > plan.time_limit_s:
                    return "time limit"
                if because := watch(fleet):
                    return because
                if fleet.elapsed_s >= least_s and (
                    ended := why_over(fleet.losses, plan.patience, fleet.paused)
                ):
                    return ended
                if time_s >= next_s:
                    on_snapshot(shown, fleet.snapshot(_time_s(fleet, begun_s)))
                    next_s = time_s + SNAPSHOT_EVERY_S
    except KeyboardInterrupt:
        return "interrupted"
    return "version reached"


def _advance(fleet: VirtualFleet, until_version: int, least_s: float) -> bool:
    """Does the next few things; False if none is left that could make a version."""
    for _ in range(_LOOK_EVERY):
        over = fleet.elapsed_s >= least_s
        if not fleet.advance():
            return False
        if fleet.version >= until_version and over:
            break
    return True


def _time_s(fleet: VirtualFleet, begun_s: float) -> float:
    """Since the task is open: virtual where a timeline counts in virtual time."""
    if fleet.shape.steady:
        return time.monotonic() - begun_s
    return fleet.elapsed_s


def _rest_s(plan: FleetPlan, awake: int) -> float:
    """Time that a place stays free, so that the planned updates last long enough.

    None but if faults are to come: then these updates, and with them the privacy
    budget, are to last until the faults are over.
    """
    updates = plan.until_version * plan.buffer
    return max(0.0, awake * horizon_s(plan) / updates - _TRAINING_S)


@contextmanager
def few_collections() -> Iterator[None]:
    """Frozen values make no cycles; looking for some costs a fifth of the time."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 50, 50)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()

"""`starling fleet run`: broker, coordinator and boards as real processes."""

import json
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from starling.broker.runtime.broker_home import BrokerHome
from starling.coordinator.task_file.privacy_statement import promise
from starling.coordinator.task_file.task_settings import publication
from starling.fleet.attacks.attack_schedule import BoardAttack
from starling.fleet.monitor.consensus_monitor import ConsensusMonitor
from starling.fleet.monitor.run_snapshot import (
    CoordinatorPoint,
    DevicePoint,
    RunEvent,
    RunHeading,
    RunSnapshot,
)
from starling.fleet.plan import FleetPlan
from starling.fleet.presets import heading, horizon_s, task_settings
from starling.fleet.report.convergence import (
    BudgetWatch,
    barred_boards,
    spent_text,
    why_over,
)
from starling.fleet.report.model_metrics import ModelMetrics
from starling.fleet.report.run_report import FleetRun, RunOutcome, report
from starling.fleet.runtime.central_training import pooled_baseline
from starling.fleet.runtime.faults.fault_injector import (
    FaultInjector,
    refuse_virtual_faults,
)
from starling.fleet.runtime.processes.home_setup import (
    TIER_BOARDS,
    FleetHomes,
    occupied,
    set_up,
)
from starling.fleet.runtime.processes.status_poller import StatusPoller
from starling.fleet.runtime.processes.stored_model import (
    newest_inference,
    personal_models,
)
from starling.fleet.runtime.processes.stored_receipts import compare_receipts
from starling.fleet.runtime.processes.supervisor import (
    ProcessSupervisor,
    SupervisedProcess,
    child_environment,
    listens,
    starling_command,
)
from starling.fleet.runtime.terminal_screen import TerminalScreen
from starling.fleet.runtime.training_material import TrainingMaterial, prepare
from starling.fleet.runtime.training_pool import TrainingPool
from starling.protocol.errors import EXIT_DONE, OperationError
from starling.protocol.privacy.mechanisms import DEVICE_LEVEL

LOOK_EVERY_S = 0.25
BEGIN_TIMEOUT_S = 180.0
"""In which the broker must listen and the task be open."""
_VERIFY_TIMEOUT_S = 600.0
_EVALUATION_TIMEOUT_S = 10.0
_TIPS_TIMEOUT_S = 10.0
_STATUS_TIMEOUT_S = 2.0
_GLANCES = 5


def run_processes(plan: FleetPlan, home: Path, screen: TerminalScreen) -> FleetRun:
    """Runs a fleet of real processes until its plan is fulfilled, then stops them all.

    Args:
      plan: What is asked for.
      home: Folder for everything; see `fleet.runtime.processes.home_setup`.
      screen: Where it is watched.

    Raises:
      ConfigError: If the plan cannot run, or a process refuses its configuration.
      OperationError: If the fleet does not begin in time.
    """
    started_s = time.monotonic()
    material = prepare(plan)
    plan = material.plan
    # Before the folder is emptied: what is refused must cost no earlier fleet.
    refuse_virtual_faults(plan)
    with occupied(home) as homes:
        return _run(plan, material, homes, screen, started_s)


def _run(
    plan: FleetPlan,
    material: TrainingMaterial,
    homes: FleetHomes,
    screen: TerminalScreen,
    started_s: float,
) -> FleetRun:
    data, shares = material.data, material.shares
    shown = heading(plan, data.name, shares, material.bundle, data.notes)
    screen.say(f"setting up: {shown.title}")
    screen.note(data.notes)
    spec = publication(
        task_settings(plan, material.shares), material.bundle, "task"
    ).spec
    if spec.privacy.mechanism in DEVICE_LEVEL:
        screen.say("\n".join(promise(spec).lines()))
    set_up(homes, plan, material)
    private = bool(spec.privacy.mechanism)
    watch = StatusPoller(homes, plan.devices, plan.coordinators, private=private)
    with ProcessSupervisor(homes.register) as supervisor:
        begun_s, because, last = _serve(plan, homes, supervisor, watch, shown, screen)
        # Boards first: coordinators note and evaluate what is under way, and nothing is
        # added.
        supervisor.stop_services(TIER_BOARDS)
        _wait_for_evaluation(watch, last)
        _wait_for_tips(watch, last)
        supervisor.stop_services()
        after = watch.look(last.time_s, supervisor.restarts)
        last = replace(
            after,
            devices=_as_last_seen(after, last),
            events=last.events,
            pauses=last.pauses,
        )
    # Once nobody writes: what is checked is what is left.
    verified = _verify_all(homes, plan.coordinators)
    receipts = compare_receipts(homes, plan.devices, plan.coordinators)
    screen.say(f"receipts: {receipts.text}")
    wall_s = time.monotonic() - started_s
    metrics = _final_metrics(plan, material, homes)
    outcome = RunOutcome(
        because,
        wall_s,
        begun_s - started_s,
        verified,
        receipts,
        metrics,
        baseline=pooled_baseline(material, metrics) if plan.baseline else None,
    )
    config = {**plan.document(), "virtual": False}
    return FleetRun(shown, last, outcome, report(config, shown, last, outcome))


def _final_metrics(
    plan: FleetPlan, material: TrainingMaterial, homes: FleetHomes
) -> ModelMetrics | None:
    """Of the newest model that the first coordinator keeps; None if it has none."""
    inference = newest_inference(homes.coordinator)
    if inference is None:
        return None
    pool = TrainingPool(material, plan.seed, None)
    try:
        pool.personal.update(personal_models(homes, material, inference))
        return pool.metrics(inference)
    finally:
        pool.close()


def _as_last_seen(after: RunSnapshot, live: RunSnapshot) -> tuple[DevicePoint, ...]:
    """Final figures, with the phases from before everybody was told to stop."""
    phases = {device.id: device.phase for device in live.devices}
    return tuple(
        replace(device, phase=phases.get(device.id, device.phase))
        for device in after.devices
    )


def _serve(
    plan: FleetPlan,
    homes: FleetHomes,
    supervisor: ProcessSupervisor,
    watch: StatusPoller,
    shown: RunHeading,
    screen: TerminalScreen,
) -> tuple[float, str, RunSnapshot]:
    """Starts everything and watches until the end.

    Returns:
      When the task was open, why it ended, and what was last seen.
    """
    for number in range(1, plan.brokers + 1):
        supervisor.start(homes.broker_service(number))
    for number in range(1, plan.brokers + 1):
        _wait_for_broker(supervisor, BrokerHome(homes.broker_at(number)))
    harm = FaultInjector(plan, homes)
    for number in range(1, plan.coordinators + 1):
        supervisor.start(harm.service(number))
    for number in range(plan.devices):
        supervisor.start(_board(plan, homes, shown.attacks, number))
    begun_s, because = _wait_for_task(supervisor, watch)
    last = watch.look(0.0, supervisor.restarts)
    if because:
        return begun_s, because, last
    events, council = list[RunEvent](), ConsensusMonitor()
    least_s, budgets = horizon_s(plan), BudgetWatch(plan.devices, plan.buffer)
    try:
        while True:
            time_s = time.monotonic() - begun_s
            happened = harm.carry_out(time_s, supervisor) + supervisor.check()
            seen = watch.look(time_s, supervisor.restarts)
            if plan.coordinators > 1:
                happened += council.look(time_s, seen.coordinators, seen.quorum)
            events += [RunEvent(time_s, text) for text in happened]
            last = replace(
                seen,
                events=tuple(events),
                pauses=council.pauses,
                coordinators=_with_orders(seen, harm),
            )
            screen.show(shown, last)
            barred = partial(
                barred_boards, watch.quarantined, plan.quarantine_s, plan.time_limit_s
            )
            over = budgets.is_over(time_s, last.accepted, watch.spent, barred)
            spent = spent_text(barred()) if over else ""
            because = _ended(plan, watch.version, last, least_s, spent)
            if because:
                return begun_s, because, last
            _pause(plan, watch)
    except KeyboardInterrupt:
        return begun_s, "interrupted", last


def _board(
    plan: FleetPlan, homes: FleetHomes, attacks: Sequence[BoardAttack], number: int
) -> SupervisedProcess:
    if any(each.first <= number + 1 <= each.last for each in attacks):
        return homes.byzantine_board_service(number, plan)
    return homes.board_service(number)


def _with_orders(
    seen: RunSnapshot, harm: FaultInjector
) -> tuple[CoordinatorPoint, ...]:
    return tuple(
        replace(point, ordered=harm.ordered(point.number))
        for point in seen.coordinators
    )


def _pause(plan: FleetPlan, watch: StatusPoller) -> None:
    """Waits for the next look, or for the end."""
    for _ in range(_GLANCES):
        time.sleep(LOOK_EVERY_S / _GLANCES)
        if not horizon_s(plan) and watch.look_at_version() >= plan.until_version:
            return


def _wait_for_broker(supervisor: ProcessSupervisor, home: BrokerHome) -> None:
    """Whoever is refused at first comes back only after a pause."""
    port = home.require_settings().port
    deadline_s = time.monotonic() + BEGIN_TIMEOUT_S
    while not listens(port):
        supervisor.check()
        if time.monotonic() > deadline_s:
            raise OperationError(f"no broker on port {port}; see the logs")
        time.sleep(LOOK_EVERY_S / 5)


def _wait_for_task(
    supervisor: ProcessSupervisor, watch: StatusPoller
) -> tuple[float, str]:
    """Waits until the task is open.

    Returns:
      When it was seen, and why the run ends already; empty if it does not.

    Raises:
      OperationError: If it does not open.
      KeyboardInterrupt: If the run is to end and there is no task to report of.
    """
    try:
        if _sees_task(supervisor, watch, BEGIN_TIMEOUT_S):
            return time.monotonic(), ""
    except KeyboardInterrupt:
        # Boards may have sent updates: a coordinator says once a second what is open.
        if _sees_task(supervisor, watch, _STATUS_TIMEOUT_S):
            return time.monotonic(), "interrupted"
        raise
    raise OperationError(
        f"the task was not open after {BEGIN_TIMEOUT_S:g} s; see the logs"
    )


def _sees_task(
    supervisor: ProcessSupervisor, watch: StatusPoller, within_s: float
) -> bool:
    deadline_s = time.monotonic() + within_s
    while not watch.begun:
        if time.monotonic() > deadline_s:
            return False
        supervisor.check()
        watch.look(0.0, 0)
        time.sleep(LOOK_EVERY_S / 5)
    return True


def _ended(
    plan: FleetPlan, version: int, last: RunSnapshot, least_s: float, spent: str
) -> str:
    if last.time_s > plan.time_limit_s:
        return "time limit"
    if last.time_s < least_s:
        return ""
    if max(version, last.version) >= plan.until_version:
        return "version reached"
    losses = [point.loss for point in last.versions]
    paused = last.held_out is not None and last.held_out.paused
    return why_over(losses, plan.patience, paused) or spent


def _wait_for_evaluation(watch: StatusPoller, last: RunSnapshot) -> None:
    """Until the newest version is evaluated; a few seconds at most."""
    deadline_s = time.monotonic() + _EVALUATION_TIMEOUT_S
    while time.monotonic() < deadline_s:
        seen = watch.look(last.time_s, 0)
        current = seen.version >= watch.version
        if current and seen.versions and seen.versions[-1].is_evaluated:
            return
        time.sleep(LOOK_EVERY_S / 5)


def _wait_for_tips(watch: StatusPoller, last: RunSnapshot) -> None:
    """Until all coordinators that are up hold what boards were told is final."""
    deadline_s = time.monotonic() + _TIPS_TIMEOUT_S
    reached = watch.look(last.time_s, 0).height
    while time.monotonic() < deadline_s:
        points = watch.look(last.time_s, 0).coordinators
        if all(point.down or point.height >= reached for point in points):
            return
        time.sleep(LOOK_EVERY_S)


def _verify_all(homes: FleetHomes, coordinators: int) -> bool | None:
    """True if every coordinator's chain is valid; None if one was not checked."""
    found = [
        _verify(homes.coordinator_at(number)) for number in range(1, coordinators + 1)
    ]
    return None if None in found else all(found)


def _verify(path: Path) -> bool | None:
    """Has a chain checked offline, as anybody can; None if that cannot be done."""
    home = str(path)
    try:
        checked = subprocess.run(  # noqa: S603 - our own command
            starling_command("chain", "verify", "--home", home, "--json"),
            capture_output=True,
            timeout=_VERIFY_TIMEOUT_S,
            check=False,
            env=child_environment(),
        )
        json.loads(checked.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        return None
    return checked.returncode == EXIT_DONE

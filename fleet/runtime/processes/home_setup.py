"""Sets a fleet's homes up, by the commands that an operator and owners would use.

HOME/broker/            of `starling broker`; broker-2/ and so on for more
HOME/coordinator/       of `starling coordinator`; coordinator-2/ and so on for more
HOME/boards/000/        of `starling agent`, one folder a board; data/ has its share
HOME/bundle/            what is trained
HOME/task.toml          how
HOME/logs/              what each process says
HOME/processes.json     process id of each service that is up
HOME/orders/            what coordinators are to do wrong
"""

import contextlib
import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from starling.agent import cli as agent_cli
from starling.agent.config import FILE as AGENT_FILE
from starling.agent.config import AgentConfig
from starling.broker import cli as broker_cli
from starling.broker.runtime.broker_home import BrokerHome
from starling.broker.runtime.mosquitto_process import free_port
from starling.coordinator.cli import coordinator_command as coordinator_cli
from starling.coordinator.config import FILE as COORDINATOR_FILE
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.task_file.task_settings import TaskSettings
from starling.durable.files import storage_errors, write_atomic
from starling.durable.locks import lock
from starling.fleet.monitor.coordinator_point import validator_name
from starling.fleet.plan import FleetPlan
from starling.fleet.presets import between_s, task_settings
from starling.fleet.runtime.dataset_catalog import write_examples
from starling.fleet.runtime.processes.supervisor import (
    SupervisedProcess,
    starling_command,
)
from starling.fleet.runtime.training_material import TrainingMaterial
from starling.protocol.chain.genesis import FaultModel, quorum
from starling.protocol.errors import ConfigError, OperationError
from starling.protocol.model.training_bundle import unpack_bundle
from starling.protocol.schema.toml_settings import sample

FLEET = "fleet"
TIER_BROKER, TIER_COORDINATOR, TIER_BOARDS = 0, 1, 2
"""Higher ones stop first, so that everybody can still say goodbye."""
MARK = "starling-fleet"
"""A file in every home that this command made, and may remove."""
HEARTBEAT_S = 2
_TRAINER_BYTES = 100 << 20
"""Of a loaded trainer; half of the memory may be spent on saving their start."""
_TRAINER_KEPT_S = 20.0
_CHECK_IN_S = 3.0
_RELEASE_S = 0.1
_READABLE = 0o644


@dataclass(frozen=True)
class FleetHomes:
    """Paths of a fleet's homes."""

    path: Path

    def broker_at(self, number: int) -> Path:
        """Of one broker, from 1."""
        return self.path / _numbered("broker", number)

    @property
    def coordinator(self) -> Path:
        """Of the first coordinator, whose operator admits boards and publishes."""
        return self.coordinator_at(1)

    def coordinator_at(self, number: int) -> Path:
        """Of one coordinator, from 1."""
        return self.path / coordinator_name(number)

    def board(self, number: int) -> Path:
        """Of one board, from 0."""
        return self.path / "boards" / f"{number:03d}"

    @property
    def register(self) -> Path:
        """Says which process each service is."""
        return self.path / "processes.json"

    def service(self, name: str, tier: int, *words: str) -> SupervisedProcess:
        """A command that keeps running."""
        log = self.path / "logs" / f"{name}.log"
        return SupervisedProcess(name, starling_command(*words), log, tier)

    def broker_service(self, number: int) -> SupervisedProcess:
        """`starling broker run`."""
        name, home = _numbered("broker", number), str(self.broker_at(number))
        return self.service(name, TIER_BROKER, "broker", "run", "--home", home)

    def coordinator_service(self, number: int) -> SupervisedProcess:
        """`starling coordinator run`."""
        home = str(self.coordinator_at(number))
        name = coordinator_name(number)
        return self.service(
            name, TIER_COORDINATOR, "coordinator", "run", "--home", home
        )

    def orders(self, number: int) -> Path:
        """Orders of a Byzantine coordinator; see `faults.byzantine_coordinator`."""
        return self.path / "orders" / f"{coordinator_name(number)}.json"

    def faulty_service(self, number: int) -> SupervisedProcess:
        """A coordinator that does wrong as it is ordered."""
        name = coordinator_name(number)
        log = self.path / "logs" / f"{name}.log"
        words = (
            sys.executable,
            "-m",
            "starling.fleet.runtime.faults.byzantine_coordinator",
        )
        places = (str(self.coordinator_at(number)), str(self.orders(number)))
        return SupervisedProcess(name, (*words, *places), log, TIER_COORDINATOR)

    def board_service(self, number: int) -> SupervisedProcess:
        """`starling agent run`."""
        home = str(self.board(number))
        name = board_name(number)
        return self.service(name, TIER_BOARDS, "agent", "run", "--home", home)

    def byzantine_board_service(
        self, number: int, plan: FleetPlan
    ) -> SupervisedProcess:
        """A board that attacks as the plan's timeline tells it."""
        name = board_name(number)
        log = self.path / "logs" / f"{name}.log"
        module = "starling.fleet.runtime.faults.byzantine_board"
        words = (plan.fault, str(plan.devices), str(number + 1))
        command = (sys.executable, "-m", module, *words, str(self.board(number)))
        return SupervisedProcess(name, command, log, TIER_BOARDS)


def coordinator_name(number: int) -> str:
    """Of a coordinator's folder, service and log."""
    return _numbered("coordinator", number)


def board_name(number: int) -> str:
    """Of a board's service and log; counts from 0."""
    return f"board-{number:03d}"


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name}-{number}"


@contextlib.contextmanager
def occupied(path: Path) -> Iterator[FleetHomes]:
    """An empty folder for a fleet, which no other run empties during the block.

    Raises:
      ConfigError: As `clear`, or if a fleet runs there.
      StorageError: If the disk refuses.
    """
    _require_fleets_own(path)
    with storage_errors(path):
        path.mkdir(parents=True, exist_ok=True)
    try:
        # The mark is the lock: a folder without it is not ours to empty.
        held = lock(path / MARK)
    except ConfigError as error:
        raise ConfigError(
            f"a fleet runs in {path}, {error.detail}; choose another folder, or end it",
            key="--home",
        ) from error
    with held:
        yield clear(path)


def clear(path: Path) -> FleetHomes:
    """An empty folder for a fleet; what an earlier run left there goes.

    Raises:
      ConfigError: If it holds anything that is not a fleet of this command.
      StorageError: If the disk refuses.
    """
    _require_fleets_own(path)
    with storage_errors(path):
        path.mkdir(parents=True, exist_ok=True)
        (path / MARK).touch(_READABLE)
        for found in path.iterdir():
            if found.is_dir() and not found.is_symlink():
                shutil.rmtree(found)
            # Kept, since its lock is held by us.
            elif found.name != MARK:
                found.unlink()
        for folder in ("logs", "boards", "orders"):
            (path / folder).mkdir()
    return FleetHomes(path.absolute())


def _require_fleets_own(path: Path) -> None:
    with storage_errors(path):
        is_used = path.exists() and any(path.iterdir())
        if is_used and not (path / MARK).exists():
            raise ConfigError(
                f"{path} is not empty and holds no fleet; choose another folder",
                key="--home",
            )


def set_up(homes: FleetHomes, plan: FleetPlan, material: TrainingMaterial) -> None:
    """Makes broker, coordinators and boards; admits the boards, publishes the task.

    Everything that needs the coordinator waits in its inbox until it runs.

    Raises:
      ConfigError, StorageError, OperationError: As the commands do.
    """
    local = ("--bind", "127.0.0.1", "--host", "127.0.0.1", "--fleet", FLEET)
    for number in range(1, plan.brokers + 1):
        place = ("--home", str(homes.broker_at(number)), "--port", str(free_port()))
        command(broker_cli.main, "init", *place, *local)
    _set_up_coordinators(homes, plan, material)
    _introduce(homes, plan)
    for number in range(plan.devices):
        _set_up_board(homes, plan, material, number)
    _publish(homes, plan, material)


def command(main: Callable[[list[str]], int], *words: str) -> dict[str, Any]:
    """Runs one `starling` command in this process.

    Args:
      main: The `main` of its package.
      words: After the package's name; `--json` is added.

    Returns:
      The JSON document that it printed.

    Raises:
      OperationError: If its exit status is not 0; and whatever the command raises.
    """
    printed = io.StringIO()
    # In this process: a start of Python for each of many boards takes minutes.
    with contextlib.redirect_stdout(printed):
        status = main([*words, "--json"])
    if status:
        raise OperationError(f"{main.__module__} {words[0]} ended with {status}")
    document: dict[str, Any] = json.loads(printed.getvalue())
    return document


def _set_up_coordinators(
    homes: FleetHomes, plan: FleetPlan, material: TrainingMaterial
) -> None:
    joins = ["--fleet", FLEET]
    beats = ("--heartbeat", str(HEARTBEAT_S))
    numbers = range(1, plan.coordinators + 1)
    if plan.coordinators > 1:
        genesis = str(homes.path / "genesis")
        identities = [_identify(homes, number) for number in numbers]
        model = ("--fault-model", plan.fault_model)
        shared = ("--fleet", FLEET, "--out", genesis, *beats, *model)
        command(coordinator_cli.main, "genesis", *shared, *identities)
        joins += ["--genesis", genesis]
    for number in numbers:
        broker = str(homes.broker_at(broker_of(number, plan)))
        place = ("--home", str(homes.coordinator_at(number)), "--broker", broker)
        command(coordinator_cli.main, "init", *place, *joins, *beats)
        evaluates = number <= evaluators(plan.coordinators)
        _give_data(homes.coordinator_at(number), material, evaluates=evaluates)


def evaluators(coordinators: int) -> int:
    """Coordinators that try each version: a quorum, of which one more may be down."""
    return min(coordinators, quorum(coordinators, FaultModel.BYZANTINE) + 1)


def broker_of(number: int, plan: FleetPlan) -> int:
    """The broker of a coordinator or, counted from 1 too, of a board."""
    return (number - 1) % plan.brokers + 1


def _introduce(homes: FleetHomes, plan: FleetPlan) -> None:
    """Has every coordinator invited to the brokers that are not its own."""
    for number in range(1, plan.coordinators + 1):
        own = broker_of(number, plan)
        name, home = coordinator_name(number), str(homes.coordinator_at(number))
        for other in set(range(1, plan.brokers + 1)) - {own}:
            # The coordinator of the same number is a client of that broker.
            host = ("--home", str(homes.coordinator_at(other)))
            identity = str(homes.path / f"{name}.identity.json")
            paper = str(homes.path / f"{name}.invitation-{other}.json")
            command(coordinator_cli.main, "invite", identity, "--out", paper, *host)
            port = BrokerHome(homes.broker_at(other)).require_settings().port
            joins = ("--fleet", FLEET, "--broker", str(homes.broker_at(own)))
            peer = ("--peer", f"mqtts://127.0.0.1:{port}={paper}")
            command(coordinator_cli.main, "init", "--home", home, *joins, *peer)


def _identify(homes: FleetHomes, number: int) -> str:
    home = homes.coordinator_at(number)
    identity = str(homes.path / f"{coordinator_name(number)}.identity.json")
    words = ("--home", str(home), "--name", validator_name(number))
    command(coordinator_cli.main, "identity", *words, "--out", identity)
    return identity


def _give_data(path: Path, material: TrainingMaterial, *, evaluates: bool) -> None:
    """Held-out examples for some coordinators, a root set for all of them."""
    if not evaluates and material.root is None:
        return
    home = CoordinatorHome(path)
    values = _flat(asdict(home.config()))
    if evaluates:
        write_examples(path / "held_out.npz", material.data.held_out)
        values["evaluation.data"] = "held_out.npz"
    if material.root is not None:
        write_examples(path / "root.npz", material.root)
        values["evaluation.root"] = "root.npz"
    text = sample(type(home.config()), values)
    write_atomic(path / COORDINATOR_FILE, text.encode())


def _set_up_board(
    homes: FleetHomes, plan: FleetPlan, material: TrainingMaterial, number: int
) -> None:
    home = homes.board(number)
    with storage_errors(home):
        home.mkdir(parents=True)
    values = {
        "privacy.required": plan.privacy != "none",
        "privacy.epsilon": plan.epsilon,
        "privacy.delta": plan.delta,
        "privacy.label_epsilon": plan.epsilon if plan.privacy == "labels" else 0.0,
        "data.windows": material.shares.reuse,
        "data.pledge": len(material.boards[number]),
        # Many agents share this machine: none may take all its cores.
        "training.board": "simulated",
        "pace.check_in_s": _CHECK_IN_S,
        "pace.between_s": between_s(plan),
        "pace.period_days": 0.0,
        "pace.release_s": _RELEASE_S,
    }
    if plan.devices * _TRAINER_BYTES < _free_memory_bytes() / 2:
        values["training.keep_s"] = _TRAINER_KEPT_S
    text = sample(AgentConfig, values)
    write_atomic(home / AGENT_FILE, text.encode())
    place = ("--home", str(home))
    command(agent_cli.main, "init", *place)
    write_examples(home / "data" / "examples.npz", material.boards[number])
    request = command(agent_cli.main, "enrol", *place)["request"]
    admission = str(home / "operator-gave.json")
    host = homes.coordinator_at(broker_of(number + 1, plan))
    by = ("--home", str(host))
    words = ("--out", admission, "--no-wait")
    command(coordinator_cli.main, "admit", request, *words, *by)
    command(agent_cli.main, "enrol", *place, "--admission", admission)


def _free_memory_bytes() -> int:
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _publish(homes: FleetHomes, plan: FleetPlan, material: TrainingMaterial) -> None:
    bundle = homes.path / "bundle"
    with storage_errors(bundle):
        bundle.mkdir()
    for name, content in unpack_bundle(material.bundle).items():
        write_atomic(bundle / name, content, _READABLE)
    task = homes.path / "task.toml"
    values = _flat(asdict(task_settings(plan, material.shares)))
    write_atomic(task, sample(TaskSettings, values).encode(), _READABLE)
    words = ("--bundle", str(bundle), "--task", str(task))
    place = ("--home", str(homes.coordinator))
    command(coordinator_cli.main, "publish", *words, *place, "--no-wait")


def _flat(document: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, dict):
            values |= _flat(value, f"{prefix}{key}.")
        else:
            values[prefix + key] = value
    return values

"""Several coordinator processes over one real broker, with boards and a task."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.harness.board_uploads import PublishedTask
from benchmarks.harness.load_generator import admit_loader
from starling.broker.broker_settings import BrokerSettings
from starling.broker.link_events import TlsFiles
from starling.broker.runtime.broker_home import BrokerHome
from starling.broker.runtime.mosquitto_process import MosquittoProcess, free_port
from starling.coordinator.config import FILE, CoordinatorConfig
from starling.coordinator.runtime import command_inbox
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.setup.genesis_setup import (
    GenesisOptions,
    assemble_genesis,
    found,
    identify,
)
from starling.fleet.runtime.processes.supervisor import (
    child_environment,
    starling_command,
)
from starling.protocol.chain.genesis import GENESIS, FaultModel, Genesis
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.learning.task import TASK
from starling.protocol.schema.toml_settings import sample
from starling.protocol.wire.envelope import MessageKind, sign
from starling.protocol.wire.message_bodies import REGISTER, Register

FLEET = "council"
DEADLINE_S = 120.0
_POLL_S = 0.02


class CoordinatorProcesses:
    """Coordinators as processes.

    Attributes:
      genesis: Of their chain.
      broker: Between them.
      homes: Their folders, in the order of the validator set.
      mosquitto: The broker's process, while they run.
      loader: TLS of the load.
    """

    def __init__(
        self, root: Path, size: int, heartbeat_s: int, ledger: dict[str, object]
    ) -> None:
        """Makes all folders.

        Args:
          root: An empty folder.
          size: How many coordinators.
          heartbeat_s: Longest time without a block.
          ledger: Values of `coordinator.toml`, by dotted key.
        """
        self.broker = BrokerHome(root / "broker")
        self.broker.prepare(BrokerSettings(FLEET, "127.0.0.1", free_port()))
        homes = [CoordinatorHome(root / f"c{number}") for number in range(size)]
        identities = [identify(home, home.path.name) for home in homes]
        model = FaultModel.BYZANTINE
        self.genesis: Genesis = assemble_genesis(FLEET, identities, model, heartbeat_s)
        shared = root / "genesis"
        shared.write_bytes(GENESIS.pack(self.genesis))
        asked = GenesisOptions(FLEET, self.broker.path, "", 0, heartbeat_s, shared)
        for home in homes:
            found(home, asked)
            values = {**_first_values(home), **ledger}
            (home.path / FILE).write_text(sample(CoordinatorConfig, values))
        self.homes = sorted(homes, key=lambda home: home.signing_key().public)
        self.loader: TlsFiles = admit_loader(self.broker, root)
        self.mosquitto: MosquittoProcess | None = None
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    def keys(self) -> list[SigningKey]:
        """The signing keys, in the order of the validator set."""
        return [home.signing_key() for home in self.homes]

    @contextmanager
    def running(self, liar: Sequence[str] = ()) -> Iterator[int]:
        """Within it all coordinators run, and the broker, whose process id it gives.

        Args:
          liar: The last one's command, if it is not the product's.
        """
        with self.broker.process() as broker:
            self.mosquitto = broker
            try:
                *honest, last = range(len(self.homes))
                for index in honest:
                    self.start(index)
                self.start(last, liar)
                self.wait(lambda status: status["broker"] == "connected")
                assert broker.pid is not None
                yield broker.pid
            finally:
                self.end()

    def start(self, index: int, liar: Sequence[str] = ()) -> None:
        """Starts one coordinator, or a liar's command in its place."""
        home = str(self.homes[index].path)
        command = liar or starling_command("coordinator", "run", "--home", home)
        with (self.homes[index].path / "log").open("ab") as log:
            self._children[index] = subprocess.Popen(
                command, stderr=log, env=child_environment()
            )

    def end(self) -> None:
        """Stops all that run."""
        for child in self._children.values():
            child.terminate()
        for child in self._children.values():
            child.wait(DEADLINE_S)
        self._children.clear()

    def kill(self, index: int) -> None:
        """Ends one as a power cut would."""
        child = self._children.pop(index)
        child.kill()
        child.wait()

    def runs(self, index: int) -> bool:
        """Whether one has not ended by itself."""
        return self._children[index].poll() is None

    def publish(self, published: PublishedTask, boards: Sequence[SigningKey]) -> None:
        """Registers boards and publishes a task; returns when all know of both."""
        first = self.homes[0]
        chain_id, operator = self.genesis.chain_id(), first.operator_key()
        for part in (published.bundle, *published.model.parts()):
            command_inbox.drop_blob(first.inbox, part)
        bodies = [
            (MessageKind.REGISTER, REGISTER.pack(Register(key.public)))
            for key in boards
        ]
        bodies.append((MessageKind.TASK, TASK.pack(published.spec)))
        for number, (kind, body) in enumerate(bodies, 1):
            envelope = sign(operator, chain_id, kind, number, body)
            command_inbox.drop_transaction(first.inbox, envelope, chain_id)
        self.wait(
            lambda status: (
                status["chain"]["boards"] == len(boards) and bool(status["tasks"])
            )
        )

    def wait(self, reached: Callable[[dict[str, Any]], bool]) -> None:
        """Waits until the status of all that run shows something."""
        deadline_s = time.monotonic() + DEADLINE_S
        while not all(reached(status) for status in self.statuses()):
            if time.monotonic() > deadline_s:
                heights = [status["chain"]["height"] for status in self.statuses()]
                raise TimeoutError(f"not reached in time, at heights {heights}")
            time.sleep(_POLL_S)

    def statuses(self) -> list[dict[str, Any]]:
        """What those that run last showed; they do so about once a second."""
        return [self.status(index) for index in self._children]

    def status(self, index: int) -> dict[str, Any]:
        """What one coordinator last showed, since it runs."""
        file, child = self.homes[index].status, self._children[index]
        if child.poll() is not None:
            log = (self.homes[index].path / "log").read_text(errors="replace")
            words = f"coordinator {index} ended: {child.returncode}\n{log[-2000:]}"
            raise ChildProcessError(words)
        try:
            found: dict[str, Any] = json.loads(file.read_text())
        except (OSError, ValueError):
            return _NOTHING
        return found if found["pid"] == child.pid else _NOTHING

    def processor_s(self) -> dict[int, float]:
        """Processor time that each has used so far."""
        return {index: used_s(child.pid) for index, child in self._children.items()}

    def pid(self, index: int) -> int:
        """Of one coordinator."""
        return self._children[index].pid


_NOTHING: dict[str, Any] = {
    "broker": "",
    "chain": {"height": 0, "boards": 0, "waiting": 0},
    "tasks": [],
}


def used_s(pid: int, thread: int | None = None) -> float:
    """Processor time of a process, or of one thread of it."""
    place = (
        Path(f"/proc/{pid}") if thread is None else Path(f"/proc/{pid}/task/{thread}")
    )
    fields = (place / "stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which that share of some sorted values lies."""
    return values[min(len(values) - 1, int(share * len(values)))]


def _first_values(home: CoordinatorHome) -> dict[str, object]:
    broker = home.config().broker
    return {
        "broker.host": broker.host,
        "broker.port": broker.port,
        "broker.home": broker.home,
    }

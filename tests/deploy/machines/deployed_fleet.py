"""A broker and a coordinator as services of one machine, and boards on others.

All of it is done with the commands of the pages, as they stand there.
"""

import json
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from starling.compiler import compile_model, write_bundle
from starling.fleet.reference_models import build_model
from tests.deploy.machines import machine_images
from tests.deploy.machines.nspawn_machine import NspawnMachine

HOST = "meadow.example.org"
BROKER, COORDINATOR = "/var/lib/starling-broker", "/var/lib/starling-coordinator"
HOME = "/var/lib/starling"
RECORDS = "/srv/records"
AGENT_UNIT = "starling-agent"
INPUTS, CLASSES, EXAMPLES = 8, 4, 64
TASK = """
name = "meadow"
buffer = 1
leases = 4
pledge_least = 16
pledge_most = 64
patience = 1
patience_s = 1
[privacy]
releases = 400
epsilon = 8.0
"""
_DOCS = machine_images.REPOSITORY / "docs"
_README = machine_images.REPOSITORY / "README.md"


def commands(page: Path, heading: str) -> list[str]:
    """Lines of the first block of commands below a heading."""
    _, _, below = page.read_text("utf-8").partition(f"\n{heading}\n")
    lines: list[str] = []
    for line in below.splitlines():
        if line.startswith("    ") or (lines and not line.strip()):
            lines.append(line.strip())
        elif lines:
            break
    return [line for line in lines if line]


def board_commands() -> list[str]:
    """The three commands with which README.md makes a machine a board."""
    text = _README.read_text("utf-8")
    block = text.split("**On boards**")[1].split("```sh\n")[1].split("```")[0]
    return block.splitlines()


class DeployedFleet:
    """The server's machine, and the wires to its boards.

    Attributes:
      server: Where broker and coordinator run as services.
    """

    def __init__(
        self,
        folder: Path,
        model: onnx.ModelProto | None = None,
        write_data: Callable[[Path, int], None] | None = None,
    ) -> None:
        """Makes the server's root folder.

        Args:
          folder: For the machines' root folders.
          model: What is trained; a small linear one by default.
          write_data: Writes the data of a board with that number into a new folder.
        """
        self._folder = folder
        rng = np.random.default_rng(1)
        self._model = model or build_model("softmax", (INPUTS,), CLASSES, rng)
        self._write_data = write_data or write_records
        root = machine_images.copy(
            machine_images.debian_with_mosquitto(), folder / "meadow"
        )
        wheels = root / "root"
        for wheel in machine_images.coordinator_wheels().glob("*.whl"):
            shutil.copy(wheel, wheels)
        self.server = NspawnMachine(root, "meadow")
        self.boards: list[NspawnMachine] = []

    def found(self) -> None:
        """Founds the fleet by the commands of docs/servers.md, and publishes a task."""
        self.server.boot()
        offline = "export PIP_NO_INDEX=1 PIP_FIND_LINKS=/root; "
        page = _DOCS / "servers.md"
        for heading in ("## Install", "## One broker, one coordinator"):
            for line in commands(page, heading):
                if "apt-get" not in line:  # there is no network; it is in the image
                    named = line.replace("broker.example.org", HOST)
                    self.server.shell(offline + named.replace("sudo ", "sudo -E ", 1))
        self._publish()

    def _publish(self) -> None:
        place = self.server.root / "srv/task"
        place.mkdir()
        write_bundle(compile_model(self._model, loss="cross-entropy"), place / "bundle")
        (place / "task.toml").write_text(TASK)
        self.operate(
            "publish", "--bundle", "/srv/task/bundle", "--task", "/srv/task/task.toml"
        )

    def operate(self, *words: str) -> str:
        """Runs a verb of the coordinator as its operator."""
        command = ["sudo", "-u", "starling", "starling", "coordinator", *words]
        return self.server.run(*command, "--home", COORDINATOR)

    def status(self) -> dict[str, Any]:
        """What the coordinator says of itself."""
        found = json.loads(self.operate("status", "--json"))
        assert isinstance(found, dict)
        return found

    def accepted(self, board: NspawnMachine) -> int:
        """Updates of a board that the chain has."""
        own = agent_status(board)["device"]
        rows = [row for row in self.status()["devices"] if row["id"] == own]
        return sum(int(row["updates_accepted"]) for row in rows)

    def token(self) -> str:
        """A line for one more board."""
        command = ["sudo", "-u", "starling", "starling", "enrol", "token"]
        return self.server.run(*command, "--home", COORDINATOR).strip()

    def new_board(self, package: Path) -> NspawnMachine:
        """A machine fresh from the card, with data, the package's file and a wire."""
        number = len(self.boards) + 1
        name = f"board{number}"
        root = machine_images.copy(machine_images.debian(), self._folder / name)
        shutil.copy(package, root / "root")
        self._write_data(root / RECORDS.lstrip("/"), number)
        board = NspawnMachine(root, name)
        self.boards.append(board)
        board.tell_host(HOST, f"10.77.{number}.1")
        board.boot()
        self.connect(board)
        return board

    def connect(self, board: NspawnMachine) -> None:
        """Lays a wire between board and server; again after one of them was off."""
        number = self.boards.index(board) + 1
        at_board, at_server = f"stb{number}", f"sts{number}"
        # What is left of a wire may stay for a moment after its other end.
        self.server.try_run("ip", "link", "delete", at_server)
        board.try_run("ip", "link", "delete", at_board)
        pair = [
            "ip",
            "link",
            "add",
            at_board,
            "type",
            "veth",
            "peer",
            "name",
            at_server,
        ]
        subprocess.run(pair, check=True)
        board.plug_in(at_board, f"10.77.{number}.2/30")
        self.server.plug_in(at_server, f"10.77.{number}.1/30")

    def enrol(self, board: NspawnMachine) -> list[str]:
        """Makes a machine a board with README's three commands; what each wrote."""
        line = shlex.quote(self.token())
        return [board.shell(each.replace("LINE", line)) for each in board_commands()]

    def close(self) -> None:
        """Ends all machines; their folders are left to who made them."""
        for machine in (*self.boards, self.server):
            machine.cut_power()


def write_records(folder: Path, seed: int) -> None:
    """A board's table: the class is the largest of the first four columns."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(EXAMPLES, INPUTS))
    rows = [",".join([*(f"x{i}" for i in range(INPUTS)), "y"])]
    rows += [",".join([*map(str, row), str(row[:CLASSES].argmax())]) for row in x]
    folder.mkdir(parents=True)
    (folder / "records.csv").write_text("\n".join(rows) + "\n")


def agent_status(board: NspawnMachine) -> dict[str, Any]:
    """What `starling agent status` says on a board, whatever its exit status."""
    done = board.try_run("starling", "agent", "status", "--json")
    found = json.loads(done.stdout) if done.stdout else {}
    assert isinstance(found, dict)
    return found


def final(board: NspawnMachine) -> int:
    """Updates of a board that it has seen proven final, since its home was made."""
    return int((agent_status(board).get("outcomes") or {}).get("final", 0))


def goes_on(board: NspawnMachine) -> None:
    """Waits until a board has one more update final than now."""
    before = final(board)
    board.wait("further update", lambda: final(board) > before)

"""The fleet's listener in a Mosquitto that is here already, which keeps all its own."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from starling.broker.runtime.mosquitto_process import MosquittoProcess, free_port
from tests.e2e.deadline import DEADLINE_S
from tests.e2e.required_mosquitto import require_mosquitto

pytestmark = pytest.mark.e2e

CONNECT = bytes.fromhex("100d00044d51545404020003000161")
"""MQTT 3.1.1, no name, clean session, client `a`."""
CONNECTED = bytes.fromhex("20020000")


@dataclass
class Household:
    """A Mosquitto for other things, and the folder of a broker of the fleet's.

    Attributes:
      folder: Of all of it.
      port: Of the fleet's listener.
      other: Of the household's own.
    """

    folder: Path
    port: int
    other: int

    @property
    def main(self) -> Path:
        return self.folder / "mosquitto.conf"

    @property
    def home(self) -> Path:
        return self.folder / "starling"

    @property
    def ours(self) -> Path:
        return self.folder / "conf.d" / "zz-starling-meadow.conf"

    def starling(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "starling", "broker", *words]
        place = ["--home", str(self.home)]
        return subprocess.run(
            [*command, *place], capture_output=True, text=True, check=False
        )

    def install(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.starling("install", "--mosquitto", str(self.main), *words)

    def files(self) -> dict[str, tuple[bytes, int]]:
        """Content and time of every file of the household's."""
        found = [self.main, *self.main.parent.glob("conf.d/*")]
        return {
            path.name: (path.read_bytes(), path.stat().st_mtime_ns)
            for path in found
            if path != self.ours
        }

    def process(self) -> MosquittoProcess:
        log = self.folder / "mosquitto.log"
        return MosquittoProcess(self.main, "127.0.0.1", self.other, log)

    def lets_anybody_in(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.other), DEADLINE_S) as client:
            client.sendall(CONNECT)
            return client.recv(4) == CONNECTED


@pytest.fixture
def household(tmp_path: Path) -> Household:
    require_mosquitto()
    made = Household(tmp_path, free_port(), free_port())
    made.ours.parent.mkdir()
    me = "root" if os.geteuid() == 0 else "nobody"
    made.main.write_text(
        f"per_listener_settings true\npid_file {tmp_path}/mosquitto.pid\nuser {me}\n"
        f"persistence true\npersistence_location {tmp_path}/\n"
        f"include_dir {made.ours.parent}\n"
    )
    (made.ours.parent / "home.conf").write_text(
        f"listener {made.other} 127.0.0.1\nallow_anonymous true\n"
    )
    port = ("--bind", "127.0.0.1", "--port", str(made.port))
    done = made.starling("init", "--fleet", "meadow", *port)
    assert done.returncode == 0, done.stderr
    return made


def verdicts(household: Household) -> dict[str, str]:
    done = household.starling("check", "--json")
    return {row["name"]: row["verdict"] for row in json.loads(done.stdout)["checks"]}


def test_listener_is_added_serves_the_fleet_and_is_removed_again(
    household: Household,
) -> None:
    before = household.files()

    shown = household.install("--print")
    assert not household.ours.exists()
    done = household.install()

    assert (shown.returncode, done.returncode) == (0, 0), shown.stderr + done.stderr
    assert household.ours.read_text() == shown.stdout
    assert "home.conf:1: who comes in there reaches the fleet's" in done.stderr
    with household.process() as process:
        found = verdicts(household)
        assert {name for name, said in found.items() if said != "ok"} == {
            "mqtt.coordinator-present"
        }
        assert household.lets_anybody_in()
        # It is told of a change though it is no child of ours.
        told = household.starling("expel", "z" * 26)
        assert told.stdout == f"{'z' * 26} expelled; from now on\n"

        assert household.install("--remove").returncode == 0
        process.stop()
        process.start()
        assert household.lets_anybody_in()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", household.port), DEADLINE_S)
    assert household.files() == before
    assert not household.ours.exists()


def test_listener_that_is_alone_needs_no_settings_by_listener(
    household: Household,
) -> None:
    (household.ours.parent / "home.conf").unlink()
    text = household.main.read_text()
    household.main.write_text(text.replace("per_listener_settings true\n", ""))
    household.other = household.port

    done = household.install("--json")

    assert done.returncode == 0, done.stderr
    assert "no line names a listener" in json.loads(done.stdout)["warnings"][0]
    with household.process():
        assert verdicts(household)["mqtt.acl-denied-other"] == "ok"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("listener {port}", "local.conf:1: has port"),
        (
            "per_listener_settings false",
            "home.conf:1: listener {other} 127.0.0.1: wi",
        ),
        ("max_packet_size 1024", "local.conf:1: max_packet_size 1024: the fleet needs"),
    ],
)
def test_line_in_the_way_refuses_and_writes_nothing(
    household: Household, line: str, said: str
) -> None:
    ports = {"port": household.port, "other": household.other}
    local = household.ours.parent / "local.conf"
    local.write_text(line.format(**ports) + "\n")
    before = household.files()

    for words in ((), ("--print",)):
        done = household.install(*words)
        assert done.returncode == 78
        assert said.format(**ports) in done.stderr

    assert household.files() == before
    assert not household.ours.exists()


def test_file_of_somebody_else_is_neither_replaced_nor_removed(
    household: Household,
) -> None:
    household.ours.write_text("# mine\n")

    for words in ((), ("--remove",)):
        done = household.install(*words)
        assert done.returncode == 78
        assert "is not of our making" in done.stderr

    assert household.ours.read_text() == "# mine\n"

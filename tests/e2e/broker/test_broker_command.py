"""`starling broker` as an operator uses it: init, run, check, signals, kill -9."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from starling.broker.broker_settings import BrokerSettings
from starling.broker.link_events import (
    NO_SUBSCRIBER,
    Delivered,
    LinkConnected,
    LinkSettings,
    MessageArrived,
)
from starling.broker.runtime.broker_home import BrokerHome
from starling.broker.runtime.mosquitto_process import free_port
from starling.protocol.errors import ConfigError
from starling.protocol.wire.topics import Topics
from tests.e2e.conftest import Broker, RecordedLink
from tests.e2e.deadline import DEADLINE_S

pytestmark = pytest.mark.e2e


def starling(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "starling", "broker", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )


def running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until(condition: Callable[[], bool]) -> bool:
    """Polls until the deadline; whether the condition came true."""
    deadline_s = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline_s:
        if condition():
            return True
        time.sleep(0.01)
    return False


@pytest.mark.usefixtures("broker")
def test_broker_made_by_init_runs_passes_its_check_and_stops_on_sigterm(
    tmp_path: Path,
) -> None:
    home = str(tmp_path / "home")
    port = str(free_port())
    made = starling(
        "init", "--home", home, "--fleet", "garden", "--port", port, "--json"
    )
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["port"] == int(port)
    with subprocess.Popen(
        [sys.executable, "-m", "starling", "broker", "run", "--home", home, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as service:
        assert service.stdout is not None
        while not (line := service.stdout.readline()).startswith("}"):
            assert line, service.communicate()[1]
        checked = starling("check", "--home", home, "--json")
        second = starling("run", "--home", home)
        service.terminate()
        service.communicate(timeout=DEADLINE_S)

    verdicts = {
        row["name"]: row["verdict"] for row in json.loads(checked.stdout)["checks"]
    }
    assert checked.returncode == 0
    assert {name for name, verdict in verdicts.items() if verdict != "ok"} == {
        "mqtt.coordinator-present"
    }
    assert second.returncode == 78
    assert "already running as pid" in second.stderr
    assert service.returncode == 0
    assert starling("check", "--home", home).returncode == 1


@pytest.mark.usefixtures("broker")
def test_coordinator_admitted_while_the_broker_runs_has_its_rights_at_once(
    tmp_path: Path,
) -> None:
    home = BrokerHome(tmp_path / "home")
    port = free_port()
    home.prepare(BrokerSettings("garden", "127.0.0.1", port))
    assert not home.reload_running()
    tls = home.certificates.issue_files("c1", tmp_path)
    topic = Topics("garden").manifest(0)
    with subprocess.Popen(
        [sys.executable, "-m", "starling", "broker", "run", "--home", home.path],
        stderr=subprocess.PIPE,
        text=True,
    ) as service:
        assert service.stderr is not None
        while "listening" not in (line := service.stderr.readline()):
            assert line
        client = RecordedLink(LinkSettings("127.0.0.1", port, "c1", tls=tls))
        client.link.start()
        client.wait(LinkConnected)
        client.publish(topic, b"x")
        before = client.wait(Delivered).reason_code
        home.admit_coordinator("c1")
        assert home.reload_running()

        def admitted() -> bool:
            client.publish(topic, b"x")
            return client.wait(Delivered).reason_code == NO_SUBSCRIBER

        assert before == 0x87
        assert wait_until(admitted)
        client.link.stop()
        service.terminate()
        service.communicate(timeout=DEADLINE_S)


@pytest.mark.usefixtures("broker")
def test_who_is_expelled_while_the_broker_runs_can_do_nothing_more(
    tmp_path: Path,
) -> None:
    home = BrokerHome(tmp_path / "home")
    port = free_port()
    home.prepare(BrokerSettings("garden", "127.0.0.1", port, coordinators=("c1", "c2")))
    topics = Topics("garden")
    service = subprocess.Popen(
        [sys.executable, "-m", "starling", "broker", "run", "--home", home.path],
        stderr=subprocess.PIPE,
        text=True,
    )
    clients = {}
    try:
        assert service.stderr is not None
        while "listening" not in (line := service.stderr.readline()):
            assert line
        for name, listens in (("c1", "+"), ("c2", "+"), ("b1", "")):
            filters = topics.coordinator_filters(name) if listens else ()
            tls = home.certificates.issue_files(name, tmp_path)
            settings = LinkSettings(
                "127.0.0.1", port, name, tls=tls, subscriptions=filters
            )
            clients[name] = RecordedLink(settings)
            clients[name].link.start()
            clients[name].wait(LinkConnected)
        gone, stays, board = clients["c1"], clients["c2"], clients["b1"]
        gone.publish(topics.gossip("c1"), b"before")
        assert stays.wait(MessageArrived).payload == b"before"

        for name in ("c1", "b1"):
            done = starling("expel", name, "--home", str(home.path), "--json")
            assert json.loads(done.stdout) == {
                "name": name,
                "changed": True,
                "reloaded": True,
            }
        again = starling("expel", "c1", "--home", str(home.path))
        assert (again.returncode, "was expelled before" in again.stdout) == (0, True)

        def refused(client: RecordedLink, topic: str) -> bool:
            client.publish(topic, b"after")
            return client.wait(Delivered).reason_code == 0x87

        assert wait_until(lambda: refused(gone, topics.gossip("c1")))
        assert refused(gone, topics.manifest(0))
        assert wait_until(lambda: refused(board, topics.up("b1")))
        with pytest.raises(ConfigError, match="was expelled"):
            home.admit_coordinator("c1")
        back = starling("init", "--home", str(home.path), "--coordinator", "c1")
        assert back.returncode == 0
        assert home.reload_running()
        assert wait_until(lambda: not refused(gone, topics.gossip("c1")))
    finally:
        for client in clients.values():
            client.link.stop()
        service.terminate()
        service.communicate(timeout=DEADLINE_S)


@pytest.mark.usefixtures("broker")
def test_broker_without_its_authority_s_key_runs_on_under_the_same_authority(
    tmp_path: Path,
) -> None:
    home = BrokerHome(tmp_path / "home")
    home.prepare(BrokerSettings("garden", "127.0.0.1", free_port()))
    home.certificates.authority_key.rename(tmp_path / "safe")
    before = home.authority_certificate.read_bytes()
    with subprocess.Popen(
        [sys.executable, "-m", "starling", "broker", "run", "--home", home.path],
        stderr=subprocess.PIPE,
        text=True,
    ) as service:
        assert service.stderr is not None
        while "listening" not in (line := service.stderr.readline()):
            assert line
        checked = starling("check", "--home", str(home.path))
        service.terminate()
        service.communicate(timeout=DEADLINE_S)

    assert home.authority_certificate.read_bytes() == before
    assert checked.returncode == 0, checked.stdout
    assert "kept elsewhere" in checked.stdout


@pytest.mark.usefixtures("broker")
def test_broker_bound_to_all_of_ipv6_is_reached_by_both_families(
    tmp_path: Path,
) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    port = free_port()
    home = BrokerHome(tmp_path / "home")
    home.prepare(BrokerSettings("garden", "::", port))
    with home.process():
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, port), DEADLINE_S).close()


@pytest.mark.usefixtures("broker")
def test_broker_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    starling("init", "--home", home, "--fleet", "garden", "--port", str(free_port()))
    with subprocess.Popen(
        [sys.executable, "-m", "starling", "broker", "run", "--home", home, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as service:
        assert service.stdout is not None
        text = ""
        while not text.endswith("}\n"):
            text += service.stdout.readline()
        pid = json.loads(text)["pid"]
        assert running(pid)
        service.kill()

    assert wait_until(lambda: not running(pid))


def test_broker_restarts_on_its_port_after_kill(broker: Broker) -> None:
    before = broker.process.pid
    assert before is not None

    os.kill(before, signal.SIGKILL)
    broker.process.wait(lambda: None)
    broker.process.start()

    assert broker.process.pid not in (None, before)


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        ((), 2, "usage"),
        (("init", "--port", "0"), 2, "no whole number in [1, 65535]"),
        (("init",), 78, "--fleet NAME is needed"),
        (("init", "--fleet", "No Good"), 78, "fleet name 'No Good'"),
        (("run",), 78, "starling broker init"),
        (("check",), 78, "starling broker init"),
        (("--help",), 0, "examples:"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
@pytest.mark.usefixtures("broker")
def test_broker_command_with_wrong_words_says_what_is_wrong(
    tmp_path: Path, words: tuple[str, ...], status: int, told: str
) -> None:
    home = ("--home", str(tmp_path / "none")) if words and words[0] != "--help" else ()

    ended = starling(*words, *home)

    assert ended.returncode == status
    assert told in ended.stdout + ended.stderr

"""Finding Mosquitto, reading its version, and failing to start it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from starling.broker.runtime import mosquitto_process
from starling.broker.runtime.mosquitto_process import (
    MosquittoProcess,
    find_mosquitto,
    hang_up,
    mosquitto_version,
)
from starling.protocol.errors import ConfigError, OperationError


def program(tmp_path: Path, script: str) -> Path:
    path = tmp_path / "mosquitto"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_find_mosquitto_without_one_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(mosquitto_process, "_EXTRA_FOLDERS", ())

    with pytest.raises(ConfigError, match="apt-get install mosquitto"):
        find_mosquitto()


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("mosquitto version 2.0.11", (2, 0, 11)),
        ("mosquitto version 2.1.2 (build date)", (2, 1, 2)),
    ],
)
def test_version_is_read_from_the_help(
    tmp_path: Path, told: str, expected: tuple[int, int, int]
) -> None:
    path = program(tmp_path, f"echo '{told}'; exit 3")

    assert mosquitto_version(path) == expected


@pytest.mark.parametrize(
    ("told", "match"),
    [
        ("mosquitto version 1.6.12", "1.6.12 found, 2.0.11 needed"),
        ("", "does not tell its version"),
        ("something else", "does not tell its version"),
    ],
    ids=["old", "silent", "other"],
)
def test_version_that_cannot_serve_is_refused(
    tmp_path: Path, told: str, match: str
) -> None:
    with pytest.raises(ConfigError, match=match):
        mosquitto_version(program(tmp_path, f"echo '{told}'"))


def test_broker_that_ends_at_once_is_reported_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, "echo 'Error: Address already in use' >&2; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    process = MosquittoProcess(tmp_path / "conf", "127.0.0.1", 1, tmp_path / "log")

    with pytest.raises(OperationError, match="Address already in use"):
        process.start()

    assert process.pid is None
    process.stop()


def test_port_of_another_program_is_said_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, "touch started")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        process = MosquittoProcess(tmp_path / "conf", "127.0.0.1", port, None)

        with pytest.raises(OperationError, match=f"listens at 127.0.0.1 port {port}:"):
            process.start()

    assert process.pid is None
    assert not (tmp_path / "started").exists()


def test_halted_process_is_told_from_one_that_sleeps() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        sleeps = mosquitto_process._is_halted(child.pid)
        child.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
        halted = mosquitto_process._is_halted(child.pid)
        child.kill()

    assert (sleeps, halted) == (False, True)
    assert not mosquitto_process._is_halted(child.pid)


SLOW_TO_HANDLE = """
import signal, socket, time
listener = socket.create_server(("127.0.0.1", {port}))
time.sleep(0.5)
signal.signal(signal.SIGHUP, lambda *_: print("reloaded", flush=True))
while True:
    time.sleep(60)
"""


def test_broker_that_listens_before_it_handles_signals_survives_a_reload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, log = mosquitto_process.free_port(), tmp_path / "log"
    (tmp_path / "broker.py").write_text(SLOW_TO_HANDLE.format(port=port))
    program(tmp_path, f"exec {sys.executable} {tmp_path / 'broker.py'}")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    process = MosquittoProcess(tmp_path / "conf", "127.0.0.1", port, log)

    process.start()
    try:
        process.reload()
        deadline_s = time.monotonic() + 60.0
        while "reloaded" not in log.read_text():
            assert process.pid is not None, "the reload ended it"
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
    finally:
        process.kill()


def test_broker_that_a_hang_up_would_end_gets_none(tmp_path: Path) -> None:
    (tmp_path / "pid").touch()
    deaf = "import sys, time; print('begun', flush=True); time.sleep(60)"
    command = [sys.executable, "-c", deaf, "mosquitto"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            child.stdout.readline()
            (tmp_path / "pid").write_text(str(child.pid))

            assert not hang_up(tmp_path / "pid")

            assert child.poll() is None
        finally:
            child.kill()
    assert child.returncode == -signal.SIGKILL


# As Mosquitto does whose handlers are set, but which does not note yet that it runs.
DEAF_AT_FIRST = """
import os, signal, socket, sys, time
listener = socket.create_server(("127.0.0.1", {port}))
asked = []
def end(*_):
    asked.append(1)
    if len(asked) > 1:
        os._exit(0)
signal.signal(signal.SIGHUP, lambda *_: None)
signal.signal(signal.SIGTERM, end)
while True:
    time.sleep(60)
"""


@pytest.fixture
def deaf_at_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MosquittoProcess]:
    port = mosquitto_process.free_port()
    (tmp_path / "broker.py").write_text(DEAF_AT_FIRST.format(port=port))
    program(tmp_path, f"exec {sys.executable} {tmp_path / 'broker.py'}")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    process = MosquittoProcess(tmp_path / "conf", "127.0.0.1", port, tmp_path / "log")
    yield process
    process.kill()


def test_broker_that_missed_the_first_request_to_end_ends_by_the_next(
    deaf_at_first: MosquittoProcess,
) -> None:
    deaf_at_first.start()
    child = deaf_at_first._child
    assert child is not None
    deaf_at_first.stop()
    assert child.returncode == 0, "it was killed, and kept nothing"

    deaf_at_first.start()
    deaf_at_first.terminate()
    assert deaf_at_first.wait(lambda: None) == 0


OWNER = """
import sys, time
from collections.abc import Iterator
from pathlib import Path
from starling.broker.runtime.mosquitto_process import MosquittoProcess
folder, port = Path(sys.argv[1]), int(sys.argv[2])
process = MosquittoProcess(folder / "conf", "127.0.0.1", port, folder / "log")
process.start()
print(process.pid, flush=True)
time.sleep(600)
"""


def test_broker_that_missed_its_watcher_s_request_ends_all_the_same(
    deaf_at_first: MosquittoProcess, tmp_path: Path
) -> None:
    words = [sys.executable, "-c", OWNER, str(tmp_path), str(deaf_at_first.port)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        owner.kill()
    deadline_s = time.monotonic() + 60.0
    while _runs(pid):
        assert time.monotonic() < deadline_s, "nobody owns it, and it runs"
        time.sleep(0.02)


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


DRAW_OF = """
import sys
from starling.broker.runtime import mosquitto_process
from starling.protocol.errors import OperationError
mosquitto_process._PORTS = [int(port) for port in sys.argv[1:]]
try:
    print(mosquitto_process.free_port(), flush=True)
except OperationError as error:
    print(error, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[deque[socket.socket]]:
    """Ports that a test draws, apart from those of others."""
    mine: deque[socket.socket] = deque()
    monkeypatch.setattr(mosquitto_process, "_HELD", mine)
    yield mine
    for each in mine:
        each.close()


def drawer(ports: list[int]) -> subprocess.Popen[str]:
    """A program that draws one of the ports, says which, and waits."""
    return subprocess.Popen(
        [sys.executable, "-c", DRAW_OF, *map(str, ports)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def said(program: subprocess.Popen[str]) -> str:
    assert program.stdout is not None
    return program.stdout.readline().strip()


@pytest.mark.skipif(sys.platform != "linux", reason="ports are held on Linux only")
def test_two_programs_that_draw_at_one_moment_never_get_the_same_port(
    held: deque[socket.socket],
) -> None:
    ports = [mosquitto_process.free_port() for _ in range(2)]
    for each in held:
        each.close()

    programs = [drawer(ports) for _ in range(2)]
    try:
        drawn = sorted(int(said(each)) for each in programs)
        with drawer(ports) as late:
            refused = said(late)
            late.kill()
        # As a broker does whose port another program has drawn for it.
        for port in drawn:
            socket.create_server(("127.0.0.1", port)).close()
    finally:
        for child in programs:
            child.communicate()

    assert drawn == sorted(ports)
    assert refused.startswith("no free TCP port")


@pytest.mark.skipif(sys.platform != "linux", reason="ports are held on Linux only")
def test_held_ports_are_bounded_and_the_oldest_is_closed(
    held: deque[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mosquitto_process, "_HELD_MOST", 2)
    mosquitto_process.free_port()
    first = held[0]

    for _ in range(2):
        mosquitto_process.free_port()

    assert first.fileno() == -1
    assert len(held) == 2

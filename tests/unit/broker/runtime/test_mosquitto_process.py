"""Finding Mosquitto, reading its version, and failing to start it."""

import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from starling.broker.runtime import mosquitto_process
from starling.broker.runtime.mosquitto_process import (
    MosquittoProcess,
    find_mosquitto,
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

"""The console beside a coordinator: comes, comes back, and goes with it."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from starling.coordinator.runtime import console_process
from starling.coordinator.runtime.console_process import console_beside
from starling.protocol.errors import ConfigError
from starling.service.web_access import WebAccess

TIMEOUT_S = 180.0
HOLDER = """
import os, sys
from pathlib import Path
from starling.coordinator.runtime.console_process import console_beside
from starling.service.web_access import WebAccess
say = lambda text: print(text, flush=True)
with console_beside(Path(sys.argv[1]), "0", WebAccess(), say):
    os.kill(os.getpid(), 9)
"""


def answer(url: str) -> str:
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as found:  # noqa: S310 - our own
        text: str = found.read().decode()
    return text


def test_console_runs_during_the_block_and_not_after_it(tmp_path: Path) -> None:
    said: list[str] = []

    with console_beside(tmp_path, "0", WebAccess(), said.append):
        url = said[0].removeprefix("console: ")
        assert "has the coordinator run?" in answer(url)

    with pytest.raises(OSError, match="refused"):
        answer(url)


def test_console_that_was_killed_comes_back_under_its_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console_process, "PAUSE_S", 0.01)
    said: list[str] = []
    children = []
    start = subprocess.Popen

    def noted(*words: object, **options: object) -> object:
        children.append(start(*words, **options))  # type: ignore[call-overload]  # passed on
        return children[-1]

    monkeypatch.setattr(subprocess, "Popen", noted)
    with console_beside(tmp_path, "0", WebAccess(), said.append):
        os.kill(children[0].pid, signal.SIGKILL)
        children[0].wait()
        # The socket stays open meanwhile, so the request waits for the next console.
        assert "has the coordinator run?" in answer(said[0].removeprefix("console: "))
        assert len(children) == 2


def test_console_goes_when_its_coordinator_is_killed(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )

    # Its output ended, so the console, which had it too, is gone.
    assert done.returncode == -signal.SIGKILL
    with pytest.raises(OSError, match="refused"):
        answer(done.stdout.strip().removeprefix("console: "))


def test_port_that_is_taken_is_said_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        beside = console_beside(tmp_path, str(port), WebAccess(), print)
        with pytest.raises(ConfigError, match="another port"), beside:
            pytest.fail("the block was entered")


def test_token_file_that_others_read_is_refused_before_anything_starts(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "token"
    file.write_text("x" * 32)
    file.chmod(0o644)
    beside = console_beside(tmp_path, "0", WebAccess(file), print)

    with pytest.raises(ConfigError, match="did not start"), beside:
        pytest.fail("the block was entered")

    assert "chmod 600" in capfd.readouterr().err


def test_token_file_without_a_console_is_a_mistake(tmp_path: Path) -> None:
    beside = console_beside(tmp_path, None, WebAccess(tmp_path / "token"), print)
    with pytest.raises(ConfigError, match="--web"), beside:
        pytest.fail("the block was entered")


def test_without_a_wish_there_is_no_console(tmp_path: Path) -> None:
    said: list[str] = []
    with console_beside(tmp_path, None, WebAccess(), said.append):
        assert said == []


def test_missing_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console_process, "_NEEDED", ("nowhere_to_be_found",))
    beside = console_beside(tmp_path, "0", WebAccess(), print)

    with pytest.raises(ConfigError, match=r"pip install '.\[web\]'"), beside:
        pytest.fail("the block was entered")

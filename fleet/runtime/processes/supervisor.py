"""Child processes, kept running as a service manager would keep them.

A child that dies is started again after a pause that doubles with every death in a
row, but not when it ended with 78: then its configuration is wrong, and the fleet
stops with its last words. All children share one process group with a watcher that
ends the group when this process goes, however it goes: no run leaves processes behind.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from starling.durable.files import write_atomic
from starling.protocol.errors import EXIT_CONFIG, ConfigError
from starling.sandbox.child_process import PACKAGES

RESTART_PAUSE_S = 0.5
RESTART_PAUSE_S_MAX = 8.0
STABLE_S = 10.0
"""A child that ran this long is not dying in a row."""
STOP_TIMEOUT_S = 10.0
_LAST_WORDS_CHARS = 1500
_READABLE = 0o644
_WATCHER = (
    'trap "" TERM; read line; [ "$line" = done ] || '
    "{ kill -TERM -$$; sleep 5; kill -KILL -$$; }"
)


@dataclass(frozen=True)
class SupervisedProcess:
    """A command that is to run until the fleet stops.

    Attributes:
      name: For people.
      command: Program and arguments; see `starling_command`.
      log: File for its standard error and output.
      tier: Higher ones stop before lower ones.
    """

    name: str
    command: tuple[str, ...]
    log: Path
    tier: int = 0


@dataclass
class _Running:
    service: SupervisedProcess
    child: subprocess.Popen[bytes] | None
    started_s: float
    pause_s: float = RESTART_PAUSE_S
    again_at_s: float | None = None


@dataclass
class ProcessSupervisor:
    """Starts services, restarts them and stops them; use it in a `with` block.

    Attributes:
      register: File that names the process of each service that is up; None for none.
      restarts: How often a service was started again.
    """

    register: Path | None = None
    restarts: int = 0
    _running: dict[str, _Running] = field(default_factory=dict)
    _watcher: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "ProcessSupervisor":
        """Starts the watcher, whose group all children join."""
        self._watcher = subprocess.Popen(  # noqa: S603 - a constant script
            ["/bin/sh", "-c", _WATCHER], stdin=subprocess.PIPE, process_group=0
        )
        return self

    def __exit__(self, *raised: object) -> None:
        """Stops everything that was started."""
        self.stop()

    def start(self, service: SupervisedProcess) -> None:
        """Starts a service and keeps it running from now on."""
        assert service.name not in self._running
        child = self._spawn(service)
        self._running[service.name] = _Running(service, child, time.monotonic())
        self._write_register()

    def pid(self, name: str) -> int | None:
        """Process id of a service, None while it is down."""
        child = self._running[name].child
        return child.pid if child and child.poll() is None else None

    def kill(self, name: str) -> None:
        """Kills a service as a power cut would; it stays down until `revive`."""
        entry = self._running[name]
        if entry.child is not None:
            entry.child.kill()
            # Reaped at once, so that `check` does not take it for a death to be mended.
            entry.child.wait()
        entry.child, entry.again_at_s = None, None
        self._write_register()

    def revive(self, name: str) -> None:
        """Starts a killed service again; one that runs goes on."""
        entry = self._running[name]
        if entry.child is None:
            entry.again_at_s = None
            entry.child = self._spawn(entry.service)
            entry.started_s = time.monotonic()
            self._write_register()

    def pause(self, name: str) -> None:
        """Has a service stand still, with all that it has in memory."""
        self._signal(name, signal.SIGSTOP)

    def go_on(self, name: str) -> None:
        """Lets a paused service run; one that runs, or is down, stays as it is."""
        self._signal(name, signal.SIGCONT)

    def _signal(self, name: str, number: signal.Signals) -> None:
        child = self._running[name].child
        if child is not None:
            child.send_signal(number)

    def check(self) -> list[str]:
        """Notes deaths and starts again what is due.

        Returns:
          One line for every death and every restart.

        Raises:
          ConfigError: If a service refuses its configuration; with its last words.
        """
        now_s = time.monotonic()
        notices: list[str] = []
        for entry in self._running.values():
            if entry.child is not None and entry.child.poll() is not None:
                notices.append(_bury(entry, now_s))
            elif entry.again_at_s is not None and now_s >= entry.again_at_s:
                entry.again_at_s = None
                entry.child = self._spawn(entry.service)
                entry.started_s = now_s
                self.restarts += 1
                notices.append(f"{entry.service.name} was started again")
        if notices:
            self._write_register()
        return notices

    def stop_services(self, tier_least: int = 0) -> None:
        """Ends services, tier by tier from the highest, and waits for each.

        Args:
          tier_least: Lower tiers go on.
        """
        tiers = {entry.service.tier for entry in self._running.values()}
        for tier in sorted((t for t in tiers if t >= tier_least), reverse=True):
            names = [n for n, e in self._running.items() if e.service.tier == tier]
            entries = [self._running.pop(name) for name in names]
            _end([entry.child for entry in entries if entry.child is not None])

    def stop(self) -> None:
        """Ends all services, then whatever is left of their group. Safe to repeat."""
        self.stop_services()
        if self._watcher is not None:
            # Grandchildren that outlived their parents are in the group too.
            os.killpg(self._watcher.pid, signal.SIGKILL)
            self._watcher.communicate()
            self._watcher = None

    def _write_register(self) -> None:
        if self.register is None:
            return
        pids = {
            name: entry.child.pid
            for name, entry in self._running.items()
            if entry.child is not None
        }
        write_atomic(self.register, json.dumps(pids).encode(), _READABLE)

    def _spawn(self, service: SupervisedProcess) -> subprocess.Popen[bytes]:
        assert self._watcher is not None, "use it in a with block"
        # Appended to: a restart must not take the last words with it.
        with service.log.open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - our own command
                service.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=child_environment(),
                process_group=self._watcher.pid,
            )


def _end(children: list[subprocess.Popen[bytes]]) -> None:
    for child in children:
        child.terminate()
        # A paused one takes note of its end only once it runs.
        child.send_signal(signal.SIGCONT)
    deadline_s = time.monotonic() + STOP_TIMEOUT_S
    for child in children:
        try:
            child.wait(max(0.0, deadline_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def starling_command(*words: str) -> tuple[str, ...]:
    """The command that runs `starling` with these words, from this source tree."""
    return (sys.executable, "-m", "starling", *words)


def listens(port: int) -> bool:
    """True if a process accepts connections on a port of this machine."""
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True


def child_environment() -> dict[str, str]:
    """The environment in which children run this very source tree, installed or not."""
    paths = [str(PACKAGES), os.environ.get("PYTHONPATH", "")]
    joined = os.pathsep.join(path for path in paths if path)
    return {**os.environ, "PYTHONPATH": joined, "PYTHONUNBUFFERED": "1"}


def _bury(entry: _Running, now_s: float) -> str:
    """Notes that a child died, and when it is to be started again."""
    assert entry.child is not None
    status, name = entry.child.returncode, entry.service.name
    if status == EXIT_CONFIG:
        words = _last_words(entry.service.log)
        raise ConfigError(f"{name} refuses its configuration: {words}")
    # It lived: what comes next is no death in a row.
    if now_s - entry.started_s >= STABLE_S:
        entry.pause_s = RESTART_PAUSE_S
    entry.child = None
    entry.again_at_s = now_s + entry.pause_s
    entry.pause_s = min(2 * entry.pause_s, RESTART_PAUSE_S_MAX)
    how = f"signal {-status}" if status < 0 else f"exit {status}"
    return f"{name} died ({how})"


def _last_words(log: Path) -> str:
    return log.read_text(errors="replace").strip()[-_LAST_WORDS_CHARS:]

"""A Mosquitto broker as a child process, for fleets, tests and `starling broker run`.

The child ends with its parent, even if the parent is killed: a watcher waits at a pipe
that only the parent holds open. (A parent-death signal would be tied to the thread
that started the child, not to the process.)
"""

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from starling.durable.files import refusal
from starling.protocol.errors import ConfigError, OperationError

START_TIMEOUT_S = 10.0
VERSION_LEAST = (2, 0, 11)
_POLL_S = 0.02
_ALIVE_S = 1.0
_PORTS = range(20_000, 32_000)
_PORT_TRIES = 100
_HELD_MOST = 64
_HELD: deque[socket.socket] = deque()
"""Bound to ports that this process drew last."""
_LOG_TAIL_BYTES = 2000
_EXTRA_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")
_ASKS = 5
# Mosquitto handles signals a moment before it notes that it runs (`signal__setup`, then
# `run = 1`), so that one SIGTERM in between changes nothing: it is asked again.
_WATCHER = f"""
read line
[ "$line" = done ] && exit
for ask in {" ".join(map(str, range(_ASKS)))}
do
    kill "$0" 2>/dev/null || exit 0
    sleep {_ALIVE_S:g}
done
kill -KILL "$0" 2>/dev/null
"""


def find_mosquitto() -> Path:
    """The broker's program, on the path or in the usual system folders.

    Raises:
      ConfigError: If there is none; says how to install it.
    """
    folders = os.pathsep.join((os.environ.get("PATH", ""), *_EXTRA_FOLDERS))
    found = shutil.which("mosquitto", path=folders)
    if found is None:
        raise ConfigError("Mosquitto is not installed; run: apt-get install mosquitto")
    return Path(found)


def mosquitto_version(program: Path) -> tuple[int, int, int]:
    """Asks the program for its version.

    Raises:
      ConfigError: If it does not tell one, or one below `VERSION_LEAST`.
    """
    # Mosquitto prints its help with exit status 3.
    try:
        told = subprocess.run(  # noqa: S603 - the program that the operator installed
            [program, "-h"], capture_output=True, text=True, check=False, timeout=10
        ).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"cannot be run: {error}", file=str(program)) from error
    match = re.search(r"mosquitto version (\d+)\.(\d+)\.(\d+)", told)
    if match is None:
        raise ConfigError("does not tell its version", file=str(program))
    version = (int(match[1]), int(match[2]), int(match[3]))
    if version < VERSION_LEAST:
        least = ".".join(map(str, VERSION_LEAST))
        raise ConfigError(f"{match[0]} found, {least} needed", file=str(program))
    return version


def hang_up(pid_file: Path) -> bool:
    """Has a Mosquitto that is not our child read its access file again.

    Args:
      pid_file: As its configuration names it.

    Returns:
      False if it does not run, we may not send it a signal, or one would end it,
      since it has only just begun.
    """
    try:
        pid = int(pid_file.read_text())
        if b"mosquitto" not in Path(f"/proc/{pid}/cmdline").read_bytes():
            return False
        if not _handles_reload(pid):
            return False
        os.kill(pid, signal.SIGHUP)
    except (OSError, ValueError):
        return False
    return True


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on, nor draws after us.

    It lies below the range from which the system takes the ports of outgoing
    connections, so that none of those can take it before the broker does. On Linux it
    stays bound, without listening, until this process ends or has drawn `_HELD_MOST`
    others: two programs that start brokers at one moment never draw the same port.
    Only a listener that sets SO_REUSEADDR can have it, as brokers and servers do.

    Raises:
      OperationError: If no port is found.
    """
    draw = random.SystemRandom()
    for _ in range(_PORT_TRIES):
        port = draw.choice(_PORTS)
        held = socket.socket()
        try:
            held.bind(("127.0.0.1", port))
        except OSError:
            held.close()
            continue
        if sys.platform == "linux":
            # After the bind, which would pass another's held port with it.
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if len(_HELD) == _HELD_MOST:
                _HELD.popleft().close()
            _HELD.append(held)
        else:
            held.close()
        return port
    raise OperationError(f"no free TCP port in {_PORT_TRIES} tries")


def _handles_reload(pid: int) -> bool:
    """True once a SIGHUP no longer ends the broker.

    Mosquitto listens a moment before it sets its signal handlers. Where the system does
    not tell what a process handles, that moment is taken for over.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True
    handled = re.search(r"^SigCgt:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return handled is None or bool(int(handled[1], 16) >> (signal.SIGHUP - 1) & 1)


class MosquittoProcess:
    """A broker that runs from a configuration file; start it with `start`.

    Attributes:
      port: Where it listens.
      log: The file that its messages are appended to; None for our standard error.
    """

    def __init__(
        self, configuration: Path, host: str, port: int, log: Path | None
    ) -> None:
        """Prepares a broker.

        Args:
          configuration: The file to run from; must listen on `host` and `port`.
          host: Address at which this process can reach it.
          port: TCP port.
          log: Created if missing; None for our standard error.
        """
        self.port = port
        self.log = log
        self._configuration = configuration
        self._host = host
        self._child: subprocess.Popen[bytes] | None = None
        self._is_to_end = False
        self._watcher: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The child's process id; None if it does not run."""
        if self._child is None or self._child.poll() is not None:
            return None
        return self._child.pid

    def start(self) -> None:
        """Starts the broker and waits until it accepts connections.

        Raises:
          ConfigError: If Mosquitto is missing.
          OperationError: If it cannot be started, ends at once or does not listen; with
            its last words.
        """
        assert self.pid is None, "already running"
        self._is_to_end = False
        self._reap()
        program = find_mosquitto()
        # Another program that listens there would pass for ours in the wait below.
        if self._accepts():
            raise OperationError(
                f"another program listens at {self._host} port {self.port}: end it, or "
                "choose another port"
            )
        try:
            self._spawn(program)
            self._wait_until_it_accepts()
        except OSError as error:
            # No processes, no descriptors, or a log that cannot be written.
            self.kill()
            raise OperationError(
                f"{program} cannot be started: {refusal(error)}"
            ) from error
        except BaseException:
            self.kill()
            raise

    def _spawn(self, program: Path) -> None:
        with ExitStack() as stack:
            log = stack.enter_context(self.log.open("ab")) if self.log else sys.stderr
            self._child = subprocess.Popen(  # noqa: S603 - as above
                [program, "-c", self._configuration],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C is for the parent, which stops the broker last.
                start_new_session=True,
            )
        self._watcher = subprocess.Popen(  # noqa: S603 - a constant script
            ["/bin/sh", "-c", _WATCHER, str(self._child.pid)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def stop(self) -> None:
        """Ends the broker cleanly; kills it if that takes too long. Safe to repeat."""
        if self._child is not None and not self._ends():
            self._child.kill()
        self._reap()

    def _ends(self) -> bool:
        """Asks the broker to end, more than once; False if it does not."""
        assert self._child is not None
        # See `_WATCHER`: one SIGTERM may be lost.
        for _ in range(_ASKS):
            self._child.terminate()
            try:
                self._child.wait(_ALIVE_S)
            except subprocess.TimeoutExpired:
                continue
            return True
        return False

    def kill(self) -> None:
        """Ends the broker as a crash would."""
        if self._child is not None and self._child.poll() is None:
            self._child.kill()
        self._reap()

    def reload(self) -> None:
        """Has it read the access rules again; connections stay."""
        if self._child is not None and self._child.poll() is None:
            self._child.send_signal(signal.SIGHUP)

    def terminate(self) -> None:
        """Asks the broker to end, without waiting; safe in a signal handler.

        `wait` asks again while it goes on.
        """
        self._is_to_end = True
        if self._child is not None:
            self._child.terminate()

    def wait(self, alive: Callable[[], None]) -> int:
        """Waits until the broker ends by itself or is stopped.

        Args:
          alive: Called about once a second while the broker runs and is not halted.

        Returns:
          Its exit status.
        """
        child = self._child
        assert child is not None
        while True:
            try:
                return child.wait(_ALIVE_S)
            except subprocess.TimeoutExpired:
                if self._is_to_end:
                    child.terminate()
                elif not _is_halted(child.pid):
                    alive()

    def last_words(self) -> str:
        """The end of its log."""
        if self.log is None:
            return "what it said stands above"
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - _LOG_TAIL_BYTES))
            return log.read().decode(errors="replace").strip()

    def __enter__(self) -> "MosquittoProcess":
        """Starts it for a `with` block."""
        self.start()
        return self

    def __exit__(self, *raised: object) -> None:
        """Stops it."""
        self.stop()

    def _wait_until_it_accepts(self) -> None:
        assert self._child is not None
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline_s:
            if self._child.poll() is not None:
                break
            # Until it handles SIGHUP, the first reload would end the broker.
            if self._accepts() and _handles_reload(self._child.pid):
                return
            time.sleep(_POLL_S)
        status = self._child.poll()
        happened = (
            f"Mosquitto does not answer at {self._host} port {self.port}"
            if status is None
            else f"Mosquitto ended with status {status}"
        )
        raise OperationError(f"{happened}: {self.last_words()}")

    def _accepts(self) -> bool:
        """True if somebody accepts connections where this broker is to listen."""
        try:
            socket.create_connection((self._host, self.port), 1.0).close()
        except OSError:
            return False
        return True

    def _reap(self) -> None:
        if self._child is not None:
            # The watcher last: until the child is gone, it is what ends it if we are
            # killed.
            self._child.wait()
        if self._watcher is not None:
            self._watcher.communicate(b"done\n")
            self._watcher = None


def _is_halted(pid: int) -> bool:
    """True if a process was stopped by a signal or a debugger, as `ps` shows it."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return False
    # The name stands in parentheses and may hold anything.
    return status.rpartition(") ")[2][:1] in {"T", "t"}

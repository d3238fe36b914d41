"""A coordinator's web console, in a process of its own beside it.

The coordinator opens the socket, so that a port that is taken is said before anything
starts and a console that ends comes back under the same address. It holds the other end
of the console's standard input: when the coordinator goes, however it goes, the console
goes too. Nothing else passes between them; the console reads the home's files.
"""

import importlib.util
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from starling.protocol.errors import EXIT_CONFIG, ConfigError
from starling.sandbox.child_process import PACKAGES
from starling.service.listener import listen, parse_address
from starling.service.web_access import WebAccess

log = logging.getLogger("starling.coordinator")

PAUSE_S = 1.0
PAUSE_S_MAX = 60.0
STOP_S = 5.0
_NEEDED = ("starlette", "uvicorn")
_SERVICE_KEYS = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class ConsoleProcess:
    """A console that is started again whenever it ends, until `stop`."""

    def __init__(self, words: list[str], opened: socket.socket) -> None:
        """Starts nothing yet.

        Args:
          words: Command of the console.
          opened: The socket that it serves.
        """
        self._words = words
        self._opened = opened
        self._child: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._watching = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> str:
        """Starts the console.

        Returns:
          Where it is, for people.

        Raises:
          ConfigError: If it refuses what it was given; it has said why.
        """
        child = self._spawn()
        assert child.stdout is not None
        line = child.stdout.readline()
        if not line:
            child.wait()
            _close(child)
            raise ConfigError(
                "the console did not start; its words are above", key="--web"
            )
        self._watching.start()
        return line.decode().strip()

    def stop(self) -> None:
        """Ends the console."""
        self._stopping.set()
        child = self._child
        if child is not None:
            _end(child)
        if self._watching.is_alive():
            self._watching.join(STOP_S)

    def _spawn(self) -> subprocess.Popen[bytes]:
        number = self._opened.fileno()
        self._child = subprocess.Popen(  # noqa: S603 - our own command
            [*self._words, "--inherited", str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(number,),
            env=_environment(),
            # Ctrl-C at a terminal is the coordinator's to pass on.
            start_new_session=True,
        )
        return self._child

    def _watch(self) -> None:
        pause_s = PAUSE_S
        while True:
            assert self._child is not None
            status = self._child.wait()
            _close(self._child)
            # With the same settings it would refuse again.
            if self._stopping.is_set() or status == EXIT_CONFIG:
                return
            log.warning("the console ended with %d; again in %g s", status, pause_s)
            if self._stopping.wait(pause_s):
                return
            pause_s = min(2 * pause_s, PAUSE_S_MAX)
            child = self._spawn()
            if self._stopping.is_set():
                _end(child)


@contextmanager
def console_beside(
    home: Path,
    web: str | None,
    access: WebAccess,
    say: Callable[[str], None],
) -> Iterator[None]:
    """Has a console run during the block, if one is wanted.

    Args:
      home: The coordinator's.
      web: `[HOST:]PORT`; None for no console.
      access: Token and TLS.
      say: Called with where it is.

    Raises:
      ConfigError: If it cannot listen there, or is not installed.
    """
    if web is None:
        if access != WebAccess():
            raise ConfigError("give --web [HOST:]PORT with it", key=access.words()[0])
        yield
        return
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"the package {missing[0]!r} is missing; in a checkout run: "
            "pip install '.[web]'",
            key="--web",
        )
    host, port = parse_address(web)
    with listen(host, port) as opened:
        words = [sys.executable, "-m", "starling", "console", "run"]
        words += ["--home", str(home), "--web", web, *access.words()]
        console = ConsoleProcess(words, opened)
        try:
            say(console.start())
            yield
        finally:
            console.stop()


def _environment() -> dict[str, str]:
    """Environment with this very source tree, without the service manager's way."""
    paths = [str(PACKAGES), os.environ.get("PYTHONPATH", "")]
    # To the service manager the coordinator alone speaks for the service.
    kept = {key: value for key, value in os.environ.items() if key not in _SERVICE_KEYS}
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(STOP_S)
    except subprocess.TimeoutExpired:
        child.kill()


def _close(child: subprocess.Popen[bytes]) -> None:
    """Closes our ends of an ended console's pipes."""
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()

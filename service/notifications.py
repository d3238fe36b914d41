"""Notices of a service to its manager: that it is ready, alive, or about to end.

Datagrams to the socket that the manager names, as systemd's protocol has it. Nothing
here can fail the service: without a manager every call does nothing, and a manager that
does not listen is not our fault.

The watchdog is fed by whoever does the work, between two pieces of it. A thread of its
own would say that all is well while the work hangs.

Source: sd_notify(3) and sd_watchdog_enabled(3) of systemd 252.
"""

import os
import socket
from collections.abc import MutableMapping
from contextlib import suppress

_SOCKET, _WATCHDOG, _PID = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"
_TEXT_CHARS_MAX = 200
_MICROSECONDS = 1_000_000


class ServiceNotifier:
    """The way to the service manager; a void one if there is none.

    Attributes:
      due_s: Monotonic time at which `feed` has to be called again; inf without a
        watchdog.
    """

    def __init__(self, address: str = "", watchdog_s: float = 0.0) -> None:
        """Names the manager's socket.

        Args:
          address: A path, or `@` and a name in the abstract space; empty for none.
          watchdog_s: Silence after which the manager ends the service; 0 for never.
        """
        self._address = "\0" + address[1:] if address.startswith("@") else address
        # As sd_watchdog_enabled(3) recommends: one late notice is no end.
        self._every_s = watchdog_s / 2
        watched = bool(address) and watchdog_s > 0
        self.due_s = 0.0 if watched else float("inf")
        self._told = ""

    @classmethod
    def from_environment(
        cls, environment: MutableMapping[str, str] | None = None
    ) -> "ServiceNotifier":
        """Takes what the manager handed over, and takes it out of the environment.

        Children must not speak for the service: the manager would refuse them and log
        each try.

        Args:
          environment: Of this process, by default.
        """
        given = os.environ if environment is None else environment
        address = given.pop(_SOCKET, "")
        period, pid = given.pop(_WATCHDOG, ""), given.pop(_PID, "")
        is_ours = pid in ("", str(os.getpid()))
        watchdog_s = int(period) / _MICROSECONDS if is_ours and period.isdigit() else 0
        if not address.startswith(("/", "@")):
            return cls()
        return cls(address, watchdog_s)

    def ready(self, text: str) -> None:
        """The service works; `text` is what it does first."""
        self._send("READY=1", self._status(text))

    def status(self, text: str) -> None:
        """Text for `systemctl status`; the same text is not sent twice in a row."""
        line = self._status(text)
        if line != self._told:
            self._send(line)

    def stopping(self) -> None:
        """The service has begun to end."""
        self._send("STOPPING=1")

    def feed(self, now_s: float) -> None:
        """Says that work goes on, twice in each period; more often it does nothing."""
        if now_s >= self.due_s:
            self.due_s = now_s + self._every_s
            self._send("WATCHDOG=1")

    def _status(self, text: str) -> str:
        shown = " ".join(text.split())
        return f"STATUS={shown[:_TEXT_CHARS_MAX]}"

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        self._told = next((it for it in lines if it.startswith("STATUS=")), self._told)
        flags = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
        with suppress(OSError), socket.socket(socket.AF_UNIX, flags) as way:
            # A manager that is stuck must not make the service so.
            way.setblocking(False)
            way.sendto("\n".join(lines).encode(), self._address)

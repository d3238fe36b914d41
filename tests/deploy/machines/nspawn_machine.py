"""A machine with a systemd of its own: a root folder that systemd-nspawn boots.

It is not registered with machined, which may not run here; commands are run in its
namespaces. The network is none but the wires to other machines, so that nothing of this
machine's own network is touched and no name of it is known there.

Source: systemd-nspawn(1) of systemd 252.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.e2e.deadline import DEADLINE_S

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_VALUES = {"PATH": _PATH, "TERM": "dumb", "HOME": "/root", "LANG": "C.UTF-8"}
_NAMESPACES = ("-m", "-u", "-i", "-n", "-p", "-r", "-w")
_CONTROLLERS = ("memory", "cpu", "pids", "cpuacct")
STEP_S = 0.1


class NspawnMachine:
    """A machine that boots, is cut off from its power, and boots again.

    Attributes:
      root: Its root folder, which it may change.
      name: Its host name.
    """

    def __init__(self, root: Path, name: str) -> None:
        self.root = root
        self.name = name
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._leader = 0
        (root / "etc/hostname").write_text(f"{name}\n")
        self.tell_host(name, "127.0.1.1")

    @property
    def console(self) -> Path:
        """What the machine wrote to its console."""
        return self.root.with_name(f"{self.root.name}.console")

    def tell_host(self, name: str, address: str) -> None:
        """Makes the machine resolve a name."""
        hosts = self.root / "etc/hosts"
        before = hosts.read_text() if hosts.exists() else "127.0.0.1 localhost\n"
        hosts.write_text(f"{before}{address} {name}\n")

    def boot(self) -> None:
        """Starts the machine and waits until systemd has no more to start."""
        command = [
            *("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot"),
            *("-D", str(self.root), "-M", self.name, "--console=passive"),
            *("--private-network", "--resolv-conf=off", "--link-journal=no"),
        ]
        with self.console.open("ab") as console:
            self._nspawn = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        pid = self._nspawn.pid
        self.wait("first process", lambda: first_process(pid) != 0)
        self._leader = first_process(pid)
        self.wait("systemd", lambda: self.state() in ("running", "degraded"))

    def state(self) -> str:
        """What systemd says of itself as a whole."""
        return self.try_run("systemctl", "is-system-running").stdout.strip()

    def plug_in(self, interface: str, address: str) -> None:
        """Takes an interface of this machine's and gives it an address with its mask.

        It goes away when the machine ends, and its other end with it.
        """
        move = ["ip", "link", "set", interface, "netns", str(self._leader)]
        subprocess.run(move, check=True)
        self.run("ip", "address", "add", address, "dev", interface)
        self.run("ip", "link", "set", interface, "up")

    def try_run(
        self, *words: str | Path, given: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command as root in the machine, with an environment of its own."""
        return subprocess.run(
            [*self._enter(), *map(str, words)],
            env=_VALUES,
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )

    def begin(self, line: str, out: Path) -> subprocess.Popen[bytes]:
        """Starts a line as somebody types it; what it writes goes into a file here."""
        with out.open("wb") as written:
            return subprocess.Popen(
                [*self._enter(), "bash", "-c", f"cd /root && {line}"],
                env=_VALUES,
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=written,
            )

    def _enter(self) -> list[str]:
        return ["nsenter", "-t", str(self._leader), *_NAMESPACES, "--"]

    def run(self, *words: str | Path, given: str = "") -> str:
        """Runs a command that has to succeed; returns what it wrote."""
        done = self.try_run(*words, given=given)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def shell(self, line: str) -> str:
        """Runs a line as somebody types it."""
        return self.run("bash", "-c", f"cd /root && {line}")

    def journal(self, unit: str, *words: str) -> str:
        """A unit's lines."""
        return self.run("journalctl", "--no-pager", "-o", "cat", "-u", unit, *words)

    def shown(self, unit: str, field: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--value", "-p", field, unit).strip()

    def main_pid(self, unit: str) -> int:
        """Main process of a unit as the machine numbers it; 0 for none."""
        return int(self.shown(unit, "MainPID"))

    def signal(self, pid: int, name: str) -> None:
        """Sends a signal to a process of the machine, which may have no `kill`."""
        self.run("sh", "-c", f"kill -{name} {pid}")

    def enforce_limits(self) -> None:
        """Lets the machine's systemd write the control groups that it is given.

        Under control groups v1 nspawn mounts them read-only, and limits of units are
        left out without a word.
        """
        for name in ("", *_CONTROLLERS):
            place = f"/sys/fs/cgroup/{name}"
            if (Path("/sys/fs/cgroup") / name).is_dir():
                self.run("mount", "-o", "remount,bind,rw", place)
        self.run("systemctl", "daemon-reexec")

    def wait(self, what: str, holds: Callable[[], bool]) -> None:
        """Waits until something holds; fails with the console's end."""
        until_s = time.monotonic() + DEADLINE_S
        while not holds():
            if time.monotonic() > until_s:
                end = self.console.read_text(errors="replace")[-2000:]
                raise AssertionError(f"{self.name}: no {what} in {DEADLINE_S} s\n{end}")
            time.sleep(STEP_S)

    def cut_power(self) -> None:
        """Ends every process of the machine at once; what the disk has stays."""
        if self._nspawn is None:
            return
        # Without its leader nspawn ends; killed itself it would leave the leader.
        if self._leader:
            os.kill(self._leader, signal.SIGKILL)
        self._nspawn.wait(DEADLINE_S)
        self._nspawn, self._leader = None, 0


def first_process(nspawn: int) -> int:
    """The child of a nspawn that is process 1 of its machine; 0 while there is none.

    A helper that makes it is a child, too, and ends.
    """
    for child in Path(f"/proc/{nspawn}/task/{nspawn}/children").read_text().split():
        with suppress(OSError):
            lines = Path(f"/proc/{child}/status").read_text().splitlines()
            (numbers,) = [
                line.split()[1:] for line in lines if line.startswith("NSpid")
            ]
            if len(numbers) > 1 and numbers[-1] == "1":
                return int(child)
    return 0

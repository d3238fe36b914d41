"""The real trainer, taken over by hostile code once it is confined.

`python hostile_trainer.py [WITHOUT ...]` is fed like `agent.trainer.worker`. It answers
each job with what became of every attempt, as JSON in the payload; the job's label
names the groups to try. WITHOUT names what this kernel is said to lack; `honest` leaves
the trainer what it is.
"""

import ctypes
import errno
import json
import os
import socket
import struct
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import starling.agent.trainer.worker as trainer
from starling.agent.training.trainer_messages import TrainerJob, TrainerReportKind
from starling.sandbox import landlock, seccomp
from starling.sandbox.syscalls import call, control

LIBC = ctypes.CDLL(None, use_errno=True)
PTRACE_ATTACH = 16
SECRET = b"a patient of 36.6 degrees"
"""What a library may print, or put into an exception."""
UNFILTERED = {335, 336} if os.uname().machine == "x86_64" else set()
"""For the kernel's own probes; they pass every filter, and end whoever else calls."""
Attempts = dict[str, Callable[[], Any]]


def _libc(name: str, *arguments: Any) -> None:  # noqa: ANN401 - what ctypes takes
    if getattr(LIBC, name)(*arguments) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _steal(pid: int) -> None:
    buffer = ctypes.create_string_buffer(8)
    vector = struct.pack("PN", ctypes.addressof(buffer), 8)
    there = ctypes.create_string_buffer(vector, 16)
    _libc("process_vm_readv", pid, there, 1, there, 1, 0)


def reading(home: Path, parent: int) -> Attempts:
    """Files that are none of the trainer's business."""
    files = {
        "key": home / "keys" / "device.seed",
        "state": home / "state" / "privacy.journal",
        "spool": home / "spool" / "waiting",
        "settings": home / "agent.toml",
        "passwd": Path("/etc/passwd"),
        "memory of the agent": Path(f"/proc/{parent}/mem"),
        "environment of the agent": Path(f"/proc/{parent}/environ"),
        "out of the models": home / "models" / ".." / "keys" / "device.seed",
        "by a link in the data": home / "data" / "link.npz",
        "by our own root": Path(f"/proc/self/root{home}/keys/device.seed"),
    }
    tries: Attempts = {name: file.read_bytes for name, file in files.items()}
    folders = {"names of keys": home / "keys", "names in /tmp": Path("/tmp")}  # noqa: S108 - to be refused
    return tries | {
        name: lambda folder=folder: list(folder.iterdir())
        for name, folder in folders.items()
    }


def writing(home: Path) -> Attempts:
    """Changes to the disk, wherever a hostile trainer would like some."""
    blob, data = home / "models" / "bundle", home / "data" / "a.npz"
    folders = (Path(), home / "models", home / "data", home / "state", Path("/tmp"))  # noqa: S108 - to be refused
    made: Attempts = {
        f"make a file in {folder.name or 'its own folder'}": (folder / "x").touch
        for folder in folders
    }
    return made | {
        "write to a blob": lambda: blob.open("r+b"),
        "append to data": lambda: data.open("ab"),
        "truncate data": lambda: os.truncate(data, 0),
        "remove data": data.unlink,
        "rename a blob": lambda: blob.rename(home / "models" / "other"),
        "link to data": lambda: (home / "models" / "y").hardlink_to(data),
        "link to a key": lambda: (home / "models" / "z").symlink_to("../keys"),
        "make a folder": (home / "models" / "folder").mkdir,
        "change a mode": lambda: data.chmod(0o777),
        "change an owner": lambda: os.chown(data, 0, 0),
        "change times": lambda: os.utime(data, (0, 0)),
        "set an attribute": lambda: os.setxattr(data, "user.x", b"y"),
        "make a file in memory": lambda: os.memfd_create("x"),
        "write to the null device": lambda: Path(os.devnull).open("wb"),
    }


def reaching(parent: int) -> Attempts:
    """Connections, programs, other processes, and more rights."""
    return {
        "a TCP socket": socket.socket,
        "a UDP socket": lambda: socket.socket(type=socket.SOCK_DGRAM),
        "a Unix socket": lambda: socket.socket(socket.AF_UNIX),
        "a netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
        "a pair of sockets": socket.socketpair,
        "a program": lambda: os.execv("/bin/true", ["true"]),  # noqa: S606 - to be refused
        "a spawned program": lambda: os.posix_spawn("/bin/true", ["true"], {}),
        "a child": os.fork,
        "trace the agent": lambda: _libc("ptrace", PTRACE_ATTACH, parent, 0, 0),
        "read the agent": lambda: _steal(parent),
        "signal the agent": lambda: os.kill(parent, 0),
        "signal a stranger": lambda: os.kill(1, 0),
        "a handle on the agent": lambda: os.pidfd_open(parent),
        "a namespace": lambda: _libc("unshare", 0x10000000),
        "mount": lambda: _libc("mount", b"x", b"/none", b"tmpfs", 0, None),
        "another root": lambda: os.chroot("/"),
        "another folder": lambda: os.chdir("/"),
        "a core dump after all": lambda: control(4, 1),
        "to outlive the agent": lambda: control(1, 0),
        "another limit": lambda: _libc("setrlimit", 7, struct.pack("QQ", 64, 64)),
    }


def forbidden_calls() -> dict[str, str]:
    """What came of calling, with zeros, each number that is not listed."""
    column = seccomp.MACHINES[os.uname().machine]
    listed = {(row[0], row[1])[column] for row in seccomp.CALLS.values()}
    found: dict[str, str] = {}
    for number in range(480):
        if number not in listed | UNFILTERED:
            found[str(number)] = _outcome(partial(call, number, *(6 * [0])))
    return found


def own(job: TrainerJob) -> Attempts:
    """What a trainer needs, and must go on working."""
    return {
        "read the bundle": Path(job.bundle_path).read_bytes,
        "list the data": lambda: list(Path(job.data_path).iterdir()),
        "read the data": (Path(job.data_path) / "a.npz").read_bytes,
        "draw": lambda: os.urandom(32),
        "start a thread": _thread,
        "load a module late": lambda: __import__("xml.dom.minidom"),
        "load a library late": lambda: __import__("_lzma"),
    }


def _thread() -> None:
    done = threading.Event()
    threading.Thread(target=done.set).start()
    done.wait()


def _outcome(attempt: Callable[[], Any]) -> str:
    try:
        attempt()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return "done"


class Hostile(trainer.TrainerWorker):
    """Answers each job with what became of all attempts."""

    def _work(self, job: TrainerJob) -> None:
        if job.label == "crash":
            os.write(2, SECRET)
            sys.stderr.write(SECRET.decode())
            raise ValueError(SECRET.decode())
        parent, home = os.getppid(), Path(job.data_path).parent
        groups = {
            "reading": reading(home, parent),
            "writing": writing(home),
            "reaching": reaching(parent),
            "own": own(job),
        }
        found: dict[str, dict[str, str]] = {
            group: {name: _outcome(attempt) for name, attempt in attempts.items()}
            for group, attempts in groups.items()
            if group in job.label.split(",")
        }
        if "calls" in job.label:
            found["calls"] = forbidden_calls()
        text = json.dumps(found, separators=(",", ":"))
        # A report's detail is short; the payload takes any bytes.
        self._pipe.report(TrainerReportKind.RESULT, payload=text.encode())


if __name__ == "__main__":
    if "landlock" in sys.argv:
        landlock.abi = lambda: 0
    if "seccomp" in sys.argv:
        seccomp.MACHINES.clear()
    if "honest" not in sys.argv:
        trainer.TrainerWorker = Hostile  # type: ignore[misc]  # the one thing that is not as it was
    sys.exit(trainer.main())

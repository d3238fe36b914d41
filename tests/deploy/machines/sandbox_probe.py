"""Run by the service manager under the unit's sandbox: writes down what it may do.

Needs the standard library alone: it runs on a board.
"""

import ctypes
import json
import mmap
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

FOLDERS = ("/etc", "/usr/lib/starling", "/var/lib", "/var/log", "/srv/records", "/root")
HIDDEN = ("/home/pi", "/root", "/home")
_NEW_USER_NAMESPACE = 0x10000000


def writable(folder: str) -> bool:
    file = Path(folder) / "probe.tmp"
    try:
        file.write_text("")
        file.unlink()
    except OSError:
        return False
    return True


def visible(folder: str) -> bool:
    try:
        return any(Path(folder).iterdir())
    except OSError:
        return False


def works(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except (OSError, ValueError, subprocess.SubprocessError):
        return False
    return True


def libc_call(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), name)


def field(name: str) -> str:
    lines = Path("/proc/self/status").read_text().splitlines()
    (found,) = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return found


def main() -> None:
    out = Path(sys.argv[1])
    code = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    found = {
        "writes": [it for it in (*FOLDERS, str(out.parent)) if writable(it)],
        "sees": [folder for folder in HIDDEN if visible(folder)],
        "no_new_privileges": field("NoNewPrivs"),
        "capabilities": field("CapEff"),
        "uid_0": works(lambda: os.setuid(0)),
        "raw_socket": works(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)),
        "netlink_socket": works(lambda: socket.socket(socket.AF_NETLINK)),
        "mounts": works(
            lambda: libc_call("mount", b"none", b"/mnt", b"tmpfs", 0, None)
        ),
        "maps_writable_code": works(lambda: mmap.mmap(-1, 4096, prot=code)),
        "new_namespace": works(lambda: libc_call("unshare", _NEW_USER_NAMESPACE)),
    }
    out.write_text(json.dumps(found))


if __name__ == "__main__":
    main()

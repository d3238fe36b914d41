"""The door into the sandbox, which opens in one direction."""

import os
import resource
import site
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from starling.sandbox import landlock, seccomp
from starling.sandbox.syscalls import hide_memory, renounce_privileges

FILES_MAX = 64
"""Descriptors that a confined process may have open."""
FILE_BYTES_MAX = 1 << 20
"""How long a file may grow that was open before: the log."""
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib")
# By it `dlopen` finds a library that is loaded late.
_LOADER = "/etc/ld.so.cache"
_CODE_FOLDERS = ("site-packages", "dist-packages", "lib-dynload")


@dataclass(frozen=True)
class Confinement:
    """Restrictions that the kernel puts on a process.

    Attributes:
      landlock: The ABI of Landlock that holds; 0 for none.
      seccomp: Whether system calls are filtered.
    """

    landlock: int
    seccomp: bool


def limit_memory(mebibytes: int) -> None:
    """Sets the most private memory of this process for good; 0 sets no limit.

    The address space of mapped libraries is no measure of use.
    """
    if mebibytes:
        _lower(resource.RLIMIT_DATA, mebibytes << 20)


def enter(readable: Iterable[Path]) -> Confinement:
    """Confines this process for the rest of its life.

    To be called once everything is imported and before anything of others is read.
    Modules and libraries may still be loaded; beside these only `readable` can be
    opened, and nothing can be written but what is open.

    Args:
      readable: Files, and folders with all that is below them. Where a path is not
        there yet, it stays closed.

    Raises:
      OSError: If the kernel refuses what it has: the process should end.
    """
    # Landlock binds the thread that asks for it, and those that it starts.
    is_alone = len(list(Path("/proc/self/task").iterdir())) == 1
    hide_memory()
    # Without it the kernel lets root alone put on either restriction below.
    renounce_privileges()
    for limit, most in (
        (resource.RLIMIT_NOFILE, FILES_MAX),
        (resource.RLIMIT_FSIZE, FILE_BYTES_MAX),
    ):
        _lower(limit, most)
    # Seccomp comes last: its filter refuses the calls by which everything above was
    # set.
    version = landlock.restrict([*_code(), *readable]) if is_alone else 0
    return Confinement(version, seccomp.restrict())


def _lower(limit: int, most: int) -> None:
    """Sets a limit of this process for good; one that is lower already stays."""
    _, hard = resource.getrlimit(limit)
    # In Python infinity is -1, which `min` would take for the lowest limit.
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    # The hard limit, too: a soft one could be raised again from inside.
    resource.setrlimit(limit, (most, most))


def _code() -> list[Path]:
    """Folders of modules and libraries that may be loaded late."""
    folders = [Path(os.__file__).parent, *map(Path, site.getsitepackages())]
    folders += [Path(path) for path in sys.path if Path(path).name in _CODE_FOLDERS]
    # In a checkout, packages of ours are links to folders elsewhere: each is asked.
    packages = {
        _place(module.__file__).resolve()
        for name, module in tuple(sys.modules.items())
        if ("." not in name or hasattr(module, "__path__"))
        and getattr(module, "__file__", None)
    }
    outside = [
        path
        for path in sorted(packages)
        if not any(path.is_relative_to(folder) for folder in folders)
        and packages.isdisjoint(path.parents)
    ]
    return [*folders, *outside, *map(Path, _LIBRARIES), Path(_LOADER)]


def _place(file: str | None) -> Path:
    """A package's folder, or a module's only file."""
    assert file is not None
    path = Path(file)
    return path.parent if path.stem == "__init__" else path

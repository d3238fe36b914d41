"""Command and environment of a process that will confine itself."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

PACKAGES = Path(__file__).parents[2]
"""The folder with the package `starling`; not resolved, since a checkout has links."""
_PASSED_ON = ("LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE")
"""Without the first two some interpreters do not start; the third is for read-only
trees, and for those in which each run may find other sources."""
_FOLDER_MODE = 0o500


def command(module: str) -> tuple[str, ...]:
    """Runs a module with nothing from the user's folder or the working folder."""
    return (sys.executable, "-s", "-P", "-m", module)


def environment() -> dict[str, str]:
    """All environment variables of the child; it finds the packages of its parent."""
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    # Absolute, since the child works in a folder of its own.
    paths = [str(PACKAGES), *(str(Path(path).absolute()) for path in inherited if path)]
    return {
        **{name: os.environ[name] for name in _PASSED_ON if name in os.environ},
        "HOME": "/nonexistent",
        "LANG": "C.UTF-8",
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
        # The engine has its own threads; the arrays need none.
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        # glibc gives threads arenas of their own, and what lies free in each of them
        # counts against RLIMIT_DATA.
        "MALLOC_ARENA_MAX": "2",
        # Read when ONNX Runtime is imported.
        "ORT_DISABLE_TELEMETRY": "1",
    }


def run_expendable(
    command: Sequence[str], environment: Mapping[str, str], timeout_s: float
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end; where memory gives out, it dies and not its parent.

    Args:
      command: Words of it.
      environment: All its variables.
      timeout_s: After which it is killed.

    Raises:
      OSError: If it cannot be started.
      subprocess.TimeoutExpired: If it takes longer.
    """
    with subprocess.Popen(  # noqa: S603 - our own interpreter and modules
        list(command),
        env=environment,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as child:
        # The kernel's killer takes the highest score first (proc(5)); to raise it needs
        # no rights.
        with suppress(OSError):
            Path(f"/proc/{child.pid}/oom_score_adj").write_text("1000")
        try:
            out, errors = child.communicate(timeout=timeout_s)
        finally:
            child.kill()
    return subprocess.CompletedProcess(list(command), child.returncode, out, errors)


def empty_folder(path: Path) -> Path:
    """Makes `path` an empty folder in which nothing can be made, to work in.

    The name is the caller's, so that a crash leaves at most one.

    Raises:
      OSError: As the system says.
    """
    # What a link leads to belongs to somebody else: the link alone is removed.
    if path.is_dir() and not path.is_symlink():
        # Its own mode keeps even its owner from removing what is in it.
        path.chmod(0o700)
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.mkdir(_FOLDER_MODE)
    return path

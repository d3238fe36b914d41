"""Command and environment of a process that will confine itself."""

import os
import shutil
import sys
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
    paths = [str(PACKAGES), *(str(Path(path).absolute()) for path in inherited if path)]
    return {
        **{name: os.environ[name] for name in _PASSED_ON if name in os.environ},
        "HOME": "/nonexistent",
        "LANG": "C.UTF-8",
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
        # The engine has its own threads; the arrays need none.
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",
        # Read when ONNX Runtime is imported.
        "ORT_DISABLE_TELEMETRY": "1",
    }


def empty_folder(path: Path) -> Path:
    """Makes `path` an empty folder in which nothing can be made, to work in.

    The name is the caller's, so that a crash leaves at most one.

    Raises:
      OSError: As the system says.
    """
    if path.is_dir() and not path.is_symlink():
        path.chmod(0o700)
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.mkdir(_FOLDER_MODE)
    return path

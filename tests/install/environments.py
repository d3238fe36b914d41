"""Empty environments that borrow the dependencies of this one, and wheels made by hand.

Nothing here asks an index: hatchling and what Starling needs are those that the tests
run with, seen through links that leave Starling itself out.
"""

import base64
import hashlib
import importlib.util
import os
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_LEFT_OUT = ("starling_fl", "_starling_fl", "sklearn", "scikit_learn", "scipy")
_OFFLINE = {
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_COMPILE": "1",
    "PIP_NO_DEPS": "1",
    "PIP_NO_INDEX": "1",
    "PIP_ROOT_USER_ACTION": "ignore",
    # pip reads this one the wrong way round: 0 means that nothing is isolated.
    "PIP_NO_BUILD_ISOLATION": "0",
}


def require_hatchling() -> None:
    """Skips where distributions cannot be built."""
    for module in ("hatchling", "pip"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed: see requirements/build.txt")


def borrowed_packages(folder: Path) -> Path:
    """Links to what is installed beside the tests.

    Without Starling, and without what only tests need and commands must not.
    """
    folder.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.startswith(_LEFT_OUT) and entry.suffix != ".pth":
            (folder / entry.name).symlink_to(entry)
    return folder


def offline_variables(borrowed: Path, programs: Path | None = None) -> dict[str, str]:
    """Variables of a process that installs from this machine alone.

    Args:
      borrowed: Where Python finds the dependencies.
      programs: Put first on the PATH, if given.
    """
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    path = os.environ["PATH"]
    return {
        **kept,
        **_OFFLINE,
        "PATH": path if programs is None else f"{programs}{os.pathsep}{path}",
        "PYTHONPATH": str(borrowed),
    }


@dataclass(frozen=True)
class Environment:
    """A virtual environment in which nothing is installed at first."""

    folder: Path
    borrowed: Path

    @property
    def programs(self) -> Path:
        """The folder of its programs."""
        return self.folder / "bin"

    def run(
        self, program: str, *words: str, cwd: Path, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Runs one of its programs in a folder."""
        return subprocess.run(
            [str(self.programs / program), *words],
            cwd=cwd,
            env=offline_variables(self.borrowed),
            capture_output=True,
            text=True,
            check=check,
        )

    def pip(self, *words: str) -> None:
        """Runs pip, which may ask no index."""
        done = self.run("python", "-m", "pip", *words, cwd=self.folder, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def empty_environment(folder: Path, borrowed: Path) -> Environment:
    """Makes a virtual environment with neither pip nor anything else."""
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True
    )
    return Environment(folder, borrowed)


def build(target: str, folder: Path) -> Path:
    """Builds a distribution of the checkout; `target` is "wheel" or "sdist"."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    [made] = folder.glob("*.whl" if target == "wheel" else "*.tar.gz")
    return made


def strangers_wheel(name: str, folder: Path) -> Path:
    """A distribution of somebody else that installs the top-level package `name`."""
    info = f"{name}-9.0.dist-info"
    files = {
        f"{name}/__init__.py": f"OWNER = 'the stranger {name}'\n",
        f"{name}/errors.py": "raise SystemExit('the errors of a stranger')\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 9.0\n",
        f"{info}/WHEEL": (
            "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\n"
            "Tag: py3-none-any\n"
        ),
    }
    record = [f"{path},{_digest(text)}" for path, text in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,\n"])
    made = folder / f"{name}-9.0-py3-none-any.whl"
    with zipfile.ZipFile(made, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return made


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    packed = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    return f"sha256={packed},{len(text.encode())}"

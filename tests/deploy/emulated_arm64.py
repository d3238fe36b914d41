"""A Python of arm64 under qemu, with the agent's wheels: made, or named as what lacks.

No chroot and no registration with the kernel: qemu looks paths up below the system's
root first, and the interpreter is a script that starts qemu, for its children as well.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.packaging_scripts import packaging_script

ROOT = Path(__file__).parents[2]
QEMU_LEAST = 10
"""ONNX Runtime ends in a segmentation fault under qemu 7.2."""
_DEBOOTSTRAP_S = 600.0
_PROGRAM = """\
#!/bin/sh
exec "{qemu}" -0 "$0" -L "{root}" "{root}/usr/bin/{python}" "$@"
"""


def emulated_python(folder: Path) -> Path:
    """An interpreter of arm64; the test is skipped with the reason if it lacks a part.

    `QEMU_AARCH64` names qemu's program, `ARM64_ROOT` the root of a Debian for arm64
    with Python; without it one is made, which takes root's rights and a mirror.
    """
    qemu = _qemu()
    root = _root(folder)
    python = next(root.glob("usr/bin/python3.*[0-9]")).name
    program = folder / "python3"
    script = _PROGRAM.format(qemu=qemu, root=root, python=python)
    program.write_text(script)
    program.chmod(0o755)
    return program


def install_agent(folder: Path, python: str) -> Path:
    """Our wheel and the agent's locked ones for arm64, as a folder of packages."""
    build = packaging_script("deb/build.py")
    target = build.Target("arm64", python)
    wheels, site, wanted = folder / "wheels", folder / "site", folder / "agent.txt"
    locked = (ROOT / "requirements" / "agent.txt").read_text("utf-8")
    wanted.write_text(build.locked_requirements(locked, target))
    pip: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "--quiet",
        "--disable-pip-version-check",
    ]
    into = ["install", "--no-compile", "--target", str(site), *target.pip_options()]
    _run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", wheels, ROOT])
    _run([*pip, *into, "--require-hashes", "-r", wanted])
    _run([*pip, *into, *wheels.glob("*.whl")])
    return site


def _run(words: list[str | Path]) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _qemu() -> str:
    names = ("qemu-aarch64", "qemu-aarch64-static")
    named = os.environ.get("QEMU_AARCH64")
    found = named or next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip("no qemu-aarch64 in PATH or QEMU_AARCH64: nothing runs as arm64")
    said = subprocess.run(
        [found, "--version"], capture_output=True, text=True, check=False
    )
    version = re.search(r"version (\d+)\.", said.stdout)
    if version is None or int(version[1]) < QEMU_LEAST:
        shown = said.stdout.partition("\n")[0]
        pytest.skip(f"qemu has to be of version {QEMU_LEAST} or later: {shown}")
    return found


def _root(folder: Path) -> Path:
    named = os.environ.get("ARM64_ROOT")
    if named:
        return Path(named)
    if shutil.which("debootstrap") is None or os.geteuid() != 0:
        pytest.skip(
            "no ARM64_ROOT, and none can be made: debootstrap, and root's rights"
        )
    root = folder / "root"
    options = ["--foreign", "--arch=arm64", "--variant=minbase", "--include=python3"]
    try:
        made = subprocess.run(
            ["debootstrap", *options, "bookworm", str(root)],
            capture_output=True,
            text=True,
            timeout=_DEBOOTSTRAP_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        pytest.skip("no ARM64_ROOT, and debootstrap did not make one in time")
    if made.returncode != 0:
        pytest.skip(f"no ARM64_ROOT, and debootstrap made none: {made.stdout[-300:]}")
    # Unpacked, not configured: enough to run Python.
    for package in (root / "var" / "cache" / "apt" / "archives").glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", str(package), str(root)], check=True)
    return root

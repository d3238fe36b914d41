"""What the machines are made of: a Debian, our wheels, and two releases' packages.

Debian comes by debootstrap, once, and stays in `build/deploy`; wheels and packages are
made anew, since they hold this checkout.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
CACHE = REPOSITORY / "build" / "deploy"
SUITE = "bookworm"
PYTHON = "3.11"
"""Of that Debian."""
NEXT = "0.9.0"
"""Version of the package that a board is upgraded to."""
_PROGRAMS = ("systemd-nspawn", "debootstrap", "nsenter", "ip", "dpkg-deb")
_INCLUDED = (
    *("systemd", "systemd-sysv", "dbus", "sudo", "iproute2", "ca-certificates"),
    *("python3", "python3-venv"),
)
_WHEEL = "starling_fl-*.whl"


def require_machines() -> None:
    """Skips where no machine can be booted, and says what is missing."""
    if os.geteuid() != 0:
        pytest.skip("boots machines with systemd-nspawn: needs root")
    if missing := [name for name in _PROGRAMS if shutil.which(name) is None]:
        pytest.skip(
            f"boots machines: {', '.join(missing)} missing; "
            "apt-get install systemd-container debootstrap iproute2 dpkg"
        )


def debian() -> Path:
    """The folder of a fresh Debian, as debootstrap leaves it; not to be changed."""
    root = CACHE / "debian"
    if not root.exists():
        _bootstrap(root, [f"--include={','.join(_INCLUDED)}"])
    return root


def debian_with_mosquitto() -> Path:
    """The same with Mosquitto, which is installed with this machine's network."""
    root = CACHE / "debian-mosquitto"
    if not root.exists():
        unfinished = copy(debian(), CACHE / "debian-mosquitto.unfinished")
        resolver = unfinished / "etc/resolv.conf"
        resolver.unlink(missing_ok=True)
        shutil.copy("/etc/resolv.conf", resolver)
        command = ["chroot", str(unfinished), "apt-get", "install", "--yes"]
        _fetched([*command, "mosquitto"])
        unfinished.rename(root)
    return root


def _bootstrap(root: Path, options: list[str]) -> None:
    unfinished = root.with_name(f"{root.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    command = ["debootstrap", "--variant=minbase", *options, SUITE, str(unfinished)]
    _fetched(command)
    unfinished.rename(root)


def _fetched(command: list[str]) -> None:
    values = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        command, env=values, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        end = (done.stdout + done.stderr)[-500:]
        pytest.skip(f"no Debian to boot: {' '.join(command[:3])}: {end}")


def copy(root: Path, to: Path) -> Path:
    """Copies a root folder with its owners and modes."""
    shutil.rmtree(to, ignore_errors=True)
    subprocess.run(["cp", "-a", "--reflink=auto", str(root), str(to)], check=True)
    return to


def built_package() -> Path:
    """The agent's package as `make deb` builds it, uncompressed."""
    return _deb(CACHE / "out", ())


def next_package(package: Path) -> Path:
    """A later release of the same package, with another version.

    Args:
      package: Of `built_package`, whose wheels are taken.
    """
    wheels, later = _work() / f"wheels-{_architecture()}", CACHE / "wheels-next"
    shutil.rmtree(later, ignore_errors=True)
    shutil.copytree(wheels, later)
    (wheel,) = later.glob(_WHEEL)
    _other_version(wheel, later, wheel.name.split("-")[1])
    wheel.unlink()
    assert package.exists()
    return _deb(CACHE / "out-next", ("--wheels", str(later)))


def coordinator_wheels() -> Path:
    """A folder with our wheel, and all that `[coordinator]` needs; no network then."""
    folder = CACHE / "wheels-coordinator"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(_WHEEL):
        old.unlink()
    pip = [sys.executable, "-m", "pip", "-q"]
    options = ["--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run([*pip, "wheel", *options, str(REPOSITORY)], check=True)
    needed = REPOSITORY / "requirements/coordinator.txt"
    options = ["--no-deps", "--require-hashes", "--only-binary=:all:"]
    options += [f"--python-version={PYTHON}", "-r", str(needed), "-d", str(folder)]
    subprocess.run([*pip, "download", *options], check=True, capture_output=True)
    return folder


def _architecture() -> str:
    command = ["dpkg", "--print-architecture"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def _work() -> Path:
    return CACHE / "deb"


def _deb(out: Path, more: Iterable[str]) -> Path:
    shutil.rmtree(out, ignore_errors=True)
    program = REPOSITORY / "packaging/deb/build.py"
    command = [sys.executable, str(program), f"--architecture={_architecture()}"]
    command += [f"--python={PYTHON}", "--compression=none"]
    command += [f"--work={_work()}", f"--out={out}", *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (found,) = out.glob("*.deb")
    return found


def _other_version(wheel: Path, folder: Path, version: str) -> None:
    """Writes the same wheel with version `NEXT`."""
    about, other = f"starling_fl-{version}.dist-info", f"starling_fl-{NEXT}.dist-info"
    name = wheel.name.replace(f"-{version}-", f"-{NEXT}-")
    with zipfile.ZipFile(wheel) as before, zipfile.ZipFile(folder / name, "w") as after:
        for entry in before.namelist():
            content = before.read(entry)
            if entry == f"{about}/METADATA":
                content = _replaced(
                    content, f"\nVersion: {version}\n", f"\nVersion: {NEXT}\n"
                )
            elif entry == f"{about}/RECORD":
                content = _replaced(content, about, other)
            elif entry == "starling/__init__.py":
                content = _replaced(content, f'"{version}"', f'"{NEXT}"')
            after.writestr(entry.replace(about, other), content)


def _replaced(content: bytes, old: str, new: str) -> bytes:
    assert old.encode() in content
    return content.replace(old.encode(), new.encode())

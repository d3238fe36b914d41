"""Builds the agent's Debian package for one architecture, on any of them.

A virtual environment is a folder of wheels, a link to the interpreter and `pyvenv.cfg`:
pip unpacks the wheels of the other architecture, nothing of them is run, and the
package holds neither pip nor setuptools. The unit is what the agent prints itself.
"""

import argparse
import os
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import parse_wheel_filename
from packaging.version import Version

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
GLIBC_MINOR_MAX = 36
"""Of Debian 12, the oldest whose Python is new enough; `control` asks for it."""
PLACE = Path("usr/lib/starling")
UNIT = Path("usr/lib/systemd/system/starling-agent.service")
MANUAL = Path("usr/share/man/man1")
USERS = Path("usr/lib/sysusers.d/starling.conf")
SCRIPTS = ("preinst", "postinst", "prerm", "postrm")


@dataclass(frozen=True)
class Target:
    """A system that a package is for.

    Attributes:
      architecture: Debian's name of it, a key of `MACHINES`.
      python: Its Python, as in `3.11`.
    """

    architecture: str
    python: str

    def pip_options(self) -> list[str]:
        """Options that make pip choose and unpack this system's wheels."""
        machine = MACHINES[self.architecture]
        tags = [f"manylinux_2_{minor}" for minor in range(GLIBC_MINOR_MAX, 16, -1)]
        platforms = [f"--platform={tag}_{machine}" for tag in (*tags, "manylinux2014")]
        return [
            "--only-binary=:all:",
            "--no-deps",
            "--implementation=cp",
            f"--python-version={self.python}",
            *platforms,
        ]

    def holds(self, requirement: Requirement) -> bool:
        """Whether the requirement's marker is true there; pip asks its own system."""
        environment = {
            "python_version": self.python,
            "python_full_version": f"{self.python}.0",
            "platform_machine": MACHINES[self.architecture],
            "platform_system": "Linux",
            "sys_platform": "linux",
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
        }
        return requirement.marker is None or requirement.marker.evaluate(environment)


def locked_requirements(text: str, target: Target) -> str:
    """Those lines of a requirements file with hashes that the target needs.

    Args:
      text: As `make lock` writes it: one requirement, then its hashes.
      target: Decides the markers.

    Returns:
      Requirements without markers, with their hashes.
    """
    lines = []
    for line in text.replace("\\\n", " ").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        wanted, *hashes = line.split(" --hash=")
        requirement = Requirement(wanted.strip())
        if target.holds(requirement):
            pinned = f"{requirement.name}{requirement.specifier}"
            lines.append(" --hash=".join([pinned, *(it.strip() for it in hashes)]))
    return "\n".join(lines) + "\n"


def pip(*words: str | Path) -> None:
    """Runs this interpreter's pip, and ends where it cannot do what it is told."""
    command = [sys.executable, "-m", "pip", "--quiet", *map(str, words)]
    done = subprocess.run([*command, "--disable-pip-version-check"], check=False)  # noqa: S603 - our own words
    if done.returncode != 0:
        sys.exit(f"pip {words[0]} failed, as told above; no package was built")


def gather(target: Target, requirements: Path, folder: Path) -> None:
    """Puts our wheel, and those of the requirements by their hashes, into a folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    pip("wheel", "--no-deps", "--no-build-isolation", "-w", folder, REPOSITORY)
    chosen = folder / "requirements.txt"
    chosen.write_text(locked_requirements(requirements.read_text("utf-8"), target))
    options = target.pip_options()
    pip("download", "--require-hashes", *options, "-r", chosen, "-d", folder)


def unpack(target: Target, wheels: Path, root: Path) -> str:
    """Makes the virtual environment below the package's root.

    Returns:
      Version of the Starling in it.
    """
    place = root / PLACE
    site = place / "lib" / f"python{target.python}" / "site-packages"
    # By name: pip notes the path of a wheel that is named by its file.
    names = (parse_wheel_filename(it.name) for it in sorted(wheels.glob("*.whl")))
    found = [f"{name}=={version}" for name, version, *_ in names]
    # Isolated: folders of wheels that this system's pip knows are not looked into.
    # The wheels were chosen for the target's Python; pip would ask its own again.
    options = ["--isolated", "--no-index", "--ignore-requires-python", "--no-compile"]
    folders = ["--find-links", wheels, "--target", site]
    pip("install", *options, *target.pip_options(), *folders, *found)
    shutil.rmtree(site / "bin", ignore_errors=True)
    for tests in sorted((site / "numpy").rglob("tests")):
        shutil.rmtree(tests, ignore_errors=True)
    (place / "bin").mkdir()
    for name in ("python3", "python"):
        (place / "bin" / name).symlink_to(f"/usr/bin/python{target.python}")
    (place / "pyvenv.cfg").write_text(
        "home = /usr/bin\ninclude-system-site-packages = false\n"
        f"version = {target.python}\n"
    )
    (own,) = site.glob("starling_fl-*.dist-info")
    return own.name.removeprefix("starling_fl-").removesuffix(".dist-info")


def printed_unit() -> str:
    """The unit that the agent prints for the package's program."""
    words = ["agent", "install", "--print-unit", f"--program=/{PLACE}/bin/starling"]
    command = [sys.executable, "-m", "starling", *words]
    done = subprocess.run(  # noqa: S603 - our own words
        command, check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


def write_manual(folder: Path) -> None:
    """Writes the manual pages of what a board runs."""
    commands = [f"--command={name}" for name in ("agent", "data", "diag")]
    program = REPOSITORY / "packaging" / "man" / "man_pages.py"
    words = [sys.executable, program, "--out", folder, *commands]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)  # noqa: S603


def write(file: Path, text: str, mode: int = 0o644) -> None:
    """Writes a file of the package, and its folders."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "utf-8")
    file.chmod(mode)


def even_modes(root: Path) -> None:
    """Makes modes independent of who builds: what runs for the owner runs for all."""
    for path in sorted(root.rglob("*")):
        if path.is_symlink():
            continue
        runs = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
        path.chmod(0o755 if runs else 0o644)


def package(target: Target, wheels: Path, root: Path) -> str:
    """Lays out the package's tree.

    Returns:
      Debian version of the package.
    """
    from starling.service.unit_files import USER, sysusers_text

    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True, mode=0o755)
    own = unpack(target, wheels, root)
    after = Version(target.python)
    version = f"{own}+py{after.major}.{after.minor}"
    values = {
        "VERSION": version,
        "ARCHITECTURE": target.architecture,
        "PYTHON": target.python,
        "PYTHON_AFTER": f"{after.major}.{after.minor + 1}",
    }
    write(root / PLACE / "bin/starling", filled("launcher", values), 0o755)
    write(root / UNIT, printed_unit())
    write(root / USERS, sysusers_text(USER))
    write_manual(root / MANUAL)
    licence = (REPOSITORY / "LICENSE").read_text("utf-8")
    write(root / "usr/share/doc/starling-agent/copyright", licence)
    (root / "usr/bin").mkdir()
    (root / "usr/bin/starling").symlink_to("../lib/starling/bin/starling")
    even_modes(root)
    files = (it for it in root.rglob("*") if it.is_file() and not it.is_symlink())
    values["KIB"] = str(sum(-(-it.stat().st_size // 1024) for it in files))
    write(root / "DEBIAN/control", filled("control", values))
    for name in SCRIPTS:
        write(root / "DEBIAN" / name, filled(name, values), 0o755)
    (root / "DEBIAN").chmod(0o755)
    return version


def filled(name: str, values: dict[str, str]) -> str:
    """A template of this folder with its @NAMES@ replaced."""
    text = (HERE / name).read_text("utf-8")
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return text


def source_time_s() -> str:
    """Time of the newest commit, or what SOURCE_DATE_EPOCH says: one for all files."""
    if said := os.environ.get("SOURCE_DATE_EPOCH"):
        return said
    command = ["git", "-C", str(REPOSITORY), "log", "-1", "--format=%ct"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    return done.stdout.strip() or "0"


def main() -> int:
    """Builds one package and prints its path."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--architecture", choices=sorted(MACHINES), required=True)
    parser.add_argument("--python", default="3.11", help="the target's Python")
    parser.add_argument("--wheels", type=Path, help="take these instead of downloading")
    parser.add_argument("--work", type=Path, default=REPOSITORY / "build/deb")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "dist")
    parser.add_argument("--compression", choices=("xz", "gzip", "none"), default="xz")
    options = parser.parse_args()
    if shutil.which("dpkg-deb") is None:
        parser.exit(1, "dpkg-deb is not here: apt-get install dpkg\n")
    target = Target(options.architecture, options.python)
    wheels = options.wheels or options.work / f"wheels-{target.architecture}"
    if options.wheels is None:
        gather(target, REPOSITORY / "requirements/agent.txt", wheels)
    root = options.work / f"root-{target.architecture}"
    version = package(target, wheels, root)
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / f"starling-agent_{version}_{target.architecture}.deb"
    command = ["dpkg-deb", "--root-owner-group", f"-Z{options.compression}", "-b"]
    subprocess.run(  # noqa: S603 - our own words
        [*command, str(root), str(file)],
        env={**os.environ, "SOURCE_DATE_EPOCH": source_time_s()},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    sys.stdout.write(f"{file} {file.stat().st_size} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

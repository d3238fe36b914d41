"""The Debian package: built from small wheels, installed by dpkg into a folder.

dpkg runs the maintainer scripts with DPKG_ROOT set instead of in a chroot, so that
they can be run by anybody; what would change this system is on the PATH as programs
that write down how they were called.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.deploy.packaging_scripts import packaging_script

pytestmark = pytest.mark.slow
REPOSITORY = Path(__file__).parents[2]
PACKAGING = REPOSITORY / "packaging" / "deb"
UNIT = "starling-agent.service"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
PROGRAMS = ("systemctl", "systemd-sysusers", "chown", "userdel")

STUB = """#!/bin/sh
echo "$(basename "$0") $*" >>"$STUB_CALLS"
case "$*" in
"show "*) cat "$STUB_STATE" ;;
"--quiet is-enabled "*) test -e "$STUB_STATE.enabled" ;;
esac
"""


build = packaging_script("deb/build.py")


def small_wheel(folder: Path, version: str) -> None:
    """A wheel with the distribution's name, and a module that says its version."""
    folder.mkdir(exist_ok=True)
    about = f"starling_fl-{version}.dist-info"
    name = f"starling_fl-{version}-py3-none-any.whl"
    with zipfile.ZipFile(folder / name, "w") as wheel:
        wheel.writestr("starling/__main__.py", f"print({version!r})\n")
        # Needs another Python than the one that builds, as a wheel of the target may.
        wheel.writestr(
            f"{about}/METADATA",
            f"Metadata-Version: 2.1\nName: starling-fl\nVersion: {version}\n"
            "Requires-Python: >=3.99\n",
        )
        wheel.writestr(
            f"{about}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\n"
            "Root-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr(
            f"{about}/RECORD",
            f"starling/__main__.py,,\n{about}/METADATA,,\n"
            f"{about}/WHEEL,,\n{about}/RECORD,,\n",
        )


def built(folder: Path, version: str, architecture: str) -> Path:
    """The package of that version, from a small wheel."""
    wheels, out = folder / f"wheels-{version}", folder / "out"
    small_wheel(wheels, version)
    command = [sys.executable, str(PACKAGING / "build.py")]
    options = {
        "architecture": architecture,
        "python": PYTHON,
        "wheels": str(wheels),
        "work": str(folder / "work"),
        "out": str(out),
        "compression": "gzip",
    }
    command += [f"--{key}={value}" for key, value in options.items()]
    subprocess.run(command, check=True, capture_output=True)
    return out / f"starling-agent_{version}+py{PYTHON}_{architecture}.deb"


def dpkg_deb(*words: str | Path) -> str:
    command = ["dpkg-deb", *map(str, words)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two releases for this architecture."""
    if shutil.which("dpkg-deb") is None or shutil.which("dpkg") is None:
        pytest.skip("no dpkg here: the package is not built")
    own = subprocess.run(
        ["dpkg", "--print-architecture"], check=True, capture_output=True, text=True
    ).stdout.strip()
    if own not in build.MACHINES:
        pytest.skip(f"the package is for {sorted(build.MACHINES)}, this is {own}")
    folder = tmp_path_factory.mktemp("deb")
    return {version: built(folder, version, own) for version in ("0.1.0", "0.2.0")}


class Board:
    """A root folder with a dpkg of its own, and what the scripts called."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.home = self.root / "var/lib/starling"
        self.state = folder / "state"
        self.calls_file = folder / "calls"
        self.state.write_text("inactive\n")
        for name in ("run/systemd/system", "etc", "var/lib/dpkg/info"):
            (self.root / name).mkdir(parents=True)
        (self.root / "var/lib/dpkg/status").touch()
        programs = folder / "bin"
        programs.mkdir()
        for name in PROGRAMS:
            (programs / name).write_text(STUB)
            (programs / name).chmod(0o755)
        self.environment = {
            **os.environ,
            "PATH": f"{programs}:/usr/sbin:/usr/bin:/sbin:/bin",
            "STUB_CALLS": str(self.calls_file),
            "STUB_STATE": str(self.state),
        }

    def enable(self) -> None:
        (self.state.parent / "state.enabled").touch()

    def dpkg(self, *words: str | Path) -> list[str]:
        """Runs dpkg; returns what its scripts called."""
        done = self.try_dpkg(*words)
        assert done.returncode == 0, done.stderr
        self.said = done.stdout + done.stderr
        return self.calls_file.read_text().splitlines()

    def try_dpkg(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        self.calls_file.write_text("")
        forced = "--force-not-root,script-chrootless,depends,bad-path"
        command = ["dpkg", f"--root={self.root}", forced, *map(str, words)]
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False
        )

    def installed(self) -> set[str]:
        """Everything below the root but folders and dpkg's own."""
        found = (path for path in self.root.rglob("*") if not path.is_dir())
        names = (str(path.relative_to(self.root)) for path in found)
        return {name for name in names if not name.startswith("var/lib/dpkg/")}


@pytest.fixture
def board(packages: dict[str, Path], tmp_path: Path) -> Board:
    made = Board(tmp_path)
    made.dpkg("--install", packages["0.1.0"])
    return made


def keep_state(board: Board) -> Path:
    key = board.home / "keys/device.key"
    key.parent.mkdir()
    key.write_text("secret")
    (board.home / "agent.toml").touch()
    return key


def test_control_names_the_python_that_the_wheels_are_for(
    packages: dict[str, Path],
) -> None:
    field = dpkg_deb("--field", packages["0.1.0"])

    minor = sys.version_info.minor
    assert f"python3 (>= 3.{minor}~), python3 (<< 3.{minor + 1}~)" in field
    assert "Package: starling-agent\n" in field
    assert "@" not in field.replace("starling@localhost", "")


def test_files_lie_where_a_unit_sees_them_and_belong_to_root(
    packages: dict[str, Path],
) -> None:
    lines = dpkg_deb("--contents", packages["0.1.0"]).splitlines()
    names = [line.split()[5] for line in lines]

    assert {line.split()[1] for line in lines} == {"root/root"}
    site = f"./usr/lib/starling/lib/python{PYTHON}/site-packages/"
    assert site + "starling/__main__.py" in names
    for tool in ("pip", "setuptools"):
        assert not [name for name in names if name.startswith(f"{site}{tool}/")]
    assert not [name for name in names if name.startswith(("./opt", "./usr/local"))]
    assert not [line for line in lines if line[5] == "w" and line[0] != "l"]


def test_unit_is_the_one_that_the_agent_prints(board: Board) -> None:
    words = ["agent", "install", "--print-unit"]
    program = "--program=/usr/lib/starling/bin/starling"
    printed = subprocess.run(
        [sys.executable, "-m", "starling", *words, program],
        check=True,
        capture_output=True,
        text=True,
    ).stdout

    assert (board.root / "usr/lib/systemd/system" / UNIT).read_text() == printed
    users = (board.root / "usr/lib/sysusers.d/starling.conf").read_text()
    assert users.splitlines()[1:] == ['u starling - "Starling" /var/lib/starling']


def test_same_source_gives_the_same_package(
    packages: dict[str, Path], tmp_path: Path
) -> None:
    package = packages["0.1.0"]
    architecture = package.stem.rpartition("_")[2]

    again = built(tmp_path, "0.1.0", architecture)

    assert again.read_bytes() == package.read_bytes()


def test_first_installation_makes_the_home_and_starts_nothing(
    packages: dict[str, Path], tmp_path: Path
) -> None:
    board = Board(tmp_path)
    calls = board.dpkg("--install", packages["0.1.0"])

    assert f"systemd-sysusers --root={board.root} starling.conf" in calls
    assert f"chown starling:starling {board.home}" in calls
    assert board.home.stat().st_mode & 0o777 == 0o750
    assert "systemctl daemon-reload" in calls
    assert f"systemctl start {UNIT}" not in calls
    assert "starling agent init --home /var/lib/starling" in board.said


@pytest.mark.parametrize(
    ("state", "starts"),
    [("active", True), ("activating", True), ("failed", True), ("inactive", False)],
)
def test_upgrade_keeps_state_and_restarts_what_ran(
    board: Board, packages: dict[str, Path], state: str, starts: bool
) -> None:
    key = keep_state(board)
    board.enable()
    board.state.write_text(f"{state}\n")

    calls = board.dpkg("--install", packages["0.2.0"])

    expected = [f"systemctl stop {UNIT}", f"systemctl start {UNIT}"] if starts else []
    assert [it for it in calls if it.split()[1] in ("stop", "start")] == expected
    assert key.read_text() == "secret"
    assert "agent init" not in board.said
    assert "0.2.0" in (
        board.root / f"usr/lib/starling/lib/python{PYTHON}/site-packages/starling"
        "/__main__.py"
    ).read_text("utf-8")
    assert not (board.root / "run/starling-agent.before-upgrade").exists()


def test_removal_keeps_state_and_a_new_installation_goes_on(
    board: Board, packages: dict[str, Path]
) -> None:
    key = keep_state(board)
    board.state.write_text("active\n")
    # As modules are when the service's Python compiled them.
    cached = board.root / f"usr/lib/starling/lib/python{PYTHON}/site-packages/starling"
    (cached / "__pycache__").mkdir(exist_ok=True)
    (cached / "__pycache__/x.pyc").touch()

    calls = board.dpkg("--remove", "starling-agent")

    assert f"systemctl stop {UNIT}" in calls
    assert board.installed() == {
        "var/lib/starling/keys/device.key",
        "var/lib/starling/agent.toml",
    }
    assert not (board.root / "usr/lib/starling").exists()

    board.enable()
    assert f"systemctl start {UNIT}" in board.dpkg("--install", packages["0.2.0"])
    assert key.read_text() == "secret"


def test_purge_leaves_nothing(board: Board) -> None:
    keep_state(board)
    wanted = board.root / "etc/systemd/system/multi-user.target.wants" / UNIT
    wanted.parent.mkdir(parents=True)
    wanted.symlink_to(f"/usr/lib/systemd/system/{UNIT}")

    calls = board.dpkg("--purge", "starling-agent")

    assert board.installed() == set()
    assert not wanted.is_symlink()
    assert not board.home.exists()
    assert f"userdel --root {board.root} starling" in calls


def test_purge_leaves_the_user_of_another_service(board: Board) -> None:
    other = board.root / "etc/systemd/system/starling-coordinator.service"
    other.parent.mkdir(parents=True)
    other.touch()

    calls = board.dpkg("--purge", "starling-agent")

    assert [it for it in calls if it.startswith("userdel")] == []
    assert other.exists()


def test_unit_that_hides_the_packages_is_named(
    board: Board, packages: dict[str, Path]
) -> None:
    hand_made = board.root / "etc/systemd/system" / UNIT
    hand_made.parent.mkdir(parents=True)
    hand_made.touch()

    board.dpkg("--install", packages["0.2.0"])

    assert f"/etc/systemd/system/{UNIT} stands before the package's unit" in board.said


def test_installation_made_by_hand_is_not_mixed_with_the_package(
    packages: dict[str, Path], tmp_path: Path
) -> None:
    board = Board(tmp_path)
    pip = board.root / "usr/lib/starling/bin/pip"
    pip.parent.mkdir(parents=True)
    pip.touch()

    done = board.try_dpkg("--install", packages["0.1.0"])

    assert done.returncode != 0
    assert "/usr/lib/starling holds an installation made by hand" in done.stderr
    assert board.installed() == {"usr/lib/starling/bin/pip"}
    assert board.calls_file.read_text() == ""


def test_launcher_says_what_to_do_when_python_went_away(tmp_path: Path) -> None:
    launcher = tmp_path / "starling"
    launcher.write_text(build.filled("launcher", {"PYTHON": "3.1"}))

    done = subprocess.run(
        ["/bin/sh", str(launcher)], capture_output=True, text=True, check=False
    )

    assert done.returncode == 78
    assert "is for Python 3.1, and /usr/bin/python3.1 is not there" in done.stderr
    assert "make deb DEB_PYTHON=" in done.stderr


def test_locked_requirements_are_those_of_the_target() -> None:
    locked = (
        "numpy==2.4.6 ; python_full_version < '3.12' \\\n"
        "    --hash=sha256:aa \\\n    --hash=sha256:bb\n"
        "numpy==2.5.5 ; python_full_version >= '3.12' \\\n    --hash=sha256:cc\n"
        "x86only==1 ; platform_machine == 'x86_64' \\\n    --hash=sha256:dd\n"
    )

    old = build.locked_requirements(locked, build.Target("arm64", "3.11"))
    new = build.locked_requirements(locked, build.Target("amd64", "3.13"))

    assert old == "numpy==2.4.6 --hash=sha256:aa --hash=sha256:bb\n"
    assert new == "numpy==2.5.5 --hash=sha256:cc\nx86only==1 --hash=sha256:dd\n"


def test_every_requirement_of_the_agent_keeps_its_hashes() -> None:
    text = (REPOSITORY / "requirements/agent.txt").read_text("utf-8")
    for architecture in build.MACHINES:
        chosen = build.locked_requirements(text, build.Target(architecture, "3.11"))
        rows = chosen.splitlines()
        assert len([row for row in rows if row.startswith("numpy==")]) == 1
        assert all("==" in row and "--hash=sha256:" in row for row in rows)

"""The package on a real system: a later release, an earlier one, and none."""

from pathlib import Path

import pytest

from tests.deploy.machines import machine_images
from tests.deploy.machines.deployed_fleet import AGENT_UNIT, HOME, final, goes_on
from tests.deploy.machines.nspawn_machine import NspawnMachine

pytestmark = pytest.mark.machine
PLACES = ("/usr/lib/starling", "/usr/bin/starling", "/usr/lib/sysusers.d/starling.conf")
KEPT = ("keys/device.seed", "state/privacy.journal", "admission.json", "agent.toml")


@pytest.fixture(scope="module")
def later(package: Path) -> Path:
    """The same program as version 0.9.0."""
    return machine_images.next_package(package)


def install(board: NspawnMachine, package: Path) -> str:
    """Installs a package's file with apt, whatever version is there."""
    place = board.root / "root" / package.name
    place.write_bytes(package.read_bytes())
    return board.shell(f"apt install -y --allow-downgrades ./{package.name} 2>&1")


def home(board: NspawnMachine) -> Path:
    return board.root / HOME.lstrip("/")


def kept(board: NspawnMachine) -> dict[str, bytes]:
    """What a board is by: the journal's beginning, and the others as they are."""
    return {name: (home(board) / name).read_bytes() for name in KEPT}


def test_upgrade_keeps_state_and_starts_the_new_release(
    training: NspawnMachine, later: Path
) -> None:
    before, process = kept(training), training.main_pid(AGENT_UNIT)
    updates = final(training)

    install(training, later)

    assert machine_images.NEXT in training.run("starling", "--version")
    assert training.shown(AGENT_UNIT, "ActiveState") == "active"
    assert training.main_pid(AGENT_UNIT) != process
    goes_on(training)
    assert final(training) > updates
    after = kept(training)
    assert after["state/privacy.journal"].startswith(before["state/privacy.journal"])
    for name in set(KEPT) - {"state/privacy.journal"}:
        assert after[name] == before[name]
    assert training.run("dpkg", "--verify", "starling-agent") == ""


def test_earlier_release_starts_with_the_settings_of_a_later_one(
    training: NspawnMachine, package: Path
) -> None:
    settings = home(training) / "agent.toml"
    before = settings.read_text()
    newer = before.replace("config_version = 1\n", "config_version = 2\n")
    newer = newer.replace("[pace]\n", "[pace]\nat_night = true\n")
    settings.write_text(newer)

    install(training, package)

    assert machine_images.NEXT not in training.run("starling", "--version")
    goes_on(training)
    warned = training.journal(AGENT_UNIT, "-p", "warning")
    settings.write_text(before)
    training.run("systemctl", "restart", AGENT_UNIT)
    assert newer != before
    assert "is of a later release; ignored: pace.at_night" in warned


def test_removed_package_leaves_the_board_and_comes_back_to_it(
    training: NspawnMachine, package: Path
) -> None:
    before = kept(training)

    training.shell("apt remove -y starling-agent 2>&1")

    assert [place for place in PLACES if (training.root / place[1:]).exists()] == []
    left = kept(training)
    assert left["keys/device.seed"] == before["keys/device.seed"]
    ends = {unit.split()[0] for unit in units(training)}
    install(training, package)
    goes_on(training)
    assert f"{AGENT_UNIT}.service" not in ends


def units(board: NspawnMachine) -> list[str]:
    """Services that run."""
    options = ("--state=running", "--type=service", "--no-legend", "--plain")
    return board.run("systemctl", "list-units", *options).splitlines()


def test_purged_package_leaves_nothing(training: NspawnMachine) -> None:
    training.shell("apt purge -y starling-agent 2>&1")

    named = ["find", "/", "-xdev", "-iname", "*starling*", "-not", "-path", "/root/*"]
    found = training.run(*named, "-not", "-path", "/var/log/journal/*").splitlines()
    users = (training.root / "etc/passwd").read_text()
    owned = training.run("find", "/", "-xdev", "(", "-nouser", "-o", "-nogroup", ")")
    assert found == []
    assert "starling" not in users
    assert owned == ""
    assert (training.root / "srv/records/records.csv").exists()

"""`starling PART install` writes the unit, and nothing that is somebody else's."""

import json
from pathlib import Path

import pytest

from starling import __main__ as starling
from starling.agent.runtime.storage.agent_home import AgentHome
from starling.coordinator.config import CoordinatorConfig
from starling.protocol.errors import EXIT_CONFIG, EXIT_DONE
from starling.protocol.schema.toml_settings import sample
from starling.service import unit_files
from starling.service.unit_files import ServiceKind, ServiceUnit, unit_text

PROGRAM = "/usr/lib/starling/bin/starling"
KINDS = list(ServiceKind)


WRITABLE = {ServiceKind.COORDINATOR: (ServiceKind.BROKER.home,)}
"""Enrolment is done in the broker's folder."""


def install(kind: ServiceKind, prefix: Path, *more: str) -> int:
    words = [kind.value, "install", "--prefix", str(prefix), "--program", PROGRAM]
    return starling.main([*words, *more])


def expected_text(kind: ServiceKind) -> str:
    writable = WRITABLE.get(kind, ())
    return unit_text(ServiceUnit(kind, Path(PROGRAM), kind.home, writable=writable))


@pytest.mark.parametrize("kind", KINDS)
def test_unit_is_printed_and_nothing_is_written(
    kind: ServiceKind, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert install(kind, tmp_path, "--print-unit") == EXIT_DONE

    assert capsys.readouterr().out == expected_text(kind)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", KINDS)
def test_install_writes_unit_and_user_and_can_be_repeated(
    kind: ServiceKind, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for _ in range(2):
        assert install(kind, tmp_path, "--json") == EXIT_DONE

    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    unit = tmp_path / "etc/systemd/system" / kind.unit_name
    users = tmp_path / "etc/sysusers.d/starling.conf"
    assert said == {
        "unit": str(unit),
        "users": str(users),
        "home": str(kind.home),
        "user": "starling",
    }
    assert unit.read_text() == expected_text(kind)
    entry = 'u starling - "Starling" /var/lib/starling'
    assert users.read_text().splitlines()[1:] == [entry]
    assert {unit.stat().st_mode & 0o777, users.stat().st_mode & 0o777} == {0o644}


def test_install_says_what_comes_next(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    install(ServiceKind.AGENT, tmp_path)

    said = capsys.readouterr().out
    assert "sudo -u starling starling agent init --home /var/lib/starling\n" in said
    assert "systemctl enable --now starling-agent\n" in said


def test_unit_of_somebody_else_stays(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    unit = tmp_path / "etc/systemd/system/starling-agent.service"
    unit.parent.mkdir(parents=True)
    unit.write_text("[Service]\nExecStart=/bin/true\n")

    assert install(ServiceKind.AGENT, tmp_path) == EXIT_CONFIG

    assert unit.read_text() == "[Service]\nExecStart=/bin/true\n"
    assert f"{unit}: is not of our making" in capsys.readouterr().err


def test_user_of_somebody_else_stays_and_no_unit_is_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    users = tmp_path / "etc/sysusers.d/starling.conf"
    users.parent.mkdir(parents=True)
    users.write_text("u starling 961 - /home/starling\nm starling gpio\n")

    assert install(ServiceKind.AGENT, tmp_path) == EXIT_CONFIG

    assert users.read_text() == "u starling 961 - /home/starling\nm starling gpio\n"
    assert f"{users}: is not of our making" in capsys.readouterr().err
    assert not (tmp_path / "etc/systemd").exists()


def test_data_outside_of_the_home_may_be_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(unit_files, "HIDDEN", ())
    home, prefix = tmp_path / "board", tmp_path / "prefix"
    AgentHome(home).begin({"data.path": str(tmp_path / "measurements")})

    assert install(ServiceKind.AGENT, prefix, "--home", str(home)) == EXIT_DONE

    unit = (prefix / "etc/systemd/system/starling-agent.service").read_text()
    assert f"ReadWritePaths=-{tmp_path}/measurements\n" in unit


@pytest.mark.parametrize("beside", ["/srv/broker", ""])
def test_coordinator_may_write_to_the_broker_that_its_settings_name(
    beside: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    home = tmp_path / "coordinator"
    home.mkdir()
    text = sample(CoordinatorConfig, {"broker.home": beside})
    (home / "coordinator.toml").write_text(text)
    monkeypatch.setattr(unit_files, "HIDDEN", ())
    more = ["--home", str(home), "--print-unit"]

    assert install(ServiceKind.COORDINATOR, tmp_path, *more) == EXIT_DONE

    found = capsys.readouterr().out
    assert ("ReadWritePaths=-/srv/broker\n" in found) is bool(beside)
    assert "starling-broker\n" not in found.replace("starling-broker.service", "")


def test_settings_of_a_command_do_not_name_the_home(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("STARLING_HOME", "/srv/elsewhere")
    for kind in KINDS:
        install(kind, tmp_path, "--print-unit")

    printed = capsys.readouterr().out
    assert "/srv/elsewhere" not in printed

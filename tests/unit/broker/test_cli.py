"""`starling broker init`: what an operator asks for, and what is refused."""

import json
from pathlib import Path

import pytest

from starling import __main__ as starling
from starling.broker.runtime.broker_home import BrokerHome
from starling.protocol.errors import EXIT_CONFIG, EXIT_DONE, EXIT_FAILED

pytestmark = pytest.mark.usefixtures("fake_mosquitto")


def broker(*words: str | Path) -> int:
    return starling.main(["broker", *map(str, words)])


@pytest.fixture
def home(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> BrokerHome:
    path = tmp_path / "home"
    assert broker("init", "--home", path, "--fleet", "garden", "--host", "b.org") == 0
    capsys.readouterr()
    return BrokerHome(path)


def test_other_fleet_is_refused_and_a_rename_is_asked_for(
    home: BrokerHome, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("init", "--home", home.path, "--fleet", "meadow")

    assert broker(*words) == EXIT_CONFIG
    assert "serves 'garden'" in capsys.readouterr().err
    assert home.require_settings().fleet == "garden"
    assert broker(*words, "--rename") == EXIT_DONE
    assert home.require_settings().fleet == "meadow"


def test_same_fleet_again_is_no_rename(home: BrokerHome) -> None:
    assert broker("init", "--home", home.path, "--fleet", "garden") == EXIT_DONE


def test_init_that_cannot_issue_fails_and_says_for_want_of_what(
    home: BrokerHome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home.certificates.authority_key.rename(tmp_path / "safe")
    words = ("init", "--home", home.path, "--host", "c.org", "--json")

    assert broker(*words) == EXIT_FAILED
    said = capsys.readouterr()
    assert "does not name c.org" in said.err
    assert json.loads(said.out)["not_issued"] == [said.err.strip()[len("warning: ") :]]


def test_enrolment_port_is_kept_until_it_is_closed(home: BrokerHome) -> None:
    words = ("init", "--home", home.path)
    assert broker(*words, "--enrol-port", "8884") == EXIT_DONE
    first = (home.path / "registrar.password").read_bytes()

    assert broker(*words) == EXIT_DONE

    assert home.require_settings().enrol_port == 8884
    assert (home.path / "registrar.password").read_bytes() == first
    assert {path.stat().st_mode & 0o777 for path in home.enrolment.secrets} == {0o600}
    assert first not in (home.path / "enrolment.users").read_bytes()
    assert broker(*words, "--enrol-port", "0") == EXIT_DONE
    assert home.require_settings().enrol_port == 0


def test_enrolment_port_that_is_the_fleets_is_refused(
    home: BrokerHome, capsys: pytest.CaptureFixture[str]
) -> None:
    assert broker("init", "--home", home.path, "--enrol-port", "8883") == EXIT_CONFIG
    assert "--enrol-port" in capsys.readouterr().err

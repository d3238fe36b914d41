"""`starling agent enrol`: admissions that are taken, and those that are not."""

import json
from pathlib import Path

import pytest

from starling.agent.runtime.storage.agent_home import AgentHome
from starling.protocol.errors import EXIT_CONFIG, EXIT_DONE
from tests.unit.agent.agent_command import Capture, admission, agent
from tests.vectors.protocol_samples import GENESIS


def test_enrolment_there_and_back(home: Path, tmp_path: Path, capsys: Capture) -> None:
    path = admission(home, tmp_path)
    capsys.readouterr()

    code = agent("enrol", "--home", home, "--admission", path, "--json")

    assert code == EXIT_DONE
    assert json.loads(capsys.readouterr().out)["fleet"] == GENESIS.fleet
    found = AgentHome(home).admission()
    assert found is not None
    assert found.genesis == GENESIS


def test_admission_of_another_board_is_refused(
    home: Path, tmp_path: Path, capsys: Capture
) -> None:
    path = admission(home, tmp_path)
    other = tmp_path / "other"
    agent("init", "--home", other)

    code = agent("enrol", "--home", other, "--admission", path)

    assert code == EXIT_CONFIG
    assert "admits" in capsys.readouterr().err


def test_admission_with_a_certificate_for_another_key_is_refused(
    home: Path, tmp_path: Path, capsys: Capture
) -> None:
    path = admission(home, tmp_path)
    document = json.loads(path.read_text())
    document["certificate_pem"] = document["ca_pem"]
    path.write_text(json.dumps(document))

    code = agent("enrol", "--home", home, "--admission", path)

    assert code == EXIT_CONFIG
    assert "certificate is not for our key" in capsys.readouterr().err
    assert AgentHome(home).admission() is None


@pytest.mark.parametrize(
    ("key", "pem"),
    [
        ("certificate_pem", "-----BEGIN CERTIFICATE-----\nAAAA\n"),
        ("ca_pem", "-----BEGIN CERTIFICATE-----\nAAAA\n"),
        ("ca_pem", "-----BEGIN CERTIFICATE-----\n\ud800\n"),
    ],
    ids=["certificate", "authority", "surrogate"],
)
def test_damaged_admission_leaves_a_working_board_as_it_was(
    home: Path, tmp_path: Path, capsys: Capture, key: str, pem: str
) -> None:
    path = admission(home, tmp_path)
    agent("enrol", "--home", home, "--admission", path)
    before = {file: file.read_bytes() for file in (home / "tls").iterdir()}
    document = json.loads(path.read_text())
    document[key] = f"{pem}-----END CERTIFICATE-----\n"
    path.write_text(json.dumps(document))

    assert agent("enrol", "--home", home, "--admission", path) == EXIT_CONFIG

    assert str(path) in capsys.readouterr().err
    assert {file: file.read_bytes() for file in (home / "tls").iterdir()} == before

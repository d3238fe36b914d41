"""`starling fleet up | down | logs | chaos` as a user types them."""

import argparse
import json
import re
from pathlib import Path

import pytest

from starling.board_profiles.catalog import catalog
from starling.fleet.cli import main
from starling.fleet.container_cli import VERBS, add_verbs, asked_plan
from starling.fleet.containers.compose_plan import limits_of
from starling.protocol.errors import EXIT_DONE, EXIT_FAILED, ConfigError
from tests.unit.fleet.containers.listed_rows import listed
from tests.unit.fleet.containers.test_fleet_progress import status
from tests.unit.fleet.runtime.containers.fake_docker import FakeDocker

ROWS = "\n".join([listed("broker"), listed("coordinator-1"), listed("device")])


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = FakeDocker(tmp_path)
    found.answer("ps ", out=ROWS)
    found.answer("cat ", out=json.dumps(status(9, 1, [0.1, 0.5])))
    return found


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_examples(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    assert ended.value.code == 0
    assert re.search(rf"examples:\n  starling fleet {verb}", capsys.readouterr().out)


def test_up_without_waiting_says_what_there_is(
    docker: FakeDocker, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["up", "--devices", "1", "--no-wait", "--json"]) == EXIT_DONE
    document = json.loads(capsys.readouterr().out)

    assert document["project"] == "starling"
    assert (document["boards"], document["version"], document["waited"]) == (
        1,
        1,
        False,
    )
    assert any(" up --detach " in asked for asked in docker.asked)


def test_up_takes_the_limits_of_a_profile_unless_told_otherwise() -> None:
    profile = catalog()["zero2w"]
    options = add_verbs_to_a_parser().parse_args(["up", "--board", "zero2w"])
    own = add_verbs_to_a_parser().parse_args(
        ["up", "--board", "zero2w", "--memory", "99", "--boards-per-device", "3"]
    )
    unknown = add_verbs_to_a_parser().parse_args(["up", "--board", "abacus"])

    plan, other = asked_plan(options), asked_plan(own)

    assert (plan.memory_mb, plan.cpus) == limits_of(profile)
    assert plan.environment["BOARD_PROFILE"] == "zero2w"
    assert (other.memory_mb, other.boards) == (99, 3)
    with pytest.raises(ConfigError, match="abacus"):
        asked_plan(unknown)


def add_verbs_to_a_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    add_verbs(parser.add_subparsers())
    return parser


def test_down_says_that_volumes_stay(
    docker: FakeDocker, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["down", "--project", "x"]) == EXIT_DONE
    assert "removed 3 containers; volumes stay" in capsys.readouterr().out
    assert "--project-name x" in docker.asked[-1]
    assert main(["down", "--volumes", "--json"]) == EXIT_DONE
    assert len(json.loads(capsys.readouterr().out)["removed"]) == 3


def test_logs_are_lines_or_objects(
    docker: FakeDocker, capsys: pytest.CaptureFixture[str]
) -> None:
    docker.answer(" logs ", out="broker-1  | it | runs\n")
    assert main(["logs", "broker", "--tail", "3"]) == EXIT_DONE
    assert capsys.readouterr().out == "broker-1  | it | runs\n"
    assert main(["logs", "broker", "--json"]) == EXIT_DONE
    found = json.loads(capsys.readouterr().out)
    assert found == {"container": "broker-1", "text": "it | runs"}


def test_chaos_ends_with_the_state_before_and_after(
    docker: FakeDocker, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["chaos", "kill broker at 0s", "--watch", "0"]) == EXIT_DONE
    said = capsys.readouterr()

    assert "broker 1 was killed" in said.err
    assert "chains: coordinator-1 verifies" in said.out
    assert "kill starling-broker-1" in docker.asked


def test_chaos_with_a_broken_chain_fails(
    docker: FakeDocker, capsys: pytest.CaptureFixture[str]
) -> None:
    docker.answer("chain verify", 1, errors="damaged")
    assert main(["chaos", "kill broker at 0s", "--watch", "0"]) == EXIT_FAILED
    assert "DOES NOT VERIFY" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["up", "--devices", "0"], "--devices"),
        (["up", "--coordinators", "3"], "--coordinators"),
        (["up", "--project", "A"], "--project"),
        (["logs", "registrar"], "no service 'registrar'"),
        (["chaos", "board 2 loses power at 1s"], "TIMELINE: .*no board 2"),
        (["chaos", "boards 1-1 flip signs from version 0"], "TIMELINE: .*trainer"),
        (["up", "--boards-per-device", "51"], "--boards-per-device"),
        (["up", "--board", "abacus"], "no board profile 'abacus'"),
    ],
)
@pytest.mark.usefixtures("docker")
def test_what_cannot_be_done_is_refused(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        main(words)


@pytest.mark.parametrize(
    "words", [["up"], ["down"], ["logs"], ["chaos", "kill broker at 1s"]]
)
def test_without_docker_every_verb_says_so(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="docker is not installed"):
        main(words)

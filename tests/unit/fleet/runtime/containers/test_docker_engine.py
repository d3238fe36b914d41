"""Docker is run, and where it refuses one reads what to do."""

from pathlib import Path

import pytest

from starling.fleet.runtime.containers.docker_engine import (
    DockerEngine,
    DockerRefusal,
)
from starling.protocol.errors import ConfigError, OperationError
from tests.unit.fleet.runtime.containers.fake_docker import FakeDocker

AWAY = "Cannot connect to the Docker daemon at unix:///x. Is it running?\n"
NO_COMPOSE = "docker: 'compose' is not a docker command.\nSee 'docker --help'\n"


def test_docker_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="docker is not installed"):
        DockerEngine()


def test_daemon_that_is_away_is_named_with_what_to_do(docker: FakeDocker) -> None:
    docker.answer("version", 1, errors=AWAY)
    with pytest.raises(ConfigError, match=r"Cannot connect.*set DOCKER_HOST"):
        DockerEngine().require()


def test_missing_compose_is_named_with_what_to_do(docker: FakeDocker) -> None:
    docker.answer("compose version", 1, errors=NO_COMPOSE)
    with pytest.raises(ConfigError, match="install docker's compose plugin"):
        DockerEngine().require_compose()


@pytest.mark.parametrize("version", ["1.29.2", "", "dev"])
def test_compose_of_the_first_version_is_refused(
    docker: FakeDocker, version: str
) -> None:
    docker.answer("compose version", out=version + "\n")
    with pytest.raises(ConfigError, match="has to be 2 or later"):
        DockerEngine().require_compose()


@pytest.mark.parametrize("version", ["2.26.1-4", "v2.40.0", "5.0.0"])
def test_compose_of_a_later_version_is_taken(docker: FakeDocker, version: str) -> None:
    docker.answer("compose version", out=version + "\n")
    DockerEngine().require_compose()
    assert docker.asked[-1] == "compose version --short"


def test_missing_image_says_how_it_is_built(docker: FakeDocker) -> None:
    docker.answer("image inspect", 1, errors="Error: No such image: starling:dev\n")
    with pytest.raises(ConfigError, match=r"no image starling:dev.*make image"):
        DockerEngine().require_image("starling:dev")


def test_other_refusals_of_an_image_stay_what_they_are(docker: FakeDocker) -> None:
    docker.answer("image inspect", 1, errors="disk on fire\n")
    with pytest.raises(DockerRefusal, match="docker image inspect: disk on fire"):
        DockerEngine().require_image("starling:dev")


def test_ask_hands_over_input_and_environment(docker: FakeDocker) -> None:
    docker.answer("exec", out="done")
    said = DockerEngine().ask("exec", "--interactive", "c", given="order")
    assert said == "done"
    assert docker.given == ["order"]


def test_ask_that_takes_too_long_is_ended(docker: FakeDocker) -> None:
    program = docker.folder / "docker"
    program.write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    with pytest.raises(OperationError, match=r"docker ps --all: no answer in 0.1 s"):
        DockerEngine().ask("ps", "--all", timeout_s=0.1)


def test_document_is_read_from_a_command_that_fails_too(docker: FakeDocker) -> None:
    docker.answer("status", 1, out='{"condition": "revoked"}')
    docker.answer("nothing", 1, errors="no such container")
    docker.answer("list", out="[1]")
    engine = DockerEngine()
    assert engine.document("exec", "c", "status") == {"condition": "revoked"}
    assert engine.document("exec", "c", "nothing") is None
    assert engine.document("exec", "c", "list") is None

"""A fleet in containers is started, waited for and removed, against a fake docker."""

import json

import pytest

from starling.fleet.containers.compose_plan import ContainerPlan
from starling.fleet.containers.fleet_progress import FleetProgress
from starling.fleet.runtime.containers.container_fleet import (
    COMPOSE_FILE,
    ContainerFleet,
    remove,
    start,
    wait_until_it_learns,
)
from starling.fleet.runtime.containers.docker_engine import DockerEngine
from starling.protocol.errors import ConfigError, OperationError
from tests.unit.fleet.containers.listed_rows import listed
from tests.unit.fleet.containers.test_fleet_progress import status
from tests.unit.fleet.runtime.containers.fake_docker import FakeDocker

ROWS = "\n".join([listed("broker"), listed("coordinator-1"), listed("device")])


def fleet() -> ContainerFleet:
    return ContainerFleet(DockerEngine(), "starling")


def test_start_gives_compose_the_plan(docker: FakeDocker) -> None:
    start(fleet(), ContainerPlan(devices=3))

    assert COMPOSE_FILE.is_file()
    assert docker.asked[-3:] == [
        "image inspect --format {{.Id}} starling:dev",
        "info --format {{.NCPU}}",
        f"compose --project-name starling --file {COMPOSE_FILE} up --detach --no-build "
        "--scale device=3",
    ]


def test_start_that_fails_shows_the_last_words_of_what_ended(
    docker: FakeDocker,
) -> None:
    docker.answer(" up ", 1, errors="service setup didn't complete successfully\n")
    docker.answer("ps ", out=listed("setup", 1, "exited", "Exited (78) 1 second ago"))
    docker.answer("logs", out="this fleet was set up with coordinators: 4, not 1.\n")

    with pytest.raises(OperationError) as failed:
        start(fleet(), ContainerPlan())

    assert "didn't complete" in str(failed.value)
    assert "starling-setup-1, Exited (78)" in str(failed.value)
    assert "set up with coordinators: 4, not 1" in str(failed.value)


def test_start_without_the_image_asks_nothing_of_compose(docker: FakeDocker) -> None:
    docker.answer("image inspect", 1, errors="Error: No such image: x\n")
    with pytest.raises(ConfigError, match="make image"):
        start(fleet(), ContainerPlan(image="x"))
    assert not any(" up " in asked for asked in docker.asked)


def test_progress_is_read_from_coordinators_that_run(docker: FakeDocker) -> None:
    rows = [listed("coordinator-1", state="exited"), listed("coordinator-2")]
    docker.answer("ps ", out="\n".join(rows))
    found = json.dumps(status(9, 5, [0.1, 0.5]))
    docker.answer("exec starling-coordinator-2-1 cat", out=found)
    seen = fleet()

    assert seen.progress(seen.rows()) == FleetProgress(5, 1, 0.5, 4, 9)
    assert not any("exec starling-coordinator-1-1" in each for each in docker.asked)


def test_wait_says_what_keeps_the_fleet_from_learning(docker: FakeDocker) -> None:
    ill = {"condition": "broker away", "next_action": "look whether it runs"}
    docker.answer("ps ", out=ROWS)
    docker.answer("cat ", out=json.dumps(status(9, 1, [0.1])))
    docker.answer("agent status", 1, out=json.dumps(ill))

    with pytest.raises(OperationError) as failed:
        wait_until_it_learns(fleet(), ContainerPlan(devices=1), 0.0, print)

    assert "does not learn after 0 s: 1 devices enrolled" in str(failed.value)
    assert "starling-device-1: broker away; look whether it runs" in str(failed.value)


def test_wait_for_a_fleet_whose_budgets_are_spent_says_so(docker: FakeDocker) -> None:
    docker.answer("ps ", out=ROWS)
    docker.answer("agent status", 1, out='{"condition": "budget spent"}')

    with pytest.raises(OperationError, match=r"budget is spent; .* down --volumes"):
        wait_until_it_learns(fleet(), ContainerPlan(devices=1), 0.0, print)


def test_remove_names_what_was_there(docker: FakeDocker) -> None:
    docker.answer("ps ", out=ROWS)
    removed = remove(fleet(), volumes=True)

    assert removed == (
        "starling-broker-1",
        "starling-coordinator-1-1",
        "starling-device-1",
    )
    assert docker.asked[-1].endswith("--timeout 10 --volumes")


def test_verified_is_by_coordinator(docker: FakeDocker) -> None:
    rows = [listed("coordinator-1"), listed("coordinator-2")]
    docker.answer("ps ", out="\n".join(rows))
    docker.answer("exec starling-coordinator-2-1 starling chain", 1, errors="broken")
    seen = fleet()

    assert seen.verified(seen.rows()) == {"coordinator-1": True, "coordinator-2": False}


def test_fleet_that_is_not_there_is_named(docker: FakeDocker) -> None:
    docker.answer("ps ", out="")
    with pytest.raises(OperationError, match="no fleet 'starling' in containers"):
        fleet().require_rows()

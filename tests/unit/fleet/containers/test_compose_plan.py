"""Plans of fleets in containers, as words and variables for docker compose."""

from dataclasses import replace
from typing import Any

import pytest

from starling.board_profiles.catalog import catalog
from starling.fleet.containers.compose_plan import (
    ContainerPlan,
    advice_on,
    check_project,
    device_home,
    down_words,
    limits_of,
    logs_words,
    up_words,
    within,
)
from starling.protocol.errors import ConfigError


def test_up_words_scale_devices_and_have_four_coordinators_by_a_profile() -> None:
    one, four = ContainerPlan(devices=20), ContainerPlan(coordinators=4, project="x")

    assert up_words(one, "c.yaml") == (
        *("compose", "--project-name", "starling", "--file", "c.yaml"),
        *("up", "--detach", "--no-build", "--scale", "device=20"),
    )
    assert up_words(four, "c.yaml")[5:7] == ("--profile", "four")


def test_environment_is_what_the_compose_file_reads() -> None:
    plan = ContainerPlan(memory_mb=64, between_s=0.5, coordinators=4, image="i:1")

    assert plan.environment == {
        "COORDINATORS": "4",
        "STARLING_IMAGE": "i:1",
        "DEVICE_MEMORY": "64m",
        "DEVICE_CPUS": "0.5",
        "BETWEEN_S": "0.5",
        "BOARDS_PER_DEVICE": "1",
        "BOARD_PROFILE": "auto",
    }


def test_device_of_several_boards_has_the_limits_of_them_all() -> None:
    plan = ContainerPlan(devices=4, boards=5, memory_mb=100, cpus=0.25)

    assert plan.environment["DEVICE_MEMORY"] == "500m"
    assert plan.environment["DEVICE_CPUS"] == "1.25"
    assert plan.boards_in_all == 20
    homes = {device_home(board) for board in range(1, 6)}
    assert len(homes) == 5


def test_limit_is_no_more_than_the_machine_has() -> None:
    plan = ContainerPlan(boards=5, cpus=2.0)

    assert within(plan, 4).environment["DEVICE_CPUS"] == "4"
    assert within(plan, 16).environment["DEVICE_CPUS"] == "10"


@pytest.mark.parametrize("name", sorted(catalog()))
def test_limits_of_a_profile_hold_its_trainer_and_an_agent(name: str) -> None:
    profile = catalog()[name]
    memory_mb, cpus = limits_of(profile)

    assert memory_mb >= profile.trainer_memory_mb + 28
    assert cpus == profile.threads


def test_down_words_name_every_coordinator_and_keep_volumes_unless_asked() -> None:
    kept = down_words("starling", "c.yaml", volumes=False)

    assert kept[5:7] == ("--profile", "four")
    assert "--volumes" not in kept
    assert down_words("starling", "c.yaml", volumes=True) == (*kept, "--volumes")


def test_logs_words_follow_the_services_that_are_named() -> None:
    services = ["broker", "coordinator-4"]
    words = logs_words("starling", "c.yaml", services, follow=True, tail=3)

    assert words[-5:] == ("--tail", "3", "--follow", *services)


@pytest.mark.parametrize("service", ["coordinator-5", "registrar", "--help", ""])
def test_logs_words_refuse_an_unknown_service(service: str) -> None:
    with pytest.raises(ConfigError, match="SERVICE: there is no service"):
        logs_words("starling", "c.yaml", [service], follow=False, tail=3)


@pytest.mark.parametrize(
    ("change", "flag"),
    [
        ({"devices": 0}, "--devices"),
        ({"devices": 501}, "--devices"),
        ({"coordinators": 2}, "--coordinators"),
        ({"memory_mb": 5}, "--memory"),
        ({"between_s": float("nan")}, "--between"),
        ({"between_s": 3601.0}, "--between"),
        ({"image": "--privileged"}, "--image"),
        ({"image": ""}, "--image"),
        ({"project": "Starling"}, "--project"),
    ],
)
def test_plan_refuses_what_docker_would_not_take(
    change: dict[str, Any], flag: str
) -> None:
    with pytest.raises(ConfigError, match=flag):
        replace(ContainerPlan(), **change)


@pytest.mark.parametrize("name", ["", "-x", "a b", "a" * 64, "ä"])
def test_check_project_refuses_what_compose_takes_for_no_name(name: str) -> None:
    with pytest.raises(ConfigError, match="--project"):
        check_project(name)


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        ("Cannot connect to the Docker daemon at unix:///x.", "DOCKER_HOST"),
        ("permission denied while trying to connect", "group docker"),
        ("docker: 'compose' is not a docker command.", "compose plugin"),
        ("unknown shorthand flag: 'f' in -f", "compose plugin"),
        ("write: no space left on device", "docker system df"),
        ("something else", ""),
    ],
)
def test_advice_on_known_refusals_of_docker(words: str, advice: str) -> None:
    assert advice in advice_on(words)
    assert bool(advice) == bool(advice_on(words))

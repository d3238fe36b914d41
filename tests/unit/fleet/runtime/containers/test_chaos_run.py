"""A timeline reaches docker in its order, and is ended early in order, too."""

import json

import pytest

from starling.fleet.containers.container_chaos import chaos_plan
from starling.fleet.runtime.containers.chaos_run import ChaosOutcome, ChaosRun
from starling.fleet.runtime.containers.container_fleet import ContainerFleet
from starling.fleet.runtime.containers.docker_engine import (
    DockerEngine,
    DockerRefusal,
)
from starling.protocol.errors import OperationError
from tests.unit.fleet.containers.listed_rows import listed
from tests.unit.fleet.containers.test_fleet_progress import status
from tests.unit.fleet.runtime.containers.fake_docker import FakeDocker

ROWS = "\n".join(
    [
        listed("broker"),
        listed("coordinator-1"),
        *(listed("device", number) for number in (1, 2)),
    ]
)


@pytest.fixture(autouse=True)
def fleet_of_two(docker: FakeDocker) -> None:
    docker.answer("ps ", out=ROWS)
    docker.answer("cat ", out=json.dumps(status(9, 2, [0.1])))


def run(text: str, said: list[str]) -> ChaosRun:
    fleet = ContainerFleet(DockerEngine(), "starling")
    return ChaosRun(fleet, chaos_plan(text, 1, 2), said.append)


def done(docker: FakeDocker) -> list[str]:
    """What docker was to do, without what it was to tell."""
    return [
        asked
        for asked in docker.asked
        if asked.split()[0] not in ("ps", "version") and " cat /srv" not in asked
    ]


def last_orders(docker: FakeDocker) -> list[str]:
    """A line for each coordinator, of what they were last ordered."""
    return docker.given[-1].splitlines()


def test_timeline_is_carried_out_and_chains_are_checked(docker: FakeDocker) -> None:
    said: list[str] = []
    text = "kill broker at 0s; restart broker at 0.1s; board 2 pauses from 0s to 0.1s"
    outcome = run(text, said).carry_out(0.0)

    assert done(docker) == [
        "kill starling-broker-1",
        "pause starling-device-2",
        "restart starling-broker-1",
        "unpause starling-device-2",
        "exec starling-coordinator-1-1 starling chain verify --home "
        "/srv/fleet/coordinator-1",
    ]
    assert [line.partition("  ")[2] for line in said] == [
        "broker 1 was killed",
        "board 2 pauses",
        "broker 1 is started again",
        "board 2 goes on",
    ]
    document = outcome.document()
    assert document["sound"] is True
    assert document["verified"] == {"coordinator-1": True}
    assert document["events"][0]["text"] == "broker 1 was killed"


def test_orders_are_given_through_a_coordinator_that_runs(docker: FakeDocker) -> None:
    run("coordinator 1 lies from 0s", []).carry_out(0.0)

    given = [each.partition(" ")[2] for each in docker.given]
    empty, lies = map(json.loads, given)
    assert (empty["lies"], lies["lies"]) == (False, True)
    orders = "exec --interactive starling-coordinator-1-1"
    assert done(docker)[0].startswith(orders)
    assert done(docker)[1] == "restart starling-coordinator-1-1"


def test_container_that_is_so_already_is_no_error(docker: FakeDocker) -> None:
    docker.answer("kill", 1, errors="Container 3f is not running\n")
    outcome = run("board 1 loses power at 0s", []).carry_out(0.0)

    assert "start starling-device-1" in done(docker)
    assert outcome.sound


def test_pause_that_the_kernel_refuses_is_tried_again(docker: FakeDocker) -> None:
    refused = "OCI runtime pause failed: unable to freeze: unknown\n"
    docker.answer("pause starling-device-1", 1, errors=refused)
    with pytest.raises(DockerRefusal, match="unable to freeze"):
        run("board 1 pauses from 0s", []).carry_out(0.0)

    assert done(docker).count("pause starling-device-1") == 6


def test_refusal_ends_the_run_and_what_was_to_end_later(docker: FakeDocker) -> None:
    docker.answer("restart", 1, errors="disk on fire\n")
    text = "board 1 pauses from 0s to 9s; restart broker at 0.1s"
    with pytest.raises(DockerRefusal, match="disk on fire"):
        run(text, []).carry_out(0.0)

    assert done(docker)[-1] == "unpause starling-device-1"


def test_shape_of_a_link_is_told_to_who_stands_between(docker: FakeDocker) -> None:
    docker.answer("ps ", out=f"{ROWS}\n{listed('links')}")
    text = "link of board 1 delays 100ms from 0s to 1s"

    outcome = run(text, []).carry_out(0.0)

    orders = [json.loads(line.partition(" ")[2]) for line in docker.given]
    told = [words for words in docker.asked if " --interactive " in words]
    assert [words.split()[2] for words in told] == ["starling-links-1"] * 2
    shape = {"delay_s": 0.1, "bit_s": 0.0, "lost": 0.0}
    assert orders == [{"shapes": [[1, shape]]}, {"shapes": []}]
    assert [text for _, text in outcome.events] == [
        "the link of board 1 is 100 ms late",
        "the link of board 1 is in time again",
    ]


def test_fleet_of_before_that_has_no_links_is_named(docker: FakeDocker) -> None:
    assert listed("links") not in ROWS

    with pytest.raises(OperationError, match=r"no container 1 of links.*fleet up"):
        run("link of board 1 delays 100ms from 0s", []).carry_out(0.0)
    assert docker.given == []


def interrupted(text: str, after: str, coordinators: int = 1) -> ChaosOutcome:
    """Outcome of a run that the user ends once it said something."""
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if after in line and sum(after in each for each in said) == 1:
            raise KeyboardInterrupt

    fleet = ContainerFleet(DockerEngine(), "starling")
    return ChaosRun(fleet, chaos_plan(text, coordinators, 2), say).carry_out(60.0)


def test_interrupted_run_ends_what_was_to_end_later(docker: FakeDocker) -> None:
    text = "link of board 1 drops 100 % from 0s to 9s; board 2 leaves from 5s to 9s"

    outcome = interrupted(text, "drops 100")

    assert outcome.interrupted
    assert done(docker)[:2] == [
        "network disconnect --force starling_boards starling-device-1",
        "network connect starling_boards starling-device-1",
    ]
    assert not any("device-2" in each for each in done(docker))


def test_interrupted_run_begins_nothing_by_ending_what_began(
    docker: FakeDocker,
) -> None:
    docker.answer("ps ", out=f"{ROWS}\n{listed('coordinator-2')}")
    text = (
        "coordinator 1 lies from 0s to 30s; coordinator 1 equivocates from 0s; "
        "coordinator 2 lies from 20s to 60s; coordinator 2 equivocates from 10s"
    )

    outcome = interrupted(text, "begins to vote twice", 2)

    one, two = [json.loads(each.partition(" ")[2]) for each in last_orders(docker)]
    assert (one["lies"], two["lies"]) == (False, False)
    # What has no end goes on, and what has not begun never does.
    assert (one["equivocates"], two["equivocates"]) == (True, False)
    assert [text for _, text in outcome.events][2:] == ["coordinator 1 lies no more"]


@pytest.mark.parametrize(
    ("text", "begun", "back"),
    [
        (
            "board 1 leaves from 0s to 30s; boards 1-2 leave from 20s to 60s",
            "board 1 leaves",
            ["kill starling-device-1", "start starling-device-1"],
        ),
        (
            "board 1 pauses from 0s to 30s; boards 1-2 pause from 20s to 60s",
            "board 1 pauses",
            ["pause starling-device-1", "unpause starling-device-1"],
        ),
    ],
)
def test_interrupted_run_ends_what_a_later_fault_would_have_held(
    docker: FakeDocker, text: str, begun: str, back: list[str]
) -> None:
    interrupted(text, begun)

    assert done(docker)[:-1] == back


def test_interrupted_run_does_not_end_what_did_not_begin(docker: FakeDocker) -> None:
    text = "board 1 pauses from 0s to 9s; board 2 pauses from 0s to 9s"

    interrupted(text, "board 1 pauses")

    assert "unpause starling-device-1" in done(docker)
    assert not any("device-2" in each for each in done(docker))


def test_chain_that_does_not_verify_makes_the_outcome_unsound(
    docker: FakeDocker,
) -> None:
    docker.answer("chain verify", 1, errors="damaged")
    outcome = run("kill broker at 0s", []).carry_out(0.0)

    assert not outcome.sound
    assert outcome.document()["verified"] == {"coordinator-1": False}

"""Fleets of 5 and 20 devices in containers: they learn, whatever befalls them.

The tests with five share a fleet and follow each other; the last one stops it and looks
whether anything was lost.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from starling.fleet.runtime.containers.docker_engine import DockerEngine, DockerRefusal
from tests.deploy.container_engine import (
    FleetUnderTest,
    require_engine,
    require_image,
)

pytestmark = pytest.mark.machine


@pytest.fixture(scope="module")
def docker() -> DockerEngine:
    found = require_engine()
    require_image(found)
    return found


@pytest.fixture(scope="module")
def five(docker: DockerEngine) -> Iterator[FleetUnderTest]:
    fleet = FleetUnderTest(docker, devices=5, coordinators=1)
    try:
        fleet.up()
        yield fleet
    finally:
        fleet.remove()


def refusals(document: dict[str, Any]) -> dict[str, Any]:
    """Everything that a coordinator counts and a healthy fleet does not raise."""
    traffic, updates = document["traffic"], document["updates"]
    return {
        "dropped": traffic["dropped"],
        "ignored": traffic["ignored"],
        "wants": traffic["wants_dropped"],
        "refused": updates["refused"],
        "passing": updates["passing"],
        "peers": document["refused_peers"],
    }


def test_five_devices_learn(five: FleetUnderTest) -> None:
    begun = five.fleet.progress(five.fleet.rows())
    assert begun.boards == 5

    def is_better() -> bool:
        now = five.fleet.progress(five.fleet.rows())
        return (now.accuracy or 0.0) > 0.5

    five.wait(is_better, "half of the held-out digits are read")
    assert five.status(1)["task"] == 0
    assert all(five.status(number)["running"] for number in range(1, 6))


def test_health_checks_change_no_counter(five: FleetUnderTest) -> None:
    before = refusals(five.coordinator())
    for _ in range(3):
        check = ("starling", "broker", "check", "--home", "/srv/fleet/broker")
        five.docker.ask("exec", f"{five.project}-broker-1", *check)
        assert five.status(2)["running"]
    accepted = five.coordinator()["updates"]["accepted"]
    five.wait(
        lambda: five.coordinator()["updates"]["accepted"] > accepted,
        "an update after the checks",
    )

    assert refusals(five.coordinator()) == before


def test_five_devices_take_a_timeline_of_faults(five: FleetUnderTest) -> None:
    timeline = (
        "restart broker at 1s; board 3 loses power at 4s; "
        "boards 20 % leave from 5s to 12s; board 2 pauses from 6s to 15s; "
        "link of board 4 drops 100 % from 6s to 16s; coordinator 1 delays 50ms from 8s "
        "to 14s; kill broker at 18s; restart broker at 22s"
    )
    outcome = five.document("chaos", timeline)

    assert outcome["sound"]
    assert outcome["verified"] == {"coordinator-1": True}
    assert len(outcome["events"]) == 12
    five.wait(
        lambda: (
            (five.fleet.progress(five.fleet.rows()).version or 0)
            >= outcome["before"]["version"] + 4
        ),
        "four versions more",
    )


def test_links_that_are_late_narrow_and_lossy_hold_updates_up_and_lose_none(
    five: FleetUnderTest,
) -> None:
    five.go_on()
    outcome = five.document(
        "chaos",
        "link of board 1 delays 300ms from 0s to 20s; link of board 2 carries 64 "
        "kbit/s from 0s to 20s; link of board 3 drops 5 % from 0s to 20s",
        "--watch",
        "1",
    )

    assert outcome["sound"]
    assert [event["text"] for event in outcome["events"]][:3] == [
        "the link of board 1 is 300 ms late",
        "the link of board 2 carries 64 kbit/s",
        "the link of board 3 drops 5%",
    ]
    five.wait_for_update(1, "an update over a link that is late")
    assert all(five.status(number)["connected"] for number in (1, 2, 3))


def test_late_link_is_late_both_ways(five: FleetUnderTest) -> None:
    name = five.device(1).name
    probe = (
        "import socket, time; a = time.monotonic(); "
        "s = socket.create_connection(('broker', 8884)); s.sendall(b'x' * 8); "
        "s.recv(9); print(time.monotonic() - a)"
    )
    words = ("exec", name, "/usr/lib/starling/bin/python", "-c", probe)
    orders = '{"shapes": [[1, {"delay_s": 1.5, "bit_s": 0, "lost": 0}]]}'
    script = "mkdir -p /srv/fleet/orders; cat >/srv/fleet/orders/links"
    links = f"{five.project}-links-1"

    five.docker.ask("exec", "--interactive", links, "sh", "-c", script, given=orders)
    five.wait(lambda: float(five.docker.ask(*words)) >= 3.0, "the delay is in force")
    five.docker.ask("exec", links, "rm", "/srv/fleet/orders/links")


def test_device_that_is_cut_off_says_so_and_comes_back(five: FleetUnderTest) -> None:
    name, network = five.device(4).name, f"{five.project}_boards"
    five.docker.ask("network", "disconnect", network, name)
    five.wait(lambda: not five.status(4)["connected"], "the cut is noticed")
    cut = five.status(4)
    five.docker.ask("network", "connect", network, name)
    five.wait_for_update(4, "an update after the cut")

    assert cut["running"]
    assert "broker away: broker:8883" in cut["broker_said"]


def test_device_with_too_little_memory_names_the_cause(five: FleetUnderTest) -> None:
    five.go_on()
    name = five.device(5).name

    def is_limited() -> bool:
        # The kernel sets no limit below what a trainer holds just then.
        with suppress(DockerRefusal):
            five.docker.ask("update", "--memory", "48m", "--memory-swap", "48m", name)
            return True
        return False

    five.wait(is_limited, "the limit is set")

    def is_named() -> bool:
        return "memory" in str(five.status(5).get("fault"))

    five.wait(is_named, "the trainer's end is named")
    five.docker.ask("update", "--memory", "256m", "--memory-swap", "256m", name)
    five.wait_for_update(5, "an update with more memory")


def test_five_devices_lost_nothing(five: FleetUnderTest, tmp_path: Path) -> None:
    found = five.audit(tmp_path)

    assert found.hold, found.wrong
    assert found.held == found.verified + found.waiting + found.stale
    assert found.verified > 10


def test_twenty_devices_with_four_coordinators_learn_through_faults(
    docker: DockerEngine, tmp_path: Path
) -> None:
    fleet = FleetUnderTest(docker, devices=20, coordinators=4)
    try:
        begun = fleet.up(between_s=10.0)
        outcome = fleet.document(
            "chaos",
            "kill coordinator 2 at 1s; restart coordinator 2 at 6s; "
            "partition 1 2 | 3 4 from 8s to 14s; coordinator 4 lies from 16s to 24s; "
            "restart broker at 18s; boards 20 % lose power at 20s",
        )
        fleet.wait(
            lambda: (fleet.fleet.progress(fleet.fleet.rows()).accuracy or 0.0) > 0.3,
            "it learns",
        )
        found = fleet.audit(tmp_path)
    finally:
        fleet.remove()

    assert begun["boards"] == 20
    assert set(outcome["verified"]) == {f"coordinator-{n}" for n in range(1, 5)}
    assert outcome["sound"]
    assert found.hold, found.wrong
    assert found.forked == ()
    assert found.verified > 10


def test_several_boards_in_one_device_have_homes_and_shards_of_their_own(
    docker: DockerEngine,
) -> None:
    fleet = FleetUnderTest(docker, devices=2, coordinators=1)
    try:
        begun = fleet.up("--boards-per-device", "3", "--board", "zero2w")
        row = fleet.device(2)
        statuses = [fleet.fleet.device_status(row, board) for board in (1, 2, 3)]
        homes = "/var/lib/starling/home*/data/shard.npz"
        sums = docker.ask("exec", row.name, "sh", "-c", f"sha256sum {homes}").split()
        limits = json.loads(docker.ask("inspect", row.name))[0]["HostConfig"]
        pid = statuses[1]["pid"]
        docker.ask("exec", row.name, "sh", "-c", f"kill -9 {pid}")
        fleet.wait(
            lambda: fleet.fleet.device_status(row, 2).get("pid") not in (None, pid),
            "the killed one is started again",
        )
        well = docker.ask("exec", row.name, "sh", "/usr/lib/starling/entry.sh", "well")
        docker.ask("stop", "--time", "60", row.name, timeout_s=120)
        (stopped,) = json.loads(docker.ask("inspect", row.name))
    finally:
        fleet.remove()

    assert begun["boards"] == 6
    assert len({status["device"] for status in statuses}) == 3
    assert len(set(sums[::2])) == 3
    assert [status["board"] for status in statuses] == ["zero2w"] * 3
    assert limits["Memory"] == 3 * (192 + 64) << 20
    assert limits["NanoCpus"] == min(6, docker.processors()) * 10**9
    assert well == ""
    assert stopped["State"]["ExitCode"] == 0

"""A timeline becomes what docker is to do, or is refused with the reason."""

import json
import subprocess
from pathlib import Path

import pytest

from starling.fleet.containers.compose_plan import ORDERS_FOLDER
from starling.fleet.containers.container_chaos import (
    ContainerAction,
    ContainerVerb,
    chaos_plan,
)
from starling.fleet.faults.fault_timeline import FaultOrders
from starling.fleet.faults.link_shape import LinkOrders, LinkShape
from starling.fleet.runtime.containers.link_shaper import read_orders
from starling.fleet.runtime.faults.byzantine_coordinator import FaultOrderFile
from starling.protocol.errors import ConfigError


def deeds(text: str, coordinators: int = 1) -> list[tuple[float, str, str, int]]:
    """Everything that a timeline has docker do, with its time."""
    plan = chaos_plan(text, coordinators, 10)
    return [
        (moment.at_s, action.deed.value, action.service, action.number)
        for moment in plan.moments()
        for action in plan.actions(moment)
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kill broker at 2s", [(2.0, "kill", "broker", 1)]),
        ("restart broker at 2s", [(2.0, "restart", "broker", 1)]),
        ("kill coordinator 1 at 2s", [(2.0, "kill", "coordinator-1", 1)]),
        ("restart coordinator 1 at 2s", [(2.0, "start", "coordinator-1", 1)]),
        (
            "board 3 loses power at 1s",
            [(1.0, "kill", "device", 3), (1.0, "start", "device", 3)],
        ),
        (
            "boards 20 % leave from 1s to 4s",
            [
                (1.0, "kill", "device", 1),
                (1.0, "kill", "device", 6),
                (4.0, "start", "device", 1),
                (4.0, "start", "device", 6),
            ],
        ),
        (
            "board 2 pauses from 1s to 4s",
            [(1.0, "pause", "device", 2), (4.0, "unpause", "device", 2)],
        ),
        (
            "link of board 4 drops 100 % from 1s to 4s",
            [(1.0, "disconnect", "device", 4), (4.0, "connect", "device", 4)],
        ),
    ],
)
def test_entry_becomes_what_docker_is_to_do(
    text: str, expected: list[tuple[float, str, str, int]]
) -> None:
    assert deeds(text) == expected


def test_board_that_left_does_not_start_when_it_loses_power() -> None:
    text = "board 1 leaves from 1s to 9s; board 1 loses power at 5s"

    assert deeds(text) == [
        (1.0, "kill", "device", 1),
        (5.0, "kill", "device", 1),
        (9.0, "start", "device", 1),
    ]


@pytest.mark.parametrize(
    ("first", "second", "begins", "ends"),
    [
        ("board 1 pauses", "boards 1-2 pause", "pause", "unpause"),
        (
            "link of board 1 drops 100 %",
            "links of boards 1-2 drop 100 %",
            "disconnect",
            "connect",
        ),
    ],
)
def test_pauses_and_cuts_that_overlap_end_with_the_last_of_them(
    first: str, second: str, begins: str, ends: str
) -> None:
    done = deeds(f"{first} from 0s to 10s; {second} from 5s to 20s")

    assert [each for each in done if each[3] == 1] == [
        (0.0, begins, "device", 1),
        # Said once more is needless, which docker says too.
        (5.0, begins, "device", 1),
        (20.0, ends, "device", 1),
    ]
    assert (20.0, ends, "device", 2) in done


def test_pause_that_follows_another_without_a_gap_goes_on() -> None:
    done = deeds("board 1 pauses from 0s to 5s; board 1 pauses from 5s to 9s")

    assert [deed for _, deed, _, _ in done] == ["pause", "pause", "unpause"]


def test_cut_leaves_the_rest_of_a_link_s_shape_as_it_is() -> None:
    plan = chaos_plan(
        "link of board 1 drops 100 % from 0s to 10s; link of board 1 drops 30 % from "
        "5s to 20s",
        1,
        10,
    )
    done = [
        (moment.at_s, action.deed, action.standing)
        for moment in plan.moments()
        for action in plan.actions(moment)
    ]

    lossy = LinkOrders(((1, LinkShape(lost=0.3)),))
    assert done == [
        (0.0, ContainerVerb.DISCONNECT, ()),
        (5.0, ContainerVerb.ORDER, (("links", lossy),)),
        (10.0, ContainerVerb.CONNECT, ()),
        (20.0, ContainerVerb.ORDER, (("links", LinkOrders()),)),
    ]


def test_what_coordinators_do_wrong_becomes_orders_for_each_of_them() -> None:
    text = "partition 1 2 | 3 4 from 1s to 9s; coordinator 4 lies from 5s"
    plan = chaos_plan(text, 4, 1)
    given = [
        dict(action.standing) for m in plan.moments() for action in plan.actions(m)
    ]
    parted, lying, healed = given

    assert list(parted) == [f"coordinator-{n}" for n in range(1, 5)]
    assert parted["coordinator-1"] == FaultOrders(deaf_to=(3, 4))
    assert lying["coordinator-4"] == FaultOrders(deaf_to=(1, 2), lies=True)
    assert list(healed.values()) == [*[FaultOrders()] * 3, FaultOrders(lies=True)]


def test_shapes_of_links_become_orders_for_who_stands_between() -> None:
    plan = chaos_plan(
        "link of board 2 delays 100ms from 1s to 5s; links of boards 2-3 carry 8 "
        "kbit/s from 2s; link of board 3 drops 30 % from 3s; link of board 4 drops "
        "100 % from 4s",
        1,
        10,
    )
    given = [
        (action.service, dict(action.standing))
        for moment in plan.moments()
        for action in plan.actions(moment)
        if action.deed is ContainerVerb.ORDER
    ]
    late, narrow = LinkShape(delay_s=0.1), LinkShape(bit_s=8000.0)
    both, lossy = LinkShape(0.1, 8000.0), LinkShape(0.0, 8000.0, 0.3)

    assert plan.first_actions() == ()
    assert given == [
        ("links", {"links": LinkOrders(((2, late),))}),
        ("links", {"links": LinkOrders(((2, both), (3, narrow)))}),
        ("links", {"links": LinkOrders(((2, both), (3, lossy)))}),
        ("links", {"links": LinkOrders(((2, narrow), (3, lossy)))}),
    ]
    assert deeds("link of board 4 drops 100 % from 4s")[0][1] == "disconnect"


def test_orders_of_links_are_read_by_who_stands_between(tmp_path: Path) -> None:
    orders = LinkOrders(((2, LinkShape(0.1, 8000.0, 0.3)),))
    told = ContainerAction(ContainerVerb.ORDER, "links", standing=(("links", orders),))
    script = told.words("c", "p")[-1].replace(ORDERS_FOLDER, str(tmp_path))

    subprocess.run(["/bin/sh", "-c", script], input=told.input, text=True, check=True)

    assert read_orders((tmp_path / "links").read_bytes()) == orders


def test_coordinators_start_again_before_their_first_orders_alone() -> None:
    lies = chaos_plan("coordinator 1 lies from 1s", 1, 1)
    kills = chaos_plan("kill coordinator 1 at 1s", 1, 1)

    order, restart = lies.first_actions()
    assert order.deed is ContainerVerb.ORDER
    assert order.standing == (("coordinator-1", FaultOrders()),)
    assert restart == ContainerAction(ContainerVerb.RESTART, "coordinator-1")
    assert kills.first_actions() == ()


def test_action_in_words_of_docker() -> None:
    cut = ContainerAction(ContainerVerb.DISCONNECT, "device", 4)
    healed = ContainerAction(ContainerVerb.CONNECT, "device", 4)
    standing = (("coordinator-2", FaultOrders(lies=True)),)
    told = ContainerAction(ContainerVerb.ORDER, "coordinator-1", standing=standing)

    assert cut.words("c", "p") == ("network", "disconnect", "--force", "p_boards", "c")
    assert healed.words("c", "p") == ("network", "connect", "p_boards", "c")
    assert told.words("c", "p")[:5] == ("exec", "--interactive", "c", "sh", "-c")
    service, _, given = told.input.partition(" ")
    assert (service, json.loads(given)["lies"]) == ("coordinator-2", True)
    assert cut.input == ""


def test_orders_are_put_in_place_by_the_script_that_takes_them(tmp_path: Path) -> None:
    lies, well = FaultOrders(lies=True), FaultOrders()
    standing = (("coordinator-1", well), ("coordinator-2", lies))
    told = ContainerAction(ContainerVerb.ORDER, "coordinator-1", standing=standing)
    script = told.words("c", "p")[-1].replace(ORDERS_FOLDER, str(tmp_path / "orders"))

    subprocess.run(["/bin/sh", "-c", script], input=told.input, text=True, check=True)

    assert FaultOrderFile(tmp_path / "orders" / "coordinator-1").now() == well
    assert FaultOrderFile(tmp_path / "orders" / "coordinator-2").now() == lies


def test_refusal_is_needless_only_where_the_container_is_so_already() -> None:
    pause = ContainerAction(ContainerVerb.PAUSE, "device", 4)

    assert pause.is_needless("Container x is already paused")
    assert not pause.is_needless("No such container: x")
    restart = ContainerAction(ContainerVerb.RESTART, "broker")
    assert not restart.is_needless("is not running")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("boards 1-2 flip signs from version 0", "starling fleet run"),
        ("kill broker 2 at 1s", "no broker 2"),
        ("kill coordinator 2 at 1s", "no coordinator 2"),
        ("board 11 leaves from 1s", "no board 11"),
        ("make tea at 1s", "expected one of"),
        (" ; ", "has no entry"),
        ("", "has no entry"),
    ],
)
def test_chaos_plan_refuses_what_containers_cannot_do(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        chaos_plan(text, 1, 10)
    assert refused.value.key == "TIMELINE"

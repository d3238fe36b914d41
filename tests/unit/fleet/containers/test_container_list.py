"""Containers that docker lists: read, named, and in order or not."""

import pytest

from starling.fleet.containers.container_list import (
    coordinators_of,
    devices_of,
    list_words,
    named,
    read_rows,
)
from starling.protocol.errors import OperationError
from tests.unit.fleet.containers.listed_rows import listed


def test_read_rows_has_servers_first_and_devices_by_number() -> None:
    lines = [listed("device", 10), listed("device", 2), listed("coordinator-1")]
    rows = read_rows("\n".join([*lines, listed("broker"), ""]))

    assert [row.name for row in rows] == [
        "starling-broker-1",
        "starling-coordinator-1-1",
        "starling-device-2",
        "starling-device-10",
    ]
    assert [row.number for row in devices_of(rows)] == [2, 10]
    assert [row.coordinator for row in coordinators_of(rows)] == [1]
    assert named(rows, "device", 10).name == "starling-device-10"


@pytest.mark.parametrize(
    ("service", "state", "status", "trouble"),
    [
        ("setup", "exited", "Exited (0) 2 minutes ago", ""),
        ("setup", "exited", "Exited (78) 1 second ago", "Exited (78) 1 second ago"),
        ("broker", "running", "Up 2 minutes (healthy)", ""),
        ("broker", "running", "Up 2 minutes (health: starting)", ""),
        ("broker", "running", "Up 2 minutes (unhealthy)", "unhealthy"),
        ("device", "paused", "Up 2 minutes (Paused)", "Up 2 minutes (Paused)"),
        ("device", "exited", "Exited (0) 1 second ago", "Exited (0) 1 second ago"),
        ("device", "created", "", "created"),
    ],
)
def test_trouble_is_what_keeps_a_container_from_its_work(
    service: str, state: str, status: str, trouble: str
) -> None:
    (row,) = read_rows(listed(service, state=state, status=status))

    assert row.trouble == trouble


def test_named_refuses_what_is_not_there() -> None:
    with pytest.raises(OperationError, match="no container 3 of device"):
        named(read_rows(listed("device", 2)), "device", 3)


@pytest.mark.parametrize("text", ["{", "[]", '{"Names": "x"}', '{"Labels": 3}', "3"])
def test_read_rows_refuses_another_form(text: str) -> None:
    with pytest.raises(OperationError, match="unknown form"):
        read_rows(text)


def test_list_words_ask_for_stopped_containers_of_the_fleet_too() -> None:
    assert "--all" in list_words("x")
    assert "label=com.docker.compose.project=x" in list_words("x")

"""The compose file, as docker reads it; skips where docker or its plugin is not."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

COMPOSE = Path(__file__).parents[2] / "packaging" / "docker" / "compose.yaml"


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    docker = shutil.which("docker")
    if docker is None:
        pytest.skip("docker is not here: the compose file is not looked at")
    command = [docker, "compose", "-f", str(COMPOSE), "--profile", "four", "config"]
    read = subprocess.run(
        [*command, "--format", "json"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COORDINATORS": "4"},
    )
    if "compose" in read.stderr and "is not a docker command" in read.stderr:
        pytest.skip("docker has no compose plugin: the compose file is not looked at")
    if read.returncode != 0 and "unknown" in read.stderr:
        pytest.skip("docker has no compose plugin: the compose file is not looked at")
    assert read.returncode == 0, read.stderr
    found: dict[str, Any] = json.loads(read.stdout)["services"]
    return found


def test_compose_file_has_a_fleet_of_one_or_four(services: dict[str, Any]) -> None:
    coordinators = {f"coordinator-{n}" for n in range(1, 5)}
    assert set(services) == {
        *("setup", "server", "links", "broker", "device"),
        *coordinators,
    }
    in_profile = {name for name, row in services.items() if row.get("profiles")}
    assert in_profile == coordinators - {"coordinator-1"}
    assert services["setup"]["environment"] == {"COORDINATORS": "4"}


def test_no_part_may_write_its_root_or_gain_rights(services: dict[str, Any]) -> None:
    for name, row in services.items():
        assert row["read_only"] is True, name
        assert row["cap_drop"] == ["ALL"], name
        assert row["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in row, name
        # A registry's image of this name would be somebody else's.
        assert row["pull_policy"] == "never", name


def test_device_has_a_volume_of_its_own_and_limits(services: dict[str, Any]) -> None:
    device = services["device"]
    own = [it for it in device["volumes"] if it["target"] == "/var/lib/starling"]

    assert [it.get("source") for it in own] == [None]
    assert int(device["mem_limit"]) == 256 << 20
    assert float(device["cpus"]) == 0.5


def test_devices_wait_for_a_broker_that_enforces_what_it_must(
    services: dict[str, Any],
) -> None:
    broker = services["broker"]
    first = services["coordinator-1"]["depends_on"]["broker"]

    assert broker["healthcheck"]["test"][:4] == ["CMD", "starling", "broker", "check"]
    assert first["condition"] == "service_healthy"


def test_devices_reach_the_broker_only_past_who_shapes_their_links(
    services: dict[str, Any],
) -> None:
    at_server = services["server"]["networks"]["default"]["aliases"]
    at_links = services["links"]["networks"]["boards"]["aliases"]

    assert list(services["device"]["networks"]) == ["boards"]
    assert at_server == at_links == ["broker"]
    assert [
        name for name in services if "boards" in services[name].get("networks", {})
    ] == [
        "device",
        "links",
    ]

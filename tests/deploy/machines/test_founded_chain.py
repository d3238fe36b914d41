"""Four machines found a chain on two brokers by the page's commands, word by word."""

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.deploy.machines import machine_images
from tests.deploy.machines.deployed_fleet import COORDINATOR
from tests.deploy.machines.founding_machines import (
    HOSTS,
    PARTIES,
    FoundingMachines,
    page_commands,
)
from tests.e2e.deadline import DEADLINE_S

pytestmark = pytest.mark.machine
CODE = re.compile(r"^code ([A-Z0-9]{4}-[A-Z0-9]{4}):", re.MULTILINE)
LINE = re.compile(r"^starling-founding://\S+$", re.MULTILINE)


@pytest.fixture(scope="module")
def parties(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FoundingMachines]:
    machine_images.require_machines()
    folder = tmp_path_factory.mktemp("parties")
    made = FoundingMachines(folder)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(folder, ignore_errors=True)


def secrets(root: Path) -> set[bytes]:
    """Keys that a machine made."""
    folders = [
        root / "var/lib" / f"starling-{kind}" for kind in ("broker", "coordinator")
    ]
    found = {
        path.read_bytes()
        for folder in folders
        for path in folder.rglob("*")
        if path.suffix in {".key", ".seed"} and path.is_file()
    }
    return {content for content in found if len(content) >= 32}


def test_four_machines_found_a_chain_by_the_commands_of_the_page(
    parties: FoundingMachines,
) -> None:
    founder, host, other = page_commands()
    machines = parties.machines
    for name, lines in (("west", founder), ("east", host)):
        for line in lines[:2]:
            machines[name].shell(line)
    initial = {"west": parties.begin("west", founder[2])}
    machines["west"].wait("the line", lambda: bool(LINE.search(parties.said("west"))))
    found = LINE.search(parties.said("west"))
    assert found is not None
    line = shlex.quote(found[0])
    for name, command in (("east", host[2]), ("north", other[0]), ("south", other[0])):
        # One of those without a broker is at the founder's.
        at = command.replace("--at east", "--at west") if name == "north" else command
        initial[name] = parties.begin(name, at.replace("LINE", line))

    ended = {name: child.wait(DEADLINE_S) for name, child in initial.items()}

    assert ended == dict.fromkeys(PARTIES, 0), {
        name: parties.said(name) for name in PARTIES
    }
    codes = {CODE.findall(parties.said(name))[-1] for name in PARTIES}
    assert len(codes) == 1
    for name in PARTIES:
        machines[name].shell((founder if name in HOSTS else other)[-1])

    for name in PARTIES:
        machine = machines[name]
        machine.wait("blocks", partial(is_beyond, parties, name, 1))
        machine.wait("all of them heard", partial(hears_all, parties, name))


def is_beyond(parties: FoundingMachines, name: str, height: int) -> bool:
    """True once a party's chain is higher, as its coordinator says."""
    path = parties.machines[name].root / COORDINATOR.lstrip("/") / "status.json"
    document = json.loads(path.read_text()) if path.exists() else {}
    return int(document.get("chain", {}).get("height", 0)) > height


def hears_all(parties: FoundingMachines, name: str) -> bool:
    """True once a coordinator's check finds nobody silent."""
    command = ["sudo", "-u", "starling", "starling", "coordinator", "check", "--json"]
    done = parties.machines[name].try_run(*command, "--home", COORDINATOR)
    rows = json.loads(done.stdout)["checks"] if done.stdout else []
    found = [row["verdict"] for row in rows if row["name"] == "consensus.quorum"]
    return found == ["ok"]


def test_no_key_of_a_machine_is_on_another(parties: FoundingMachines) -> None:
    keys = {name: secrets(parties.machines[name].root) for name in PARTIES}

    assert all(keys.values())
    for name in PARTIES:
        for other in set(PARTIES) - {name}:
            assert not keys[name] & keys[other]

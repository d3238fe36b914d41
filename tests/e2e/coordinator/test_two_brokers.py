"""Four coordinators on two brokers, whose connection is cut and healed."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from starling.broker import cli as broker_cli
from starling.broker.runtime.broker_home import BrokerHome
from starling.broker.runtime.mosquitto_process import free_port
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.storage.sqlite_schema import CHAIN_FILE
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.fleet.runtime.processes.home_setup import command
from starling.protocol.errors import EXIT_DONE
from starling.protocol.wire.topics import Topics
from tests.e2e.deadline import DEADLINE_S
from tests.e2e.required_mosquitto import require_mosquitto
from tests.e2e.tcp_proxy import Proxy

pytestmark = pytest.mark.e2e

FLEET = "meadow"
NUMBERS = (1, 2, 3, 4)
WEST, EAST = (1, 2), (3, 4)
HEARTBEAT_S = "1"
LOST_AFTER_S = 4.0
BRIDGE = "bridge-east"


def until(condition: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.05)


def starling(*words: str) -> list[str]:
    return [sys.executable, "-m", "starling", *words]


@dataclass
class Council:
    """Two brokers and four coordinators.

    Attributes:
      path: Folder of everything.
      stack: Ends what runs.
    """

    path: Path
    stack: ExitStack
    running: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    def broker(self, side: str) -> BrokerHome:
        return BrokerHome(self.path / side)

    def home(self, number: int) -> CoordinatorHome:
        return CoordinatorHome(self.path / f"c{number}")

    def found(self) -> None:
        """Makes all folders, by the commands that operators use."""
        for side in ("west", "east"):
            place = ("--home", str(self.path / side), "--fleet", FLEET)
            where = ("--bind", "127.0.0.1", "--port", str(free_port()))
            command(broker_cli.main, "init", *place, *where)
        identities = []
        for number in NUMBERS:
            identities.append(str(self.path / f"c{number}.json"))
            name = ("--name", f"c{number}", "--out", identities[-1])
            self.coordinator("identity", number, *name)
        genesis = str(self.path / "genesis")
        shared = ("--fleet", FLEET, "--heartbeat", HEARTBEAT_S)
        self.coordinator("genesis", 1, *shared, "--out", genesis, *identities)
        for number in NUMBERS:
            side = "west" if number in WEST else "east"
            joins = ("--genesis", genesis, "--broker", str(self.path / side))
            self.coordinator("init", number, *shared, *joins)

    def coordinator(self, verb: str, number: int, *words: str) -> dict[str, Any]:
        from starling.coordinator.cli import coordinator_command

        place = ("--home", str(self.path / f"c{number}"))
        return command(coordinator_command.main, verb, *place, *words)

    def run_brokers(self) -> None:
        for side in ("west", "east"):
            home = self.broker(side)
            home.prepare(home.require_settings())
            process = home.process()
            process.start()
            self.stack.callback(process.stop)

    def start(self, number: int) -> None:
        log = (self.path / f"c{number}.log").open("ab")
        words = starling("coordinator", "run", "--home", str(self.path / f"c{number}"))
        child = subprocess.Popen(words, stdout=log, stderr=log)
        log.close()
        self.running[number] = child
        self.stack.callback(child.wait)
        self.stack.callback(child.kill)

    def kill(self, number: int) -> None:
        self.running[number].kill()
        self.running[number].wait()

    def stop(self) -> None:
        for child in self.running.values():
            child.terminate()
        for child in self.running.values():
            assert child.wait(DEADLINE_S) == EXIT_DONE

    def status(self, number: int) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self.home(number).status.read_bytes())
        except FileNotFoundError:
            return {"chain": {"height": 0, "tip": None}, "consensus": {"peers": []}}
        return found

    def height(self, number: int) -> int:
        height: int = self.status(number)["chain"]["height"]
        return height

    def highest(self) -> int:
        return max(self.height(number) for number in NUMBERS)

    def lost(self, number: int, silent_s: float = LOST_AFTER_S) -> set[str]:
        """Whom a coordinator has not heard of for long."""
        peers = self.status(number)["consensus"]["peers"]
        return {peer["name"] for peer in peers if peer["silent_s"] > silent_s}

    def all_reach(self, height: int) -> None:
        what = f"not all at {height}: {[self.height(number) for number in NUMBERS]}"
        until(lambda: all(self.height(n) >= height for n in NUMBERS), what)

    def check_chains(self) -> None:
        """All are valid, and the same as far as they go."""
        chains: list[SqliteStore] = []
        for number in NUMBERS:
            place = ("--json", "--home", str(self.path / f"c{number}"))
            done = subprocess.run(
                starling("chain", "verify", *place), capture_output=True, check=False
            )
            assert done.returncode == EXIT_DONE, done.stderr
            file = self.home(number).state / CHAIN_FILE
            chains.append(SqliteStore.read(file))
        last = [chain.block(min(each.height() for each in chains)) for chain in chains]
        assert len({at.block.header.block_id() for at in last if at is not None}) == 1
        for chain in chains:
            chain.close()


@pytest.fixture
def council(tmp_path: Path) -> Iterator[Council]:
    require_mosquitto()
    with ExitStack() as stack:
        made = Council(tmp_path, stack)
        made.found()
        yield made


def bridge(council: Council, proxy_port: int) -> None:
    """The bridge of docs/broker.md: east's broker is a client of west's."""
    topics, east = Topics(FLEET), council.broker("east")
    names = {number: council.home(number).name for number in NUMBERS}
    said = {
        number: topics.gossip(name).removesuffix("say") + "#"
        for number, name in names.items()
    }
    files = council.broker("west").certificates.issue_files(BRIDGE, east.path)
    lines = [
        "connection west",
        f"address 127.0.0.1:{proxy_port}",
        "bridge_protocol_version mqttv50",
        f"bridge_cafile {files.authority}",
        f"bridge_certfile {files.certificate}",
        f"bridge_keyfile {files.key}",
        "notifications false",
        "keepalive_interval 5",
        "restart_timeout 1 2",
        *[f"topic {said[number]} in 1" for number in WEST],
        *[f"topic {said[number]} out 1" for number in EAST],
    ]
    (east.path / "local.conf").write_text("\n".join(lines) + "\n")
    rights = [
        f"user {BRIDGE}",
        *[f"topic read {said[number]}" for number in WEST],
        *[f"topic write {said[number]}" for number in EAST],
    ]
    access = council.broker("west").path / "local.access"
    access.write_text("\n".join(rights) + "\n")


def test_bridge_cut_and_healed_all_reach_the_same_tip(council: Council) -> None:
    port = council.broker("west").require_settings().port
    proxy = council.stack.enter_context(Proxy(port))
    bridge(council, proxy.port)
    council.run_brokers()
    run_cut_and_heal(council, proxy.cut, proxy.heal)


def test_peers_brokers_cut_and_healed_all_reach_the_same_tip(
    council: Council,
) -> None:
    proxies = [
        council.stack.enter_context(Proxy(council.broker(side).require_settings().port))
        for side in ("west", "east")
    ]
    for number in NUMBERS:
        visited = 1 if number in WEST else 0
        host = EAST[0] if number in WEST else WEST[0]
        invitation = str(council.path / f"{number}.invitation")
        identity = str(council.path / f"c{number}.json")
        council.coordinator("invite", host, identity, "--out", invitation)
        peer = f"mqtts://127.0.0.1:{proxies[visited].port}={invitation}"
        own = str(council.path / ("west" if number in WEST else "east"))
        joins = ("--fleet", FLEET, "--broker", own, "--peer", peer)
        council.coordinator("init", number, *joins)
    council.run_brokers()

    def cut() -> None:
        for proxy in proxies:
            proxy.cut()

    def heal() -> None:
        for proxy in proxies:
            proxy.heal()

    run_cut_and_heal(council, cut, heal)


def run_cut_and_heal(
    council: Council, cut: Callable[[], None], heal: Callable[[], None]
) -> None:
    for number in NUMBERS:
        council.start(number)
    council.all_reach(4)

    cut()
    until(
        lambda: council.lost(1) >= {"c3", "c4"} and council.lost(4) >= {"c1", "c2"},
        "the sides still hear each other",
    )
    assert not council.lost(1) & {"c2"}
    before = council.highest()
    council.kill(3)
    until(lambda: len(council.lost(1, 2 * LOST_AFTER_S)) == 2, "no status any more")
    assert council.highest() == before, "decided without a quorum"

    council.start(3)
    heal()
    council.all_reach(before + 3)
    council.stop()
    council.check_chains()

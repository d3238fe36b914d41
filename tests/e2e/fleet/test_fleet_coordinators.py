"""`starling fleet run --coordinators 4`: faults on a timeline, one chain at all."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from starling.fleet.monitor.run_snapshot import RunSnapshot
from starling.fleet.runtime.processes.home_setup import FleetHomes
from starling.fleet.runtime.processes.status_poller import StatusPoller
from starling.protocol.errors import EXIT_DONE, EXIT_INTERRUPTED
from tests.e2e.fleet.fleet_process import running, until
from tests.e2e.required_mosquitto import require_mosquitto

pytestmark = pytest.mark.e2e

COORDINATORS = 4
STRETCH = max(1.0, os.getloadavg()[0] / (4 * (os.cpu_count() or 1)))
"""How much later things happen where far more wants to run than there are cores."""
LIMIT_S = round(300 * STRETCH)
"""Later than any of these runs should last; each ends when it has shown its point."""
END_TIMEOUT_S = 120.0
VERIFY_TIMEOUT_S = 180.0
# Parted first: one that is still catching up when the cut begins may bring its side a
# block with votes that crossed before, at any time, and so end the pause.
PARTITION_KILL_LIE = (
    "partition 1 2 | 3 4 from {}s to {}s; "
    "kill coordinator 2 at {}s; restart coordinator 2 at {}s; "
    "coordinator 4 lies from {}s"
)
SHORT_S, FULL_S = (10, 20, 25, 33, 35), (10, 25, 32, 40, 50)


def starling(*words: str) -> list[str]:
    return [sys.executable, "-m", "starling", *words]


def run_fleet(
    folder: Path,
    timeline: str,
    is_over: Callable[[str, RunSnapshot], bool],
    boards: int = 6,
    *words: str,
) -> str:
    """Runs four coordinators and some boards until they have shown what is asked.

    Args:
      folder: For the report; the homes lie in it.
      timeline: Faults of the run.
      is_over: Says of the log and of what the homes hold whether it is time to stop.
      boards: How many there are.
      words: Further options.

    Returns:
      What the log said.
    """
    require_mosquitto()
    asked = ["--devices", str(boards), "--buffer", "2", "--privacy", "none"]
    asked += ["--coordinators", str(COORDINATORS), "--fault", timeline]
    asked += ["--until-version", "100000", "--time-limit", str(LIMIT_S), *words]
    asked += ["--report", str(folder)]
    homes = FleetHomes(folder / "home")
    watch = StatusPoller(homes, boards, COORDINATORS, private=False)
    log = folder / "log"
    with log.open("w") as stderr, running(*asked, stderr=stderr) as child:
        until(
            lambda: (
                child.poll() is not None or is_over(log.read_text(), watch.look(0.0, 0))
            ),
            "the fleet shows what is asked",
            LIMIT_S,
        )
        child.send_signal(signal.SIGTERM)
        child.wait(END_TIMEOUT_S)
    assert child.returncode == EXIT_INTERRUPTED, log.read_text()
    return log.read_text()


def read_report(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return document


@dataclass(frozen=True)
class Course:
    """A run that is over.

    Attributes:
      folder: Its report and homes.
      said: Its log.
    """

    folder: Path
    said: str

    @property
    def report(self) -> dict[str, Any]:
        return read_report(self.folder)

    def final_between(self, from_s: float, until_s: float) -> int:
        times = [version["time_s"] for version in self.report["versions"]]
        return sum(from_s < time_s < until_s for time_s in times)

    def happened_s(self, what: str) -> float:
        """When the fleet did something, which is later than planned under load."""
        events = self.report["events"]
        return float(next(one["time_s"] for one in events if what in one["text"]))

    def first_known_between(self, from_s: float, until_s: float) -> int:
        """Versions of which whoever knew them first knew in this time.

        What was decided just before a partition, others on its side learn within it.
        """
        known = self._first_known_ms()
        times = [(time_ms - known[0]) / 1000 for time_ms in known.values()]
        return sum(from_s < time_s < until_s for time_s in times)

    def stood_at(self, side: tuple[int, ...], from_s: float, until_s: float) -> int:
        """The greatest height at which one of a side said that it stands still."""
        start_s = self._first_known_ms()[0] / 1000
        found = set[int]()
        for number in side:
            name = coordinator_home(self.folder, number).name
            log = self.folder / "home" / "logs" / f"{name}.log"
            for line in log.read_text().splitlines():
                height = re.search(r" stands still at height (\d+), ", line)
                if height is not None:
                    said_s = datetime.fromisoformat(line[:23]).timestamp() - start_s
                    found |= {int(height[1])} if from_s < said_s < until_s else set()
        return max(found)

    def _first_known_ms(self) -> dict[int, int]:
        """Version to when whoever knew it first did."""
        known: dict[int, int] = {}
        for number in range(1, COORDINATORS + 1):
            home = coordinator_home(self.folder, number)
            document = json.loads((home / "status.json").read_text())
            for row in document["tasks"][0]["versions"]:
                earliest_ms = known.get(row["version"], row["time_ms"])
                known[row["version"]] = min(earliest_ms, row["time_ms"])
        return known


LIAR_NAMED = "coordinator 4 attested another model"
UPDATES = 20
"""That a board must have proof of before the receipts are looked at."""


def every_one_names_the_liar(said: str, seen: RunSnapshot) -> bool:
    """The last that the timelines bring, and updates enough for what is asked then."""
    if sum(board.accepted for board in seen.devices) <= UPDATES:
        return False
    named = [each.named for each in seen.coordinators]
    return LIAR_NAMED in said and named == [("coordinator 4",)] * COORDINATORS


@pytest.fixture(
    scope="module", params=["short", pytest.param("full", marks=pytest.mark.soak)]
)
def course(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Course:
    """A run with a partition, a kill and a liar."""
    folder = tmp_path_factory.mktemp("council")
    times_s = SHORT_S if request.param == "short" else FULL_S
    timeline = PARTITION_KILL_LIE.format(*(round(STRETCH * at_s) for at_s in times_s))
    few_bits = ("--codec", "rotated2")
    said = run_fleet(folder, timeline, every_one_names_the_liar, 6, *few_bits)
    return Course(folder, said)


def coordinator_home(home: Path, number: int) -> Path:
    name = "coordinator" if number == 1 else f"coordinator-{number}"
    return home / "home" / name


def test_fleet_with_one_killed_goes_on_and_it_catches_up(course: Course) -> None:
    heights = [each["height"] for each in course.report["coordinators"]]
    assert len(heights) == COORDINATORS
    assert max(heights) - min(heights) <= 1
    killed_s = course.happened_s("2 was killed")
    restarted_s = course.happened_s("2 is started again")
    assert course.final_between(killed_s + 1, restarted_s)


def test_fleet_parted_in_halves_pauses_says_so_and_goes_on(course: Course) -> None:
    from_s = course.happened_s("are cut off")
    until_s = course.happened_s("hear each other again")
    why = "no side has a quorum of 3: "
    (pause,) = [each for each in course.report["pauses"] if why in each["why"]]
    sides = pause["why"].removeprefix(why).split(" | ")
    assert sorted(sides) == ["1 2", "3 4"]
    # Votes that crossed right before the cut complete one block at most.
    tops = [course.stood_at(side, from_s, until_s + 4) for side in ((1, 2), (3, 4))]
    assert abs(tops[0] - tops[1]) <= 1
    assert from_s - 4 < pause["from_s"] < until_s < pause["until_s"]
    assert f"{pause['why']}\n" in course.said
    assert "finality goes on after" in course.said
    assert not course.first_known_between(pause["from_s"] + 2.0, until_s)
    assert course.final_between(pause["until_s"], 1000.0)


def test_fleet_every_coordinator_s_chain_is_the_same_and_verified(
    course: Course,
) -> None:
    for number in range(1, COORDINATORS + 1):
        place = coordinator_home(course.folder, number)
        checked = subprocess.run(
            starling("chain", "verify", "--json", "--home", str(place)),
            capture_output=True,
            text=True,
            timeout=VERIFY_TIMEOUT_S,
            check=False,
        )
        assert checked.returncode == EXIT_DONE, checked.stderr
    assert course.report["chain"]["verified"] is True
    assert course.report["receipts"]["forked"] == []


def test_fleet_losses_of_a_quorum_are_on_every_chain(course: Course) -> None:
    found = course.report["held_out"]
    assert found is not None
    assert 0 <= found["best"] <= found["newest"]
    assert found["best_loss"] <= found["newest_loss"]


def test_fleet_every_receipt_of_the_boards_verifies_on_every_chain(
    course: Course,
) -> None:
    receipts = course.report["receipts"]
    assert receipts["wrong"] == []
    assert receipts["chains"] == COORDINATORS
    accounted = receipts["verified"] + receipts["waiting"] + receipts["stale"]
    assert accounted == receipts["held"] > UPDATES
    assert f"receipts: {receipts['verified']} of {receipts['held']}" in course.said


def test_fleet_liar_is_named(course: Course) -> None:
    named = {tuple(each["named"]) for each in course.report["coordinators"]}
    assert named == {("coordinator 4",)}
    assert LIAR_NAMED in course.said


TOO_MANY = "more liars than are allowed for: version"


def test_fleet_with_more_liars_than_allowed_for_says_so(tmp_path: Path) -> None:
    lying = "coordinator 2 lies from 1s; coordinator 3 lies from 1s"
    said = run_fleet(tmp_path, lying, lambda said, _: TOO_MANY in said, 3)
    report = read_report(tmp_path)
    assert TOO_MANY in said
    assert "attested digests are split 1 4 | 2 3" in said
    assert report["coordinators"][0]["split"]
    assert report["receipts"]["wrong"] == []


CONVICTED = "coordinator 3 is convicted: dup_vote"


@pytest.mark.soak
def test_fleet_equivocator_is_convicted_and_a_wrong_clock_harms_nothing(
    tmp_path: Path,
) -> None:
    timeline = (
        "coordinator 3 equivocates from 1s; clock of coordinator 1 jumps +3600s at 1s;"
        "coordinator 2 delays 100ms from 1s to 3s"
    )

    known: list[int] = []

    def every_one_convicts(said: str, seen: RunSnapshot) -> bool:
        if CONVICTED in said and all(each.convicted for each in seen.coordinators):
            known.append(len(seen.versions))
        # What follows the conviction shows that all goes on.
        return bool(known) and len(seen.versions) > known[0] + 2

    said = run_fleet(tmp_path, timeline, every_one_convicts, 3)
    report = read_report(tmp_path)
    convicted = {str(each["convicted"]) for each in report["coordinators"]}
    assert convicted == {"[['coordinator 3', 'dup_vote']]"}
    assert CONVICTED in said
    assert report["pauses"] == []
    assert len(report["versions"]) > known[0] + 2


def test_fleet_on_two_brokers_learns_from_the_boards_of_both(tmp_path: Path) -> None:
    def both_brokers_bring_updates(_: str, seen: RunSnapshot) -> bool:
        accepted = [board.accepted for board in seen.devices]
        return sum(accepted[::2]) > 1 and sum(accepted[1::2]) > 1

    run_fleet(tmp_path, "", both_brokers_bring_updates, 4, "--brokers", "2")
    report = read_report(tmp_path)
    accepted = [board["updates_accepted"] for board in report["devices"]]
    # Boards are dealt out in turn.
    assert sum(accepted[::2]) > 0
    assert sum(accepted[1::2]) > 0
    assert report["receipts"]["wrong"] == []
    assert report["receipts"]["verified"] >= 4

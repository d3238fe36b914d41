"""A board whose certificate is old, in a running fleet: renewed, or told what to do."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from starling.agent.runtime.storage.agent_home import AgentHome
from starling.broker.certificate_reader import days_left
from starling.broker.runtime.broker_home import BrokerHome
from starling.protocol.ids import device_name
from tests.e2e.agent.test_agent_process import RealCoordinator
from tests.e2e.required_mosquitto import require_mosquitto

pytestmark = pytest.mark.e2e
LATE = "late"


@pytest.fixture
def meadow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCoordinator]:
    """Broker and coordinator that run, and a board that does not yet."""
    require_mosquitto()
    made = RealCoordinator(tmp_path_factory.mktemp("meadow"))
    made.found(0)
    made.enrol(LATE, 9)
    for name in ("broker", "coordinator"):
        made.start(name)
    yield made
    made.stop()


def age(meadow: RealCoordinator, left: int) -> None:
    """Gives the board a certificate that has so many days left."""
    home = AgentHome(meadow.home(LATE))
    authority = BrokerHome(meadow.home("broker")).certificates.authority()
    public = home.tls_public_file.read_bytes()
    name = device_name(home.identity())
    home.tls.certificate.write_bytes(authority.issue(name, public, left))


def left(meadow: RealCoordinator) -> float:
    pem = AgentHome(meadow.home(LATE)).tls.certificate.read_text()
    return days_left(pem, time.time())


def log(meadow: RealCoordinator) -> str:
    return (meadow.folder / f"{LATE}.log").read_text()


def test_certificate_near_its_end_is_renewed_while_the_board_goes_on(
    meadow: RealCoordinator,
) -> None:
    age(meadow, 5)
    coordinator = meadow.folder / "coordinator.log"
    meadow.wait("registrar", lambda: "renewals are answered" in coordinator.read_text())

    meadow.start(LATE)

    meadow.wait("another certificate", lambda: left(meadow) > 800)
    meadow.wait("it in use", lambda: log(meadow).count("connected to the broker") == 2)
    assert meadow.end(LATE, signal.SIGTERM) == 0


def test_certificate_that_ended_is_named_and_the_board_comes_back_by_its_request(
    meadow: RealCoordinator,
) -> None:
    age(meadow, -75)
    words = ["agent", "check", "--home", str(meadow.home(LATE))]

    checked = subprocess.run(
        [sys.executable, "-m", "starling", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    meadow.start(LATE)
    said = "our certificate ended 75 days ago"
    meadow.wait("its name", lambda: said in str(meadow.status(LATE).get("broker_said")))
    assert meadow.end(LATE, signal.SIGTERM) == 0

    assert said in log(meadow)
    assert checked.returncode == 1
    assert "this board's certificate ended 75 days ago" in checked.stdout

    home, admission = meadow.home(LATE), meadow.folder / "again.json"
    meadow.do(
        *("coordinator", "admit", home / "enrolment-request.json"),
        *("--home", meadow.home("coordinator"), "--out", admission),
    )
    meadow.do("agent", "enrol", "--home", home, "--admission", admission)
    meadow.start(LATE)
    meadow.wait_for_version(LATE, 1)
    assert meadow.end(LATE, signal.SIGTERM) == 0

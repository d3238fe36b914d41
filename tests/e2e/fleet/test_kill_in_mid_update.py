"""Every process killed while an update is on its way, again and again.

The moment is the right one by construction: a file in a board's spool is an update that
no proof has reached yet. Afterwards everything is read from the disks.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from starling.agent.privacy.ledger import PrivacyLedger
from starling.coordinator.runtime.storage.sqlite_schema import CHAIN_FILE
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.durable.journal import Journal
from starling.protocol.chain.enrolment import admission_from_json
from starling.protocol.ids import DeviceId, device_id
from starling.protocol.wire.envelope import ENVELOPE, MessageKind
from starling.protocol.wire.message_bodies import CONTRIBUTION
from tests.e2e.deadline import DEADLINE_S
from tests.e2e.fleet.fleet_process import (
    has_reached,
    mosquitto_of,
    process_of,
    running,
    until,
    version,
)
from tests.e2e.required_mosquitto import require_mosquitto

pytestmark = pytest.mark.e2e

ROUNDS = 2
ACCEPTED = re.compile(r"update for version (\d+) accepted$", re.MULTILINE)


@pytest.fixture(autouse=True)
def _broker_program() -> None:
    require_mosquitto()


def board_in_mid_update(home: Path) -> Path:
    """A board with an update in its spool; waits for one."""
    deadline_s = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline_s:
        for found in home.glob("boards/*/spool/*.upload"):
            return found.parents[1]
        time.sleep(0.001)
    pytest.fail("no board has an update under way")


def applied(store: SqliteStore) -> Counter[tuple[DeviceId, int]]:
    """How often each board's update for a base version stands in the chain."""
    tip = store.tip()
    assert tip.header is not None
    found: Counter[tuple[DeviceId, int]] = Counter()
    for height in range(1, tip.header.height + 1):
        stored = store.block(height)
        assert stored is not None
        for packed in stored.block.transactions:
            envelope = ENVELOPE.unpack(packed)
            if envelope.kind == MessageKind.UPDATE:
                base = CONTRIBUTION.unpack(envelope.body).version
                found[device_id(envelope.sender), int(base)] += 1
    return found


def waiting(store: SqliteStore) -> set[tuple[DeviceId, int]]:
    """Admitted updates that the next block would have taken."""
    return {
        (
            device_id(upload.update.sender),
            int(CONTRIBUTION.unpack(upload.update.body).version),
        )
        for upload in store.uploads_waiting()
    }


def paid(board: Path) -> set[int]:
    """Base versions that a board's journal says it paid for."""
    journal, payloads = Journal.open(board / "state" / "privacy.journal")
    journal.close()
    return {int(base) for _, _, base in PrivacyLedger.load(None, payloads).charges}


def test_every_process_killed_in_mid_update_loses_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    sizes = ("--devices", "4", "--buffer", "2", "--until-version", "100000")
    kept = ("--home", str(home), "--report", str(tmp_path / "out"))
    with running(*sizes, "--privacy", "none", *kept, "--time-limit", "110") as child:
        until(partial(has_reached, home, 2), "the fleet learns")
        for _ in range(ROUNDS):
            for whose in ("board", "coordinator", "mosquitto"):
                before = version(home)
                busy = f"board-{board_in_mid_update(home).name}"
                if whose == "mosquitto":
                    victim = mosquitto_of(home)
                else:
                    victim = process_of(home, busy if whose == "board" else whose)
                os.kill(victim, signal.SIGKILL)
                until(partial(has_reached, home, before + 2), f"after the {whose}")
        child.send_signal(signal.SIGTERM)
        child.communicate(timeout=DEADLINE_S)

    document = json.loads((tmp_path / "out" / "report.json").read_text())
    assert document["restarts"] >= 2 * ROUNDS
    checked = ("chain", "verify", "--home", str(home / "coordinator"))
    verified = subprocess.run(
        [sys.executable, "-m", "starling", *checked],
        capture_output=True,
        text=True,
        check=False,
    )
    assert verified.returncode == 0, verified.stderr
    store = SqliteStore.open(home / "coordinator" / "state" / CHAIN_FILE)
    in_chain, in_store = applied(store), waiting(store)
    store.close()
    assert set(in_chain.values()) == {1}
    for board in sorted((home / "boards").iterdir()):
        admission = admission_from_json((board / "admission.json").read_bytes())
        log = (home / "logs" / f"board-{board.name}.log").read_text()
        accepted = {(admission.device, int(base)) for base in ACCEPTED.findall(log)}
        assert len(accepted) > ROUNDS
        assert accepted <= in_chain.keys() | in_store
        bases = {base for device, base in in_chain if device == admission.device}
        assert bases <= paid(board)

"""A command waits for the chain, and says what it decided or that it did not."""

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.harness.synthetic_chain import of_nobody, write
from starling.coordinator.chain.state.board_records import BOARDS
from starling.coordinator.runtime.command_inbox import settle
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.operations.chain_decision import (
    ChainDecision,
    await_decision,
    known_board,
)
from starling.coordinator.runtime.storage.sqlite_chain import ChainTables
from starling.coordinator.runtime.storage.sqlite_schema import CHAIN_FILE
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.coordinator.step.effects import RemoveInboxFile
from starling.protocol.errors import OperationError, Reason, StorageError
from starling.protocol.ids import DeviceId, Digest

IDENTITY = Digest(bytes(32))


class Time:
    """A clock, and what happens while somebody waits."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.happens: dict[int, object] = {}
        self.pauses = 0

    def clock(self) -> float:
        return self.now_s

    def pause(self, seconds: float) -> None:
        self.now_s += seconds
        self.pauses += 1
        happening = self.happens.get(self.pauses)
        if callable(happening):
            happening()


@pytest.fixture
def home(tmp_path: Path) -> CoordinatorHome:
    """One whose coordinator runs."""
    made = CoordinatorHome(tmp_path)
    made.inbox.mkdir()
    made.state.mkdir()
    write(made.state / CHAIN_FILE, of_nobody(1), 3).close()
    shows(made, "running", os.getpid())
    return made


def shows(home: CoordinatorHome, state: str, pid: int) -> None:
    home.status.write_text(json.dumps({"state": state, "pid": pid}))


def decide(home: CoordinatorHome, time: Time, wait_s: float = 5.0) -> ChainDecision:
    return await_decision(home, IDENTITY, wait_s, time.clock, time.pause)


def test_refusal_that_comes_later_is_waited_for(home: CoordinatorHome) -> None:
    time = Time()
    refused = RemoveInboxFile(f"{IDENTITY.hex()}.tx", Reason.NOT_ENROLLED, "no board")
    time.happens[3] = lambda: settle(home.inbox, refused)

    found = decide(home, time)

    assert found == ChainDecision(None, Reason.NOT_ENROLLED, "no board")
    assert time.pauses == 3
    with pytest.raises(OperationError, match=r"not revoked: no board \(NOT_ENROLLED\)"):
        found.require("not revoked")


def test_transaction_in_a_block_is_told_with_its_height(
    home: CoordinatorHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    time = Time()
    chain = of_nobody(1)
    store = write(home.state / "other", chain, 3)
    ((identity, place), *_) = store.transaction_index()
    store.close()
    (home.state / "other").rename(home.state / CHAIN_FILE)

    found = await_decision(home, Digest(identity), 5.0, time.clock, time.pause)

    assert found == ChainDecision(place.height)
    assert found.text("revoked b", "whether") == f"revoked b at height {place.height}"


@pytest.mark.parametrize(
    ("state", "pid"),
    [("stopped", os.getpid()), ("running", 1 << 22)],
    ids=["stopped", "killed"],
)
def test_without_a_process_liveness_nobody_waits_and_nothing_is_claimed(
    home: CoordinatorHome, state: str, pid: int
) -> None:
    shows(home, state, pid)
    time = Time()

    found = decide(home, time)

    assert time.pauses == 0
    assert (found.height, found.reason) == (None, None)
    assert "the coordinator does not run" in found.text("revoked b", "whether b is")


def test_chain_that_decides_nothing_is_waited_for_so_long_and_no_longer(
    home: CoordinatorHome,
) -> None:
    time = Time()

    found = decide(home, time, 2.0)

    assert time.now_s == pytest.approx(2.0, abs=0.2)
    assert "within 2 s" in found.detail


def test_no_wait_looks_at_nothing(tmp_path: Path) -> None:
    time = Time()

    found = decide(CoordinatorHome(tmp_path / "none"), time, 0.0)

    assert found.document() == {"height": None, "decided": False}


def test_board_is_read_by_itself_and_the_file_is_closed(
    home: CoordinatorHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqliteStore.read(home.state / CHAIN_FILE)
    rows = store.tip().tree.items(BOARDS.prefix)
    boards = {
        DeviceId(key.removeprefix(BOARDS.prefix)): BOARDS.codec.unpack(value)
        for key, value in rows
    }
    store.close()
    assert boards
    closed: list[SqliteStore] = []
    close = SqliteStore.close

    def noted(store: SqliteStore) -> None:
        closed.append(store)
        close(store)

    monkeypatch.setattr(SqliteStore, "close", noted)
    # The whole state is not read, and its root is not made anew.
    monkeypatch.delattr(ChainTables, "tip")

    assert {device: known_board(home, device) for device in boards} == boards
    assert known_board(home, DeviceId(bytes(16))) is None
    assert len(closed) == len(boards) + 1


def test_no_board_is_known_before_there_is_a_chain(tmp_path: Path) -> None:
    assert known_board(CoordinatorHome(tmp_path), DeviceId(bytes(16))) is None


def test_damaged_record_of_a_board_is_the_disk_s_fault(home: CoordinatorHome) -> None:
    device = DeviceId(b"b" * 16)
    with closing(sqlite3.connect(home.state / CHAIN_FILE)) as connection:
        row = (BOARDS.key(device), b"\xc1")
        connection.execute("INSERT INTO state VALUES (?, ?)", row)
        connection.commit()

    with pytest.raises(StorageError, match="a board"):
        known_board(home, device)

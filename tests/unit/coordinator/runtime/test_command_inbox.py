"""What a command finds of a transaction that the coordinator did not take."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from starling.coordinator.runtime import command_inbox
from starling.coordinator.runtime.command_inbox import (
    REFUSALS_MAX,
    NotedRefusal,
    look,
    settle,
    take_refusal,
)
from starling.coordinator.step.effects import RemoveInboxFile
from starling.protocol.errors import Reason
from starling.protocol.ids import Digest

IDENTITY = Digest(bytes(range(32)))
NAME = f"{IDENTITY.hex()}.tx"


def test_transaction_that_is_taken_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"x")

    settle(tmp_path, RemoveInboxFile(NAME))

    assert list(tmp_path.iterdir()) == []
    assert take_refusal(tmp_path, IDENTITY) is None


def test_refusal_is_noted_in_the_transaction_s_place_and_read_once(
    tmp_path: Path,
) -> None:
    (tmp_path / NAME).write_bytes(b"x")

    settle(tmp_path, RemoveInboxFile(NAME, Reason.NOT_ENROLLED, "no such board"))

    assert not (tmp_path / NAME).exists()
    noted = NotedRefusal(Reason.NOT_ENROLLED, "no such board")
    assert take_refusal(tmp_path, IDENTITY) == noted
    assert take_refusal(tmp_path, IDENTITY) is None


def test_refusals_that_nobody_reads_are_bounded_and_the_newest_stay(
    tmp_path: Path,
) -> None:
    for number in range(REFUSALS_MAX + 5):
        name = f"{number:064x}"
        settle(tmp_path, RemoveInboxFile(f"{name}.tx", Reason.STALE, ""))
        noted = tmp_path / f"{name}.refused"
        if noted.exists():
            os.utime(noted, ns=(number, number))

    kept = sorted(path.name for path in tmp_path.iterdir())
    assert len(kept) == REFUSALS_MAX
    assert kept[-1] == f"{REFUSALS_MAX + 4:064x}.refused"


def test_damaged_refusal_is_a_refusal_all_the_same(tmp_path: Path) -> None:
    (tmp_path / f"{IDENTITY.hex()}.refused").write_bytes(b"{")

    found = take_refusal(tmp_path, IDENTITY)

    assert found is not None
    assert found.reason == Reason.MALFORMED


def test_refusal_that_is_taken_while_old_ones_are_counted_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = tmp_path / f"{IDENTITY.hex()}.refused"
    taken.write_bytes(b"{}")
    listed = Path.glob

    def list_then_take(folder: Path, pattern: str) -> Iterator[Path]:
        found = list(listed(folder, pattern))
        taken.unlink(missing_ok=True)
        return iter(found)

    monkeypatch.setattr(Path, "glob", list_then_take)
    settle(tmp_path, RemoveInboxFile("other.tx", Reason.STALE, "late"))

    assert [path.name for path in tmp_path.iterdir()] == ["other.refused"]


def test_file_that_is_withdrawn_while_it_is_looked_for_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = f"{IDENTITY.hex()}.blob"
    for name in (NAME, blob, "other.tx"):
        (tmp_path / name).write_bytes(b"x")
    kept: list[bytes] = []

    def look_then_withdraw(folder: Path) -> command_inbox.InboxContent:
        found = look(folder)
        command_inbox.withdraw(folder, IDENTITY)
        (folder / blob).unlink()
        return found

    monkeypatch.setattr(command_inbox, "look", look_then_withdraw)
    inbox = command_inbox.CommandInbox(tmp_path, lambda: 0.0)

    found = inbox.fresh(lambda content, _: kept.append(content))

    assert found == [("other.tx", b"x")]
    assert kept == []

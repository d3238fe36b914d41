"""Damage is named and set aside; nothing sound and nothing that is lost for good is."""

import sqlite3
from pathlib import Path

import pytest

from benchmarks.harness.synthetic_chain import of_nobody, write
from starling import __main__ as starling
from starling.coordinator.chain.gossip_messages import JOURNAL_ENTRY, VoteJournalEntry
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.setup import damage_recovery
from starling.coordinator.runtime.setup.damage_recovery import recover
from starling.coordinator.runtime.storage.sqlite_schema import CHAIN_FILE, LOG_ENDINGS
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.coordinator.runtime.storage.vote_journal import VOTES_FILE
from starling.durable.journal import Journal
from starling.durable.journal_frames import HEAD_BYTES
from starling.protocol.chain.genesis import GENESIS
from starling.protocol.errors import ConfigError, OperationError, StorageError


def make(folder: Path, validators: int = 4) -> CoordinatorHome:
    """A home with some blocks and two votes."""
    home = CoordinatorHome(folder)
    home.state.mkdir()
    chain = of_nobody(validators)
    (folder / "genesis").write_bytes(GENESIS.pack(chain.genesis))
    write(home.state / CHAIN_FILE, chain, 5).close()
    entries = [
        JOURNAL_ENTRY.pack(VoteJournalEntry(n, None, None, None)) for n in (6, 7)
    ]
    with Journal.open(home.state / VOTES_FILE)[0] as journal:
        for entry in entries:
            journal.append(entry)
    return home


def damage_state(home: CoordinatorHome) -> None:
    connection = sqlite3.connect(home.state / CHAIN_FILE)
    with connection:
        connection.execute("UPDATE state SET value = x'00'")
    connection.close()


def damage_pages(home: CoordinatorHome) -> None:
    path = home.state / CHAIN_FILE
    content = path.read_bytes()
    path.write_bytes(content[:100] + bytes(4000) + content[4100:])


def empty(home: CoordinatorHome) -> None:
    (home.state / CHAIN_FILE).write_bytes(b"")


def damage_old_block(home: CoordinatorHome) -> None:
    """A start does not look there."""
    connection = sqlite3.connect(home.state / CHAIN_FILE)
    with connection:
        connection.execute("UPDATE blocks SET header = x'00' WHERE height = 2")
    connection.close()


def damage_votes(home: CoordinatorHome) -> None:
    path = home.state / VOTES_FILE
    content = bytearray(path.read_bytes())
    content[HEAD_BYTES + 12] ^= 1
    path.write_bytes(content)


def test_sound_files_stay_where_they_are(tmp_path: Path) -> None:
    home = make(tmp_path)
    found = recover(home)
    assert (found.chain, found.votes, found.kept) == (None, None, ())
    assert SqliteStore.read(home.state / CHAIN_FILE).height() == 5


@pytest.mark.parametrize(
    "damage",
    [damage_state, damage_old_block, damage_pages, empty],
    ids=lambda f: f.__name__,
)
def test_damaged_chain_is_set_aside_and_the_votes_stay(
    tmp_path: Path, damage: object
) -> None:
    home = make(tmp_path)
    damage(home)  # type: ignore[operator]  # a table's entry
    found = recover(home)
    assert found.chain is not None
    assert "starling coordinator recover" in found.chain
    assert found.votes is None
    assert home.state / f"{CHAIN_FILE}.damaged-1" in found.kept
    assert not (home.state / CHAIN_FILE).exists()
    assert (home.state / VOTES_FILE).exists()


def test_power_cut_while_a_chain_is_set_aside_leaves_no_log_without_its_chain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = make(tmp_path)
    damage_old_block(home)
    logs = [home.state / f"{CHAIN_FILE}{ending}" for ending in LOG_ENDINGS]
    seen: list[bool] = []
    replace = Path.replace

    def moved(path: Path, target: Path) -> Path:
        for log in logs:
            assert log.exists() <= (home.state / CHAIN_FILE).exists()
        seen.append(path in logs)
        return replace(path, target)

    real = damage_recovery._chain_damage

    def damaged(path: Path) -> str | None:
        found = real(path)
        # As a coordinator that was killed leaves them.
        for log in logs:
            log.touch()
        return found

    monkeypatch.setattr(damage_recovery, "_chain_damage", damaged)
    monkeypatch.setattr(Path, "replace", moved)

    found = recover(home)

    assert seen == [True, True, False]
    assert len(found.kept) == 3


def test_damaged_votes_are_set_aside_and_the_chain_stays(tmp_path: Path) -> None:
    home = make(tmp_path)
    damage_votes(home)
    found = recover(home)
    assert found.chain is None
    assert found.votes is not None
    assert found.kept == (home.state / f"{VOTES_FILE}.damaged-1",)
    assert not (home.state / VOTES_FILE).exists()


def test_second_damage_keeps_the_first_one_s_files(tmp_path: Path) -> None:
    home = make(tmp_path)
    for number in (1, 2):
        damage_votes(home)
        assert recover(home).kept == (home.state / f"{VOTES_FILE}.damaged-{number}",)
        with Journal.open(home.state / VOTES_FILE)[0] as journal:
            journal.append(b"no vote")
            journal.append(b"no vote either")


def test_damaged_chain_that_nobody_else_has_is_left(tmp_path: Path) -> None:
    home = make(tmp_path, validators=1)
    damage_state(home)
    with pytest.raises(OperationError, match="nobody else has this chain"):
        recover(home)
    assert (home.state / CHAIN_FILE).exists()


def test_process_liveness_is_left_alone(tmp_path: Path) -> None:
    home = make(tmp_path)
    with (
        Journal.open(home.state / VOTES_FILE)[0],
        pytest.raises(ConfigError, match="another process"),
    ):
        recover(home)


def test_command_says_what_is_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = make(tmp_path)
    damage_state(home)
    damage_votes(home)
    assert starling.main(["coordinator", "recover", "--home", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    for part in ("state_root", "lost are updates", "resume", "damaged-1"):
        assert part in said
    assert starling.main(["coordinator", "recover", "--home", str(tmp_path)]) == 0
    assert "nothing is damaged" in capsys.readouterr().out


def test_recover_finds_what_chain_verify_finds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = make(tmp_path)
    damage_old_block(home)
    SqliteStore.open(home.state / CHAIN_FILE).close()  # a start accepts it
    assert starling.main(["chain", "verify", "--home", str(tmp_path)]) == 1
    assert "FAULT at height 2" in capsys.readouterr().out
    assert starling.main(["coordinator", "recover", "--home", str(tmp_path)]) == 0
    assert "height 2" in capsys.readouterr().out


def test_disk_that_refuses_the_votes_leaves_them_where_they_are(tmp_path: Path) -> None:
    home = make(tmp_path)
    votes = home.state / VOTES_FILE
    votes.rename(votes.with_suffix(".kept"))
    votes.mkdir()  # the system refuses to open it; nothing says that it is damaged
    with pytest.raises(StorageError) as told:
        recover(home)
    assert "recover" not in str(told.value)
    assert votes.is_dir()

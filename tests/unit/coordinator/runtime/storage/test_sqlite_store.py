"""What only the disk can do wrong: crashes, damage, other readers."""

import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from starling.coordinator.runtime.storage import sqlite_schema
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.coordinator.runtime.storage.vote_journal import VoteJournal
from starling.protocol.errors import ConfigError, StorageError
from starling.protocol.ids import H
from tests.contract.storage.filled_store import fill
from tests.unit.coordinator.fixtures.single_validator import SingleValidator
from tests.unit.coordinator.fixtures.small_chain import SmallChain


def stored(path: Path) -> SingleValidator:
    world = SmallChain()
    store = SqliteStore.create(path, world.genesis)
    running = fill(store, world)
    store.close()
    return running


def test_open_after_close_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "chain"
    running = stored(path)
    store = SqliteStore.open(path)
    assert store.genesis == running.settings.genesis
    assert store.tip().header == running.state.header
    store.close()


def test_create_over_a_chain_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "chain"
    stored(path)
    with pytest.raises(ConfigError, match="already"):
        SqliteStore.create(path, SmallChain().genesis)


def test_create_after_an_unfinished_one_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "chain.new").write_bytes(b"half a file")
    (tmp_path / "chain.new-journal").write_bytes(b"half a journal")
    stored(tmp_path / "chain")
    assert not (tmp_path / "chain.new").exists()
    store = SqliteStore.open(tmp_path / "chain")
    assert store.height() == 3
    store.close()


def test_create_beside_another_chain_s_log_is_refused_and_the_log_stays(
    tmp_path: Path,
) -> None:
    path = tmp_path / "chain"
    log = tmp_path / "chain-wal"
    log.write_bytes(b"of a chain that was moved away")

    with pytest.raises(ConfigError, match="belongs to another chain") as caught:
        SqliteStore.create(path, SmallChain().genesis)

    assert str(log) in str(caught.value)
    assert log.read_bytes() == b"of a chain that was moved away"
    assert not path.exists()


@pytest.mark.parametrize("how", [SqliteStore.open, SqliteStore.read])
def test_open_without_a_chain_is_a_config_error(tmp_path: Path, how: object) -> None:
    with pytest.raises(ConfigError, match="no chain"):
        how(tmp_path / "nothing")  # type: ignore[operator]  # one of two constructors


def test_error_inside_a_transaction_undoes_all_of_it(tmp_path: Path) -> None:
    store = SqliteStore.create(tmp_path / "chain", SmallChain().genesis)
    with suppress(RuntimeError), store.transaction():
        store.put_blob(b"half")
        raise RuntimeError
    assert store.blob(H(b"half")) is None
    with store.transaction():
        store.put_blob(b"whole")
    assert store.blob(H(b"whole")) == b"whole"
    store.close()


def test_uncommitted_writes_are_invisible_to_a_reader(tmp_path: Path) -> None:
    path = tmp_path / "chain"
    store = SqliteStore.create(path, SmallChain().genesis)
    reader = SqliteStore.read(path)
    with store.transaction():
        store.put_blob(b"whole")
        assert reader.blob(H(b"whole")) is None
    assert reader.blob(H(b"whole")) == b"whole"
    reader.close()
    store.close()


def test_reader_cannot_write(tmp_path: Path) -> None:
    path = tmp_path / "chain"
    stored(path)
    reader = SqliteStore.read(path)
    with pytest.raises(StorageError), reader.transaction():
        reader.put_blob(b"whole")
    reader.close()


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("UPDATE state SET value = x'00' WHERE key = x'626f61726473'", "state_root"),
        ("DELETE FROM state WHERE key = x'626f61726473'", "state_root"),
        ("UPDATE blocks SET header = x'00' WHERE height = 3", "block 3"),
        ("UPDATE blocks SET certificate = x'90' WHERE height = 3", "block 3"),
        ("UPDATE facts SET value = x'00' WHERE name = 'genesis'", "genesis"),
        ("UPDATE facts SET value = x'39' WHERE name = 'format'", "format"),
    ],
)
def test_damage_is_named_when_it_is_opened(
    tmp_path: Path, sql: str, message: str
) -> None:
    path = tmp_path / "chain"
    stored(path)
    connection = sqlite3.connect(path)
    with connection:
        assert connection.execute(sql).rowcount == 1
    connection.close()
    with pytest.raises(StorageError, match=message):
        SqliteStore.open(path).tip()


def test_damaged_blob_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "chain"
    store = SqliteStore.create(path, SmallChain().genesis)
    with store.transaction():
        digest = store.put_blob(b"bundle")
    store.close()
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE blobs SET content = x'00'")
    connection.close()
    store = SqliteStore.open(path)
    with pytest.raises(StorageError, match="damaged"):
        store.blob(digest)
    store.close()


@pytest.mark.parametrize("length", [0, 1, 100, 4096, 9000])
def test_torn_file_is_a_storage_error(tmp_path: Path, length: int) -> None:
    path = tmp_path / "chain"
    stored(path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(StorageError):
        SqliteStore.open(path).tip()


def test_vote_journal_gives_back_what_it_took(tmp_path: Path) -> None:
    running = stored(tmp_path / "chain")
    votes = running.votes()
    journal = VoteJournal(tmp_path / "votes")
    assert journal.entries == ()
    journal.append(votes[:4], 0)
    journal.append(votes[4:], 1)
    journal.close()
    again = VoteJournal(tmp_path / "votes")
    assert again.entries == tuple(vote.payload for vote in votes)
    again.close()


def test_vote_journal_forgets_durable_heights_when_it_is_long(tmp_path: Path) -> None:
    running = stored(tmp_path / "chain")
    votes = running.votes()
    last = [vote for vote in votes if vote.height == 3]
    size = sum(len(vote.payload) for vote in votes)
    journal = VoteJournal(tmp_path / "votes", size)
    journal.append(votes, 0)
    before = (tmp_path / "votes").stat().st_size
    journal.append(last, 3)
    assert (tmp_path / "votes").stat().st_size < before
    journal.close()
    again = VoteJournal(tmp_path / "votes")
    assert again.entries == tuple(vote.payload for vote in last)
    again.close()


def test_vote_journal_keeps_the_height_that_is_being_decided(tmp_path: Path) -> None:
    votes = stored(tmp_path / "chain").votes()
    done = [vote for vote in votes if vote.height < 3]
    mine = [vote for vote in votes if vote.height == 3]
    assert len(mine) > 1
    journal = VoteJournal(tmp_path / "votes", size_bytes_max=1)
    journal.append([*done, mine[0]], 0)
    for vote in mine[1:]:
        journal.append([vote], 2)
    journal.close()
    again = VoteJournal(tmp_path / "votes")
    assert again.entries == tuple(vote.payload for vote in mine)
    again.close()


def test_vote_journal_with_a_strange_entry_is_a_storage_error(tmp_path: Path) -> None:
    running = stored(tmp_path / "chain")
    journal = VoteJournal(tmp_path / "votes")
    vote = running.votes()[0]
    journal.append([type(vote)(b"\x00", 1)], 0)
    journal.close()
    with pytest.raises(StorageError, match="no vote"):
        VoteJournal(tmp_path / "votes")


@pytest.fixture
def read_only_medium(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file system says that it was mounted to be read alone."""
    real = os.statvfs

    def statvfs(path: Path) -> SimpleNamespace:
        return SimpleNamespace(f_flag=real(path).f_flag | os.ST_RDONLY)

    monkeypatch.setattr(os, "statvfs", statvfs)


@pytest.mark.usefixtures("read_only_medium")
def test_chain_on_a_read_only_medium_is_read_with_nothing_beside_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "chain"
    running = stored(path)

    store = SqliteStore.read(path)

    assert store.tip().header == running.state.header
    assert [each.name for each in tmp_path.iterdir()] == ["chain"]
    store.close()


@pytest.mark.usefixtures("read_only_medium")
def test_log_beside_a_chain_is_not_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "chain"
    writer = SqliteStore.create(path, SmallChain().genesis)
    running = fill(writer, SmallChain())
    assert (tmp_path / "chain-wal").stat().st_size

    reader = SqliteStore.read(path)

    assert reader.tip().header == running.state.header
    reader.close()
    writer.close()


@pytest.mark.parametrize(
    ("text", "way"),
    [
        ("unable to open database file", "copy its folder"),
        ("database is locked", "end the other program"),
        ("attempt to write a readonly database", "mount the disk for writing"),
        ("disk I/O error", "free space or fix the disk"),
    ],
)
def test_refusal_of_sqlite_has_the_way_out_that_fits(
    tmp_path: Path, text: str, way: str
) -> None:
    with (
        pytest.raises(StorageError, match=f"{text}; {way}"),
        sqlite_schema.storage_errors(tmp_path / "chain"),
    ):
        raise sqlite3.OperationalError(text)

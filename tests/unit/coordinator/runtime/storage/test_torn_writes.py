"""Power cuts at any byte: what was committed is there, and nothing else is.

Journal and write-ahead log are cut and damaged at many offsets, among them every
boundary of a commit and of a page, and the bytes beside them. The main file is mixed of
its pages before and after a checkpoint.
"""

from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.harness.coordinator_processes import CoordinatorProcesses
from benchmarks.harness.synthetic_chain import SyntheticBlock, of_nobody, put
from starling import __main__ as starling
from starling.coordinator.chain.chain_step import JournalVote
from starling.coordinator.chain.verification import audit
from starling.coordinator.runtime.storage.sqlite_schema import CHAIN_FILE, PAGE_BYTES
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.coordinator.runtime.storage.vote_journal import VOTES_FILE, VoteJournal
from starling.durable.journal_frames import HEAD_BYTES
from tests.unit.coordinator.fixtures.single_validator import SingleValidator
from tests.unit.coordinator.fixtures.small_chain import SmallChain

COMMITS = 6
STEP = 1231
FRAME_BYTES = PAGE_BYTES + 24
"""Of a page in the log, as sqlite.org/fileformat2.html#wal_file_format has it."""
LOG_HEAD_BYTES = 32


def votes() -> list[JournalVote]:
    """Of a chain of one, over some heights."""
    world = SmallChain()
    running = SingleValidator(world.genesis, world.validators[0])
    for height in range(4):
        running.submit(world.register(height), now_s=float(height))
        running.tick(float(height))
    return running.votes()


def test_vote_journal_cut_at_any_byte_has_all_votes_that_were_synced(
    tmp_path: Path,
) -> None:
    path, given = tmp_path / "votes", votes()
    ends = [HEAD_BYTES]
    journal = VoteJournal(path)
    for number in range(0, len(given), 2):
        journal.append(given[number : number + 2], 0)
        ends.append(path.stat().st_size)
    journal.close()
    content = path.read_bytes()
    cuts = {*range(0, len(content), 7), *ends, *(end - 1 for end in ends)}
    for cut in sorted(cuts):
        path.write_bytes(content[:cut])
        synced = 2 * sum(end <= cut for end in ends[1:])
        opened = VoteJournal(path)
        kept = tuple(vote.payload for vote in given[:synced])
        assert opened.entries == kept, f"cut at {cut}"
        opened.append(given[-1:], 0)
        opened.close()
        again = VoteJournal(path)
        assert again.entries == (*kept, given[-1].payload), f"cut at {cut}"
        again.close()


@dataclass(frozen=True)
class Files:
    """A store's files after some commits that no checkpoint has moved yet.

    Attributes:
      main: The file as it was made.
      log: The write-ahead log.
      ends: Length of the log after each commit.
      moved: The file after the checkpoint.
    """

    main: bytes
    log: bytes
    ends: list[int]
    moved: bytes


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    path = tmp_path_factory.mktemp("torn") / "chain"
    log = path.with_name("chain-wal")
    chain = of_nobody(4)
    store = SqliteStore.create(path, chain.genesis)
    main, ends = path.read_bytes(), []
    decided: list[SyntheticBlock] = list(chain.grow(2 * COMMITS))
    for number in range(COMMITS):
        with store.transaction():
            for one in decided[2 * number : 2 * number + 2]:
                put(store, one)
        ends.append(log.stat().st_size)
    content = log.read_bytes()
    store.close()
    return Files(main, content, ends, path.read_bytes())


def _opened(folder: Path, main: bytes, log: bytes) -> int:
    """Height of the chain that these files hold; all of it is checked."""
    path = folder / "chain"
    path.with_name("chain-shm").unlink(missing_ok=True)
    path.write_bytes(main)
    path.with_name("chain-wal").write_bytes(log)
    store = SqliteStore.open(path)
    assert store.tip().tree.root() == store.state().root()
    found = audit.audit(store, lambda _: None)
    store.close()
    assert found.fault is None
    return found.tip.height


def test_log_cut_at_any_byte_has_all_commits_that_were_synced(
    tmp_path: Path, files: Files
) -> None:
    frames = range(LOG_HEAD_BYTES, len(files.log), FRAME_BYTES)
    edges = [*files.ends, *frames]
    cuts = {*range(0, len(files.log), STEP), *edges, *(edge - 1 for edge in edges)}
    for cut in sorted(cuts):
        committed = sum(end <= cut for end in files.ends)
        height = _opened(tmp_path, files.main, files.log[:cut])
        assert height == 2 * committed, f"cut at {cut}"


def test_log_damaged_at_any_byte_leaves_whole_commits_before_it(
    tmp_path: Path, files: Files
) -> None:
    for offset in range(LOG_HEAD_BYTES, len(files.log), STEP):
        damaged = bytearray(files.log)
        damaged[offset] ^= 0x10
        whole = sum(end <= offset for end in files.ends)
        height = _opened(tmp_path, files.main, bytes(damaged))
        assert height == 2 * whole, f"damaged at {offset}"


def test_checkpoint_cut_after_any_page_loses_nothing(
    tmp_path: Path, files: Files
) -> None:
    for size in range(0, len(files.moved) + 1, PAGE_BYTES):
        mixed = files.moved[:size] + files.main[size:]
        assert _opened(tmp_path, mixed, files.log) == 2 * COMMITS, f"cut at {size}"


@pytest.mark.parametrize("name", [CHAIN_FILE, VOTES_FILE])
def test_run_with_a_damaged_file_says_in_one_line_what_to_do(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    council = CoordinatorProcesses(tmp_path, 4, 60, {})
    home, given = council.homes[0], votes()
    SqliteStore.create(home.state / CHAIN_FILE, council.genesis).close()
    journal = VoteJournal(home.state / VOTES_FILE)
    for vote in given:
        journal.append([vote], 0)
    journal.close()
    content = bytearray((home.state / name).read_bytes())
    content[HEAD_BYTES + 12] ^= 1
    (home.state / name).write_bytes(content)
    assert starling.main(["coordinator", "run", "--home", str(home.path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert name in line
    assert "starling coordinator recover" in line

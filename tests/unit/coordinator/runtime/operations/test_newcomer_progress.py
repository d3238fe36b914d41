"""A newcomer is added once it has caught up; pins; and what becomes of old keys."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.harness.synthetic_chain import put
from starling.coordinator.cli.verbs.key_retirement import still_needed
from starling.coordinator.runtime.home import RETIRED_FILE, CoordinatorHome
from starling.coordinator.runtime.operations.newcomer_progress import (
    CAUGHT_UP_BLOCKS,
    FRESH_S,
    require_caught_up,
)
from starling.coordinator.runtime.setup.genesis_setup import identify
from starling.coordinator.runtime.setup.pinned_header import check_pinned, keep_pinned
from starling.coordinator.runtime.storage.receipt_reader import checkpoint
from starling.coordinator.runtime.storage.sqlite_schema import CHAIN_FILE
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.coordinator.runtime.storage.vote_journal import VOTES_FILE, VoteJournal
from starling.durable.files import write_atomic
from starling.protocol.chain.credit_policy import CreditPolicy
from starling.protocol.chain.evidence import AGE_HEIGHTS_MAX
from starling.protocol.chain.genesis import GENESIS, Validator
from starling.protocol.chain.light_client import TRUSTED, CertifiedHeader, pin
from starling.protocol.errors import ConfigError, OperationError
from starling.protocol.ids import device_id, device_name
from starling.protocol.wire.envelope import ENVELOPE, MessageKind
from starling.protocol.wire.message_bodies import LEARNER
from tests.unit.coordinator.cli.verbs.test_credits_and_governance import council, run
from tests.unit.coordinator.fixtures.council_genesis import GENESIS as MEADOW
from tests.unit.coordinator.fixtures.small_chain import opened
from tests.unit.coordinator.fixtures.small_genesis import OPERATOR, genesis, newcomer
from tests.unit.coordinator.sync.test_state_sync import blocks

WEST = newcomer(9)


class Rim:
    """Our coordinator, which writes its status as time passes.

    Attributes:
      now_s: Unix time.
      heights: What the newcomer says, by second; it is silent after the last.
    """

    def __init__(self, home: CoordinatorHome, heights: list[int], ours: int) -> None:
        self.home, self.heights, self.ours, self.now_s = home, heights, ours, 1e6
        self.write()

    def write(self, who: Validator = WEST) -> None:
        passed = int(self.now_s - 1e6)
        heard = min(passed, len(self.heights) - 1)
        peers = [
            {
                "id": device_name(device_id(who.public)),
                "height": height,
                "silent_s": float(passed - heard),
            }
            for height in self.heights[heard : heard + 1]
        ]
        document = {
            "state": "running",
            "now_ms": 1000 * self.now_s,
            "consensus": {"height": self.ours, "peers": peers},
        }
        self.home.status.write_text(json.dumps(document))

    def pause(self, seconds: float) -> None:
        self.now_s += seconds
        self.write()

    def require(self, wait_s: float) -> None:
        require_caught_up(self.home, WEST, wait_s, lambda: self.now_s, self.pause)


@pytest.fixture
def home(tmp_path: Path) -> CoordinatorHome:
    return CoordinatorHome(tmp_path)


def test_motion_waits_until_the_newcomer_is_level_and_says_how_far_it_is(
    home: CoordinatorHome, capsys: pytest.CaptureFixture[str]
) -> None:
    rim = Rim(home, [1, 1, 40, 99, 100 - CAUGHT_UP_BLOCKS], ours=100)
    rim.require(60.0)
    told = capsys.readouterr().err.splitlines()
    assert told == [f"waits for c9: height {height} of 100" for height in (1, 40)]


@pytest.mark.parametrize("heights", [[], [5], [98]], ids=["unheard", "behind", "near"])
@pytest.mark.parametrize("wait_s", [0.0, 3.0], ids=["looks once", "waits"])
def test_newcomer_that_is_not_level_is_not_added(
    home: CoordinatorHome, heights: list[int], wait_s: float
) -> None:
    rim = Rim(home, heights, ours=100)
    with pytest.raises(OperationError, match="missing from every quorum"):
        rim.require(wait_s)
    assert rim.now_s == 1e6 + wait_s


def test_newcomer_that_was_level_and_fell_silent_is_not_added(
    home: CoordinatorHome,
) -> None:
    rim = Rim(home, [100], ours=100)
    rim.now_s += FRESH_S + 1
    rim.write()
    with pytest.raises(OperationError, match="not heard of"):
        rim.require(0.0)


@pytest.mark.parametrize("age_s", [FRESH_S + 1, -FRESH_S - 1], ids=["old", "ahead"])
def test_status_of_a_coordinator_that_does_not_run_says_nothing(
    home: CoordinatorHome, age_s: float
) -> None:
    rim = Rim(home, [100], ours=100)
    rim.now_s += age_s
    with pytest.raises(OperationError, match="does not run"):
        rim.require(30.0)


def test_without_a_status_nobody_knows(home: CoordinatorHome) -> None:
    with pytest.raises(OperationError, match="does not run"):
        require_caught_up(home, WEST, 0.0, lambda: 1e9, lambda seconds: None)


def test_validator_add_is_refused_unless_it_is_forced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _, (north,) = council(tmp_path, 1)
    west = identify(CoordinatorHome(tmp_path / "west"), "west")
    Path("west.json").write_text(west.to_json())
    words = ["motion", "validator-add", "west.json", "--out", "motion"]
    with pytest.raises(OperationError, match="does not run"):
        run(north, *words, "--no-wait")
    assert not Path("motion").exists()
    run(north, *words, "--force")
    with pytest.raises(OperationError, match="does not run"):
        run(north, "motion", "submit", "motion", "--no-wait")


def test_validator_remove_says_what_is_left_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chain, (north, _) = council(tmp_path, 2)
    gone = chain.validators.members[0].public
    out = str(tmp_path / "motion")
    run(north, "motion", "validator-remove", gone.hex(), "--out", out)
    told = capsys.readouterr().out
    assert f"starling broker expel {device_name(device_id(gone))}" in told
    assert "starling coordinator retire" in told


def test_learner_is_asked_for_by_its_identity_and_removed_by_its_key(
    tmp_path: Path,
) -> None:
    chain, (north,) = council(tmp_path, 1)
    west = identify(CoordinatorHome(tmp_path / "west"), "west")
    file = tmp_path / "west.json"
    file.write_text(west.to_json())
    run(north, "learner", "add", str(file))
    run(north, "learner", "remove", west.public.hex())
    found = [ENVELOPE.unpack(path.read_bytes()) for path in north.inbox.iterdir()]
    bodies = sorted(
        (LEARNER.unpack(each.body) for each in found), key=lambda body: body.admitted
    )
    assert {each.kind for each in found} == {MessageKind.LEARNER}
    assert [(one.admitted, one.public, one.name) for one in bodies] == [
        (0, west.public, ""),
        (1, west.public, "west"),
    ]
    with pytest.raises(ConfigError):
        run(north, "learner", "remove", "zz")
    assert chain.operators == (north.operator_key().public,)


def grown(path: Path, count: int = 20) -> CoordinatorHome:
    """A folder with the first blocks of a chain of four."""
    home = CoordinatorHome(path)
    identify(home, "west")
    write_atomic(home.path / "genesis", GENESIS.pack(MEADOW))
    store = SqliteStore.create(home.state / CHAIN_FILE, MEADOW)
    with store.transaction():
        for decided in blocks()[:count]:
            put(store, decided)
    store.close()
    return home


def test_checkpoint_names_the_last_header_and_is_pinned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = grown(tmp_path / "north")
    out = tmp_path / "checkpoint"
    capsys.readouterr()
    run(home, "checkpoint", "--out", str(out), "--json")
    told = json.loads(capsys.readouterr().out)
    header = blocks()[19].prepared.block.header
    assert (told["height"], told["block"]) == (20, header.block_id().hex())
    pinned = TRUSTED.unpack(out.read_bytes())
    assert pinned == checkpoint(home.state, MEADOW)
    assert pinned.last is not None
    assert pinned.last.header == header
    assert pinned.validators == MEADOW.validators
    store = SqliteStore.read(home.state / CHAIN_FILE)
    check_pinned(store, pinned, "pinned")
    check_pinned(store, None, "pinned")
    store.close()
    shorter = SqliteStore.in_memory(MEADOW)
    check_pinned(shorter, pinned, "pinned")


def test_stored_chain_of_another_past_than_the_pin_does_not_start(
    tmp_path: Path,
) -> None:
    pinned = checkpoint(grown(tmp_path / "north").state, MEADOW)
    assert pinned is not None
    paths = [grown(tmp_path / f"{n}", n).state / CHAIN_FILE for n in (19, 25)]
    for path in paths:
        store = SqliteStore.read(path)
        check_pinned(store, pinned, "pinned")
        store.close()
    before = blocks()[18]
    other = CertifiedHeader(before.prepared.block.header, before.certificate)
    store = SqliteStore.read(paths[-1])
    with pytest.raises(ConfigError, match="another past"):
        check_pinned(store, replace(pinned, last=other), "pinned")
    store.close()


def test_checkpoint_before_the_first_block_is_none(tmp_path: Path) -> None:
    _, (home,) = council(tmp_path, 1)
    with pytest.raises(OperationError, match="no block yet"):
        run(home, "checkpoint", "--out", str(tmp_path / "out"))


@pytest.mark.parametrize("spoil", ["bytes", "chain", "no header"])
def test_file_that_is_no_checkpoint_is_not_pinned(tmp_path: Path, spoil: str) -> None:
    home = grown(tmp_path / "north")
    pinned = checkpoint(home.state, MEADOW)
    assert pinned is not None
    file = tmp_path / "file"
    file.write_bytes(
        {
            "bytes": TRUSTED.pack(pinned)[:-1],
            "chain": TRUSTED.pack(pin(genesis())),
            "no header": TRUSTED.pack(pin(MEADOW)),
        }[spoil]
    )
    with pytest.raises(ConfigError):
        keep_pinned(home, file)
    assert home.pinned() is None


def test_older_checkpoint_does_not_take_the_place_of_a_newer_one(
    tmp_path: Path,
) -> None:
    files = []
    for count in (10, 20):
        pinned = checkpoint(grown(tmp_path / f"{count}", count).state, MEADOW)
        assert pinned is not None
        files.append(tmp_path / f"file{count}")
        files[-1].write_bytes(TRUSTED.pack(pinned))
    home = grown(tmp_path / "west", 1)
    assert keep_pinned(home, None) is None
    keep_pinned(home, files[1])
    with pytest.raises(ConfigError, match="height 20 is pinned"):
        keep_pinned(home, files[0])
    kept = home.pinned()
    assert kept is not None
    assert kept.height == 20


def secrets(home: CoordinatorHome) -> set[str]:
    return {path.name for path in home.keys.iterdir()}


def test_retired_keys_are_gone_and_the_folder_says_so(tmp_path: Path) -> None:
    home = grown(tmp_path / "west")
    seed = (home.keys / "signing").read_bytes()
    run(home, "retire")
    assert secrets(home) == {"operator", RETIRED_FILE}
    run(home, "retire")
    with pytest.raises(ConfigError, match="was retired"):
        home.signing_key()
    assert seed not in b"".join(
        path.read_bytes() for path in home.path.rglob("*") if path.is_file()
    )


def test_validator_is_not_retired_unless_it_is_forced(tmp_path: Path) -> None:
    _, (home, _) = council(tmp_path, 2)
    with pytest.raises(OperationError, match="it is a validator"):
        run(home, "retire")
    assert "signing" in secrets(home)
    run(home, "retire", "--force")
    assert "signing" not in secrets(home)


def test_process_liveness_is_not_retired(tmp_path: Path) -> None:
    home = grown(tmp_path / "west")
    running = VoteJournal(home.state / VOTES_FILE)
    with pytest.raises(ConfigError, match="another process"):
        run(home, "retire", "--force")
    running.close()
    assert "signing" in secrets(home)


def test_folder_without_a_chain_is_retired_by_force_only(tmp_path: Path) -> None:
    home = CoordinatorHome(tmp_path / "west")
    identify(home, "west")
    write_atomic(home.path / "genesis", GENESIS.pack(MEADOW))
    with pytest.raises(OperationError, match="no chain here"):
        run(home, "retire")
    run(home, "retire", "--force")


def test_key_is_needed_until_its_credits_have_moved() -> None:
    world = opened(validators=4, economy=CreditPolicy(1_000_000, 50_000, 1_000, 0))
    gone = world.validators[0]

    def needed() -> str | None:
        return still_needed(world.tree, world.genesis, world.height, gone.public)

    def says(text: str) -> bool:
        return text in (needed() or "")

    assert says("motion validator-remove")
    world.must(world.leave(gone))
    assert says("motion validator-remove")
    world.height += 2
    assert says("a deposit of 1000")
    world.mark()
    world.height += AGE_HEIGHTS_MAX + 1
    world.must(world.release_of(gone.identity))
    assert says("1000 credits")
    world.must(world.transfer(OPERATOR.identity, 1_000, gone))
    assert needed() is None

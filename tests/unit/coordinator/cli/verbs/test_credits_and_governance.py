"""The verbs about credits and motions leave transactions that the chain takes."""

import json
from pathlib import Path

import pytest

from starling.coordinator.chain.execution.state_machine import apply, genesis_tree
from starling.coordinator.chain.state import operator_records
from starling.coordinator.chain.state.overlay import BlockContext
from starling.coordinator.cli.coordinator_command import main
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.setup.genesis_setup import assemble_genesis, identify
from starling.coordinator.runtime.storage.sqlite_schema import CHAIN_FILE
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.durable.files import write_atomic
from starling.protocol.chain.credit_policy import USE, CreditPolicy, Use
from starling.protocol.chain.genesis import GENESIS, FaultModel, Genesis
from starling.protocol.chain.key_rotation import rotate
from starling.protocol.errors import ConfigError, OperationError, Reason
from starling.protocol.ids import TaskId, device_name
from starling.protocol.wire.envelope import ENVELOPE, Envelope, MessageKind

Capture = pytest.CaptureFixture[str]
ECONOMY = CreditPolicy(1_000, 100, 10, 0)


def council(folder: Path, count: int) -> tuple[Genesis, list[CoordinatorHome]]:
    """Homes of coordinators whose chain has no block yet."""
    homes = [CoordinatorHome(folder / f"c{number}") for number in range(count)]
    members = [identify(home, f"member {at}") for at, home in enumerate(homes)]
    genesis = assemble_genesis("meadow", members, FaultModel.BYZANTINE, 10, ECONOMY)
    for home in homes:
        write_atomic(home.path / "genesis", GENESIS.pack(genesis))
        SqliteStore.create(home.state / CHAIN_FILE, genesis).close()
    return genesis, homes


def run(home: CoordinatorHome, *words: str) -> None:
    assert main([*words, "--home", str(home.path)]) == 0


def handed_in(home: CoordinatorHome) -> list[Envelope]:
    return [ENVELOPE.unpack(path.read_bytes()) for path in home.inbox.iterdir()]


def code(genesis: Genesis, envelope: Envelope) -> int:
    context = BlockContext(genesis, genesis.chain_id(), 1, 0, 1_000)
    return apply(genesis_tree(genesis), context, envelope)[1].code


@pytest.mark.parametrize(
    "words",
    [
        ["operator-add", "ab" * 32],
        ["validator-add", "west.json", "--force"],
        ["validator-remove", "member"],
        ["parameter", "heartbeat-s", "20", "10"],
        ["upgrade", "2", "100"],
    ],
    ids=lambda words: words[0],
)
def test_motion_of_two_is_drawn_up_approved_and_taken(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    genesis, (north, south) = council(tmp_path, 2)
    west = identify(CoordinatorHome(tmp_path / "west"), "west")
    Path("west.json").write_text(west.to_json())
    member = genesis.validators.members[0].public.hex()
    words = [member if word == "member" else word for word in words]
    run(north, "transfer", device_name(north.operator_key().identity), "1")
    for path in north.inbox.iterdir():
        path.unlink()

    run(north, "motion", *words, "--out", "motion")
    with pytest.raises(OperationError, match="1 approvals, 2 of 2 needed"):
        run(north, "motion", "submit", "motion", "--force")
    run(south, "motion", "approve", "motion")
    run(north, "motion", "submit", "motion", "--force")

    (envelope,) = handed_in(north)
    assert code(genesis, envelope) == 0


def test_motion_shows_who_approved_and_what_it_says(
    tmp_path: Path, capsys: Capture
) -> None:
    _, (home,) = council(tmp_path, 1)
    file = str(tmp_path / "motion")
    run(home, "motion", "parameter", "heartbeat-s", "20", "100", "--out", file)
    capsys.readouterr()
    run(home, "motion", "show", file, "--json")
    shown = json.loads(capsys.readouterr().out)
    assert shown["says"] == "heartbeat_s is 20 from height 100 on"
    assert (shown["approved_by"], shown["needed"]) == (["member 0"], 1)
    assert not shown["overtaken"]


def test_stranger_approves_nothing(tmp_path: Path) -> None:
    genesis, _ = council(tmp_path, 1)
    stranger = CoordinatorHome(tmp_path / "stranger")
    identify(stranger, "stranger")
    write_atomic(stranger.path / "genesis", GENESIS.pack(genesis))
    SqliteStore.create(stranger.state / CHAIN_FILE, genesis).close()
    with pytest.raises(OperationError, match="no validator"):
        run(stranger, "motion", "upgrade", "2", "9", "--out", str(tmp_path / "m"))


@pytest.mark.parametrize(
    "words",
    [
        ["dance"],
        ["operator-add", "zz"],
        ["operator-add", "ab"],
        ["parameter", "colour", "1", "2"],
        ["parameter", "heartbeat-s", "x", "2"],
        ["upgrade", "2"],
        ["show", "missing"],
    ],
    ids=" ".join,
)
def test_motion_of_nonsense_is_the_operators_fault(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _, (home,) = council(tmp_path, 1)
    Path("missing").write_bytes(b"\x90")
    with pytest.raises(ConfigError):
        run(home, "motion", *words, "--out", "motion")


def test_money_verbs_leave_transactions(tmp_path: Path) -> None:
    genesis, (home,) = council(tmp_path, 1)
    validator = device_name(home.signing_key().identity)
    run(home, "transfer", validator, "60")
    run(home, "fund", "0", "5")
    run(home, "release", validator)
    kinds = {MessageKind(each.kind): code(genesis, each) for each in handed_in(home)}
    assert kinds[MessageKind.TRANSFER] == 0
    assert set(kinds) == {MessageKind.TRANSFER, MessageKind.FUND, MessageKind.RELEASE}
    with pytest.raises(ConfigError, match="account"):
        run(home, "transfer", "nobody", "1")
    with pytest.raises(ConfigError, match="amount"):
        run(home, "transfer", validator, "-1")


def test_uses_are_paid_by_a_reading_or_a_pool_by_an_amount(
    tmp_path: Path, capsys: Capture
) -> None:
    genesis, (home,) = council(tmp_path, 1)
    run(home, "fund", "0", "--from-use", "12000", "--json")
    (envelope,) = handed_in(home)
    assert USE.unpack(envelope.body) == Use(TaskId(0), 12_000)
    assert code(genesis, envelope) == Reason.UNKNOWN_TASK
    shown = json.loads(capsys.readouterr().out)
    assert (shown["uses"], shown["price"], shown["decided"]) == (12_000, 0, False)
    with pytest.raises(ConfigError, match="--from-use"):
        run(home, "fund", "0")
    with pytest.raises(ConfigError, match="--from-use"):
        run(home, "fund", "0", "5", "--from-use", "12000")
    with pytest.raises(ConfigError, match="reading"):
        run(home, "fund", "0", "--from-use", "0")


def test_transaction_of_somebody_else_is_handed_in(tmp_path: Path) -> None:
    genesis, (home,) = council(tmp_path, 1)
    board, following = home.signing_key(), home.operator_key()
    envelope = rotate(board.identity, board, following, genesis.chain_id(), 1)
    file = tmp_path / "rotation"
    file.write_bytes(ENVELOPE.pack(envelope))
    run(home, "submit", str(file))
    assert handed_in(home) == [envelope]
    packed = ENVELOPE.pack(envelope)
    file.write_bytes(packed[:-1] + bytes([packed[-1] ^ 1]))
    with pytest.raises(ConfigError, match="does not verify"):
        run(home, "submit", str(file))


def test_genesis_of_credits_is_made_by_the_command(tmp_path: Path) -> None:
    member = identify(CoordinatorHome(tmp_path / "c"), "one")
    (tmp_path / "one.json").write_text(member.to_json())
    words = ["genesis", str(tmp_path / "one.json"), "--fleet", "meadow"]
    out = tmp_path / "genesis"
    options = ["--supply", "100", "--operator-grant", "40", "--validator-deposit", "60"]
    assert main([*words, "--out", str(out), *options]) == 0
    genesis = GENESIS.unpack(out.read_bytes())
    assert genesis.economy == CreditPolicy(100, 40, 60, 0)
    assert operator_records.operator_count(genesis_tree(genesis)) == 1
    with pytest.raises(ConfigError, match="exceed the supply"):
        main([*words, "--out", str(out), "--board-deposit", "1", *options[2:]])

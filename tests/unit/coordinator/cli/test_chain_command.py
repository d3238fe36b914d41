"""`starling chain` on a chain on disk, as a user runs it."""

import csv
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from starling import __main__ as starling
from starling.coordinator.loop.storage.blob_cache import final_of
from starling.coordinator.runtime.storage.sqlite_schema import CHAIN_FILE
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.protocol.chain.genesis import GENESIS
from starling.protocol.chain.light_client import FINAL
from starling.protocol.ids import H, TaskId, Version, device_name
from starling.protocol.learning.task import version_digest
from starling.protocol.wire.envelope import MessageKind
from starling.protocol.wire.message_bodies import FORFEIT, Forfeit
from tests.contract.storage.filled_store import fill
from tests.unit.coordinator.fixtures.single_validator import SingleValidator
from tests.unit.coordinator.fixtures.small_chain import SmallChain
from tests.unit.coordinator.fixtures.small_genesis import board_id, board_key
from tests.unit.coordinator.fixtures.small_task import MODEL


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    return tmp_path


@pytest.fixture
def running(home: Path) -> SingleValidator:
    world = SmallChain()
    store = SqliteStore.create(home / "state" / CHAIN_FILE, world.genesis)
    running = fill(store, world)
    store.close()
    (home / "genesis").write_bytes(GENESIS.pack(world.genesis))
    return running


def chain(*words: object) -> int:
    return starling.main(["chain", *(str(word) for word in words)])


def test_verify_sound_chain_exits_0(
    home: Path, running: SingleValidator, capsys: pytest.CaptureFixture[str]
) -> None:
    assert chain("verify", "--home", home, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["verified"] is True
    assert document["fault"] is None
    assert document["height"] == 3
    assert document["state_root"] == running.state.tree.root().hex()
    assert document["tip"] == running.state.tip.parent().hex()


@pytest.mark.usefixtures("running")
def test_verify_after_a_flip_exits_1_and_names_the_byte(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    connection = sqlite3.connect(home / "state" / CHAIN_FILE)
    with connection:
        (body,) = connection.execute(
            "SELECT body FROM blocks WHERE height=2"
        ).fetchone()
        (size,) = connection.execute(
            "SELECT length(header) FROM blocks WHERE height=2"
        ).fetchone()
        damaged = bytearray(body)
        damaged[100] ^= 0x20
        connection.execute("UPDATE blocks SET body=? WHERE height=2", (bytes(damaged),))
    connection.close()
    assert chain("verify", "--home", home, "--json") == 1
    fault = json.loads(capsys.readouterr().out)["fault"]
    assert (fault["height"], fault["offset"]) == (2, size + 100)
    assert fault["field"] == "transactions[0]"
    assert chain("verify", "--home", home) == 1
    assert f"FAULT at height 2, transactions[0], byte {size + 100}" in (
        capsys.readouterr().out
    )


@pytest.mark.usefixtures("running")
def test_show_prints_blocks(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert chain("show", "--home", home, "--tail", 2) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert chain("show", "--home", home, "--height", 2, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["height"] == 2
    assert [entry["kind"] for entry in document["transactions"]] == ["register", "task"]
    assert chain("show", "--home", home, "--height", 9) == 1


@pytest.mark.parametrize("flag", ["--height", "--tail"])
@pytest.mark.parametrize("value", ["0", "-3", str(1 << 63), "9" * 400])
def test_show_of_what_is_no_height_is_a_usage_error(
    home: Path, capsys: pytest.CaptureFixture[str], flag: str, value: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        chain("show", "--home", home, f"{flag}={value}")
    assert ended.value.code == 2
    assert f"argument {flag}: " in capsys.readouterr().err


@pytest.mark.usefixtures("running")
@pytest.mark.parametrize("flag", ["--model", "--score", "--payment"])
@pytest.mark.parametrize("value", ["", "0", "x:1", "0:1:2:3"])
def test_prove_of_what_is_no_version_says_so(
    home: Path, capsys: pytest.CaptureFixture[str], flag: str, value: str
) -> None:
    out = home / "proof"
    assert chain("prove", "--home", home, f"{flag}={value}", "--out", out) == 1
    assert f"not TASK:VERSION: {value!r}" in capsys.readouterr().err
    assert not out.exists()


def test_proof_is_checked_with_the_genesis_alone(
    home: Path, running: SingleValidator, capsys: pytest.CaptureFixture[str]
) -> None:
    identity = running.blocks()[1].results[1].identity.hex()
    proof = home / "proof"
    assert chain("prove", "--home", home, "--update", identity, "--out", proof) == 0
    capsys.readouterr()
    genesis = home / "genesis"
    assert chain("check-proof", proof, "--genesis", genesis, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["id"], document["height"]) == (identity, 2)
    packed = bytearray(proof.read_bytes())
    packed[60] ^= 1
    proof.write_bytes(bytes(packed))
    assert chain("check-proof", proof, "--genesis", genesis) == 1


def test_proof_that_a_board_keeps_is_checked_too(
    home: Path, running: SingleValidator, capsys: pytest.CaptureFixture[str]
) -> None:
    identity = running.blocks()[1].results[1].identity
    with closing(SqliteStore.read(home / "state" / CHAIN_FILE)) as store:
        final = final_of(store, identity)
    assert final is not None
    (home / "kept").write_bytes(FINAL.pack(final))
    words = ("check-proof", home / "kept", "--genesis", home / "genesis", "--json")
    assert chain(*words) == 0
    assert json.loads(capsys.readouterr().out)["id"] == identity.hex()


@pytest.mark.usefixtures("running")
def test_proof_of_a_version_names_its_digest(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    proof, genesis = home / "proof", home / "genesis"
    assert chain("prove", "--home", home, "--model", "0:0", "--out", proof) == 0
    assert proof.stat().st_size < 900
    capsys.readouterr()
    assert chain("check-proof", proof, "--genesis", genesis, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["key"], document["height"]) == ("version/0/0", 3)
    assert document["is"] == version_digest(MODEL).hex()
    assert chain("check-proof", proof, "--genesis", genesis) == 0
    assert "version/0/0 = " in capsys.readouterr().out


@pytest.mark.usefixtures("running")
@pytest.mark.parametrize(
    "words",
    [
        ("--model", "0:1"),
        ("--model", "0:0:0"),
        ("--model", "0"),
        ("--model", "x:0"),
        ("--score", "0:0"),
        ("--payment", "0:0"),
        ("--payment", "0:0:0:0"),
    ],
    ids=" ".join,
)
def test_prove_an_entry_that_is_not_there_exits_1(
    home: Path, words: tuple[str, str]
) -> None:
    out = home / "proof"
    assert chain("prove", "--home", home, *words, "--out", out) == 1
    assert not out.exists()


def _lines(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_export_writes_a_line_for_each_block_and_transaction(
    home: Path, running: SingleValidator, capsys: pytest.CaptureFixture[str]
) -> None:
    out = home / "audit"
    assert chain("export", "--home", home, "--out", out, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["from"], document["to"]) == (1, 3)
    assert document["lines"]["transactions"] == 4
    blocks = _lines(out / "blocks.jsonl")
    assert [line["height"] for line in blocks] == [1, 2, 3]
    assert blocks[2]["state_root"] == running.state.tree.root().hex()
    kinds = [line["kind"] for line in _lines(out / "transactions.jsonl")]
    assert kinds == ["register", "register", "task", "register"]
    task = _lines(out / "transactions.jsonl")[2]["body"]
    assert isinstance(task, dict)
    assert task["bundle"] == H(b"bundle").hex()


def test_export_of_a_chain_that_took_a_forfeit(home: Path) -> None:
    world = SmallChain()
    validator = SingleValidator(world.genesis, world.validators[0])
    forfeit = FORFEIT.pack(Forfeit(TaskId(0), Version(0), 0, 0))
    sent = (
        world.register(0),
        world.publish(),
        world.sign(board_key(0), MessageKind.FORFEIT, forfeit),
    )
    for height, envelope in enumerate(sent):
        validator.submit(envelope, now_s=float(height))
        validator.tick(float(height))
    store = SqliteStore.create(home / "state" / CHAIN_FILE, world.genesis)
    for block in validator.blocks():
        identities = [result.identity for result in block.results]
        with store.transaction():
            store.put_block(block.block, block.certificate, block.changes, identities)
    store.close()
    out = home / "audit"
    assert chain("export", "--home", home, "--out", out) == 0
    shown = _lines(out / "transactions.jsonl")[-1]
    assert (shown["kind"], shown["sender"]) == ("forfeit", device_name(board_id(0)))
    assert shown["body"] == {"task": 0, "version": 0, "charge": 0, "paid": 0}


@pytest.mark.usefixtures("running")
def test_export_of_some_heights_as_csv(home: Path) -> None:
    out = home / "audit"
    words = ("export", "--home", home, "--out", out, "--csv", "--from", 2, "--to", 3)
    assert chain(*words) == 0
    with (out / "blocks.csv").open(newline="") as file:
        assert [row["height"] for row in csv.DictReader(file)] == ["2", "3"]
    with (out / "transactions.csv").open(newline="") as file:
        kinds = [row["kind"] for row in csv.DictReader(file)]
    assert kinds == ["register", "task", "register"]
    assert (out / "scores.csv").read_text() == ""


@pytest.mark.usefixtures("running")
@pytest.mark.parametrize(("first", "last"), [(0, 2), (1, 4), (3, 2), (-1, 1)])
def test_export_of_heights_that_are_not_there_exits_1(
    home: Path, first: int, last: int
) -> None:
    words = ("export", "--home", home, "--out", home, "--from", first, "--to", last)
    assert chain(*words) == 1


@pytest.mark.usefixtures("running")
@pytest.mark.parametrize("identity", ["zz", "00", "00" * 32])
def test_prove_what_is_not_there_exits_1(home: Path, identity: str) -> None:
    out = home / "proof"
    assert chain("prove", "--home", home, "--update", identity, "--out", out) == 1
    assert not out.exists()


def test_no_chain_exits_78(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert chain("verify", "--home", home) == 78
    assert "there is no chain" in capsys.readouterr().err


def test_no_home_exits_78(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STARLING_HOME", raising=False)
    assert chain("verify") == 78

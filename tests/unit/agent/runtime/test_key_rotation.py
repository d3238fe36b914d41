"""A board that changes its key keeps its id, its admission and its place."""

from pathlib import Path

import pytest

from starling.agent.runtime.storage.agent_home import AgentHome
from starling.coordinator.chain.execution.state_machine import apply, genesis_tree
from starling.coordinator.chain.state import board_records
from starling.coordinator.chain.state.overlay import BlockContext
from starling.protocol.errors import EXIT_CONFIG, EXIT_DONE
from starling.protocol.wire.envelope import ENVELOPE, Envelope, MessageKind, sign
from starling.protocol.wire.message_bodies import REGISTER, Register
from tests.unit.agent.agent_command import Capture, admission, agent
from tests.vectors.protocol_samples import CHAIN_ID, GENESIS, OPERATOR


@pytest.fixture
def home(tmp_path: Path, capsys: Capture) -> AgentHome:
    """Of an enrolled board."""
    path = tmp_path / "home"
    assert agent("init", "--home", path) == EXIT_DONE
    given = admission(path, tmp_path)
    assert agent("enrol", "--home", path, "--admission", given) == EXIT_DONE
    capsys.readouterr()
    return AgentHome(path)


def test_rotation_is_taken_by_the_chain_and_keeps_the_id(
    home: AgentHome, tmp_path: Path
) -> None:
    first, before = home.identity(), home.signing_key()
    out = tmp_path / "rotation"
    assert agent("rotate", "--home", home.path, "--out", out) == EXIT_DONE
    assert home.signing_key() == before
    again = out.read_bytes()
    assert agent("rotate", "--home", home.path, "--out", out) == EXIT_DONE
    assert out.read_bytes() == again

    admitted = REGISTER.pack(Register(before.public))
    transactions = (
        sign(OPERATOR, CHAIN_ID, MessageKind.REGISTER, 1, admitted),
        ENVELOPE.unpack(out.read_bytes()),
    )
    tree = genesis_tree(GENESIS)
    for envelope in transactions:
        changes, result = apply(
            tree, BlockContext(GENESIS, CHAIN_ID, 1, 0, 0), envelope
        )
        assert result.code == 0, result
        tree = tree.update(changes)

    assert agent("rotate", "--home", home.path, "--done") == EXIT_DONE
    after = AgentHome(home.path)
    assert after.identity() == first
    assert after.signing_key() != before
    assert board_records.owner(tree, after.signing_key().public) == first
    assert board_records.signer(tree, after.signing_key().public) is not None
    assert after.admission() is not None


def test_rotation_goes_on_after_a_power_cut(home: AgentHome, tmp_path: Path) -> None:
    first = home.identity()
    agent("rotate", "--home", home.path, "--out", tmp_path / "rotation")
    following = (home.path / "keys" / "device.seed.next").read_bytes()
    home.identity_file.write_bytes(first)
    home.seed_file.write_bytes(following)
    assert agent("rotate", "--home", home.path, "--done") == EXIT_DONE
    assert home.identity() == first
    assert home.signing_key().seed == following


def test_second_rotation_follows_the_first(home: AgentHome, tmp_path: Path) -> None:
    first = home.identity()
    senders = []
    for number in range(2):
        out = tmp_path / f"rotation{number}"
        agent("rotate", "--home", home.path, "--out", out)
        agent("rotate", "--home", home.path, "--done")
        senders.append(rotated(out).sender)
    assert len({*senders, home.signing_key().public}) == 3
    assert home.identity() == first


def rotated(file: Path) -> Envelope:
    envelope = ENVELOPE.unpack(file.read_bytes())
    envelope.check(CHAIN_ID)
    return envelope


def test_rotation_waits_for_what_the_present_key_sent(
    home: AgentHome, tmp_path: Path, capsys: Capture
) -> None:
    (home.spool / "update").write_bytes(b"waits")
    out = tmp_path / "rotation"
    assert agent("rotate", "--home", home.path, "--out", out) == EXIT_CONFIG
    assert "updates wait" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("words", [["--done"], []], ids=["nothing-drawn", "no-file"])
def test_rotation_of_nothing_says_what_to_do(home: AgentHome, words: list[str]) -> None:
    assert agent("rotate", "--home", home.path, *words) == EXIT_CONFIG


def test_key_that_was_replaced_is_overwritten(home: AgentHome, tmp_path: Path) -> None:
    agent("rotate", "--home", home.path, "--out", tmp_path / "rotation")
    following = home.path / "keys" / "device.seed.next"
    with home.seed_file.open("rb") as old, following.open("rb") as drawn:
        agent("rotate", "--home", home.path, "--done")
        assert old.read() == bytes(32)
        assert drawn.read() == bytes(32)
    assert home.seed_file.read_bytes() != bytes(32)

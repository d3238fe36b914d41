"""A recount counts what was lost, and all that a data set has paid elsewhere."""

import json
from pathlib import Path

import pytest

from starling import __main__ as starling
from starling.agent.runtime.privacy_ledger.ledger_integrity import journal_file
from starling.agent.runtime.privacy_ledger.ledger_recount import recount
from starling.agent.runtime.storage.agent_home import AgentHome
from starling.protocol.errors import ConfigError
from tests.unit.agent.fake_coordinator import CHAIN
from tests.unit.agent.runtime.privacy_ledger.paid_home import (
    RELEASES,
    TASK,
    begin,
    ledger_of,
    opened,
    pay,
    payloads,
    prove,
)


def test_recount_of_a_damaged_entry_counts_one_more_of_the_dearest(
    home: AgentHome,
) -> None:
    path = journal_file(home)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)

    found = recount(home, home.path / "data")

    ledger = opened(home)
    assert found.aside is not None
    assert found.aside.read_bytes() == content
    assert len(ledger.charges) == RELEASES - 1
    assert ledger.releases(CHAIN) == RELEASES
    each = next(iter(ledger.charges.values())).units
    assert ledger.units == RELEASES * each
    assert ledger.below[CHAIN, TASK] == RELEASES - 1


def test_recount_counts_a_proof_for_what_it_states(home: AgentHome) -> None:
    before = ledger_of(home).units
    prove(home, RELEASES + 5, charge=12345)

    recount(home, home.path / "data", chain=CHAIN)

    ledger = opened(home)
    assert ledger.units == before + 12345
    assert ledger.below[CHAIN, TASK] == RELEASES + 6


def test_recount_of_a_sound_ledger_changes_nothing(home: AgentHome) -> None:
    before = payloads(home)

    assert recount(home, home.path / "data", chain=CHAIN).added == ()
    assert payloads(home) == before


def test_data_set_that_is_moved_brings_all_that_was_paid(
    home: AgentHome, tmp_path: Path
) -> None:
    other, data = begin(tmp_path / "other"), home.path / "data"
    with pytest.raises(ConfigError, match="--take-data"):
        recount(other, data)

    recount(other, data, take_data=True)

    moved = opened(other, data=data)
    assert moved.units == ledger_of(home).units
    assert moved.epsilon() == ledger_of(other).epsilon()
    assert ledger_of(home).spent
    with pytest.raises(ConfigError, match=f"ledger of {other.path}"):
        opened(home)
    assert recount(other, data, take_data=True).added == ()


def test_data_set_that_is_moved_twice_keeps_what_both_had_paid(
    home: AgentHome, tmp_path: Path
) -> None:
    data = home.path / "data"
    second, third = begin(tmp_path / "second"), begin(tmp_path / "third")
    pay(second, 2)
    recount(second, data, take_data=True)

    recount(third, data, take_data=True)

    assert opened(third, data=data).units == opened(second, data=tmp_path).units
    assert not opened(third, data=data).spent


def test_data_set_of_a_ledger_that_is_gone_counts_as_spent(
    home: AgentHome, tmp_path: Path
) -> None:
    other, data = begin(tmp_path / "other"), home.path / "data"
    journal_file(home).unlink()
    with pytest.raises(ConfigError, match="--as-fully-spent"):
        recount(other, data, take_data=True)
    assert not journal_file(home).exists()

    recount(other, data, take_data=True, as_fully_spent=True)

    assert opened(other, data=data).spent


def test_other_home_than_the_data_set_names_is_no_source(
    home: AgentHome, tmp_path: Path
) -> None:
    other, wrong = begin(tmp_path / "other"), begin(tmp_path / "wrong")
    pay(wrong)

    with pytest.raises(ConfigError, match="--from"):
        recount(other, home.path / "data", take_data=True, origin=wrong.path)


def test_recount_as_a_command_says_what_it_counted(
    home: AgentHome, capsys: pytest.CaptureFixture[str]
) -> None:
    prove(home, RELEASES)
    arguments = ["agent", "recount", "--home", str(home.path), "--json"]

    assert starling.main([*arguments, "--as-fully-spent"]) == 0

    document = json.loads(capsys.readouterr().out)
    assert document["kept"] == RELEASES + 1
    assert document["aside"] is None
    assert any("everything" in line for line in document["counted"])

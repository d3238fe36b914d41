"""A label journal that was lost is not begun anew, and one goes with its data set."""

from pathlib import Path

import pytest

from starling.agent.privacy.label_entries import DIGEST_BYTES, DrawnLabel, batches_of
from starling.agent.privacy.ledger import PrivacyLedger
from starling.agent.runtime.privacy_ledger.label_journal import (
    carry_labels,
    open_label_journal,
)
from starling.agent.runtime.privacy_ledger.ledger_recount import recount
from starling.agent.runtime.storage.agent_home import AgentHome
from starling.durable.journal import Journal
from starling.protocol.errors import ConfigError
from starling.protocol.ids import TaskId, Version
from starling.protocol.learning.task import LABEL_RESPONSE, MICRO, PrivacyPolicy
from tests.unit.agent.fake_coordinator import CAP, CHAIN
from tests.unit.agent.runtime.privacy_ledger.paid_home import begin, opened, prove

POLICY = PrivacyPolicy(LABEL_RESPONSE, 0, 0, 2 * MICRO, 0, 15)
DRAWN = [DrawnLabel(b"r" * DIGEST_BYTES, 0, 3, 4)]
BATCHES = batches_of(b"i" * DIGEST_BYTES, 10, 2 * MICRO, DRAWN)


def trained(ledger: PrivacyLedger) -> PrivacyLedger:
    """A ledger whose board took part in a task that has labels drawn."""
    allowed = PrivacyLedger(
        CAP, ledger.charges, owner=ledger.owner, labels_micro=6 * MICRO
    )
    return allowed.charge((CHAIN, TaskId(0), Version(3)), POLICY)[0]


def draw(home: AgentHome) -> None:
    with open_label_journal(home, opened(home)) as journal:
        journal.append_many(BATCHES)


def kept(home: AgentHome) -> list[bytes]:
    journal, payloads = Journal.open(home.labels_file)
    journal.close()
    return payloads


def test_journal_begins_empty_also_in_a_home_of_before(tmp_path: Path) -> None:
    home = begin(tmp_path / "home")
    home.labels_file.parent.rmdir()
    open_label_journal(home, opened(home)).close()

    assert kept(home) == []
    assert home.labels_file.parent.stat().st_mode & 0o077 == 0


def test_journal_keeps_what_was_drawn(tmp_path: Path) -> None:
    home = begin(tmp_path / "home")
    draw(home)
    open_label_journal(home, trained(opened(home))).close()

    assert kept(home) == list(BATCHES)


def test_emptied_journal_is_refused_where_an_update_shows_that_labels_were_drawn(
    tmp_path: Path,
) -> None:
    home = begin(tmp_path / "home")
    draw(home)
    prove(home, 3)
    home.labels_file.unlink()

    with pytest.raises(ConfigError, match="must not be drawn again") as caught:
        open_label_journal(home, trained(opened_without_proofs(home)))
    assert "0-3.proof" in str(caught.value)
    assert "--as-fully-spent" in str(caught.value)


def opened_without_proofs(home: AgentHome) -> PrivacyLedger:
    (proof,) = home.proofs.iterdir()
    content = proof.read_bytes()
    proof.unlink()
    ledger = opened(home)
    proof.write_bytes(content)
    return ledger


def test_charge_whose_labels_were_never_drawn_is_no_loss(tmp_path: Path) -> None:
    # The power went after the charge and before the draw.
    home = begin(tmp_path / "home")
    open_label_journal(home, trained(opened(home))).close()

    assert kept(home) == []


def test_damaged_journal_is_refused(tmp_path: Path) -> None:
    home = begin(tmp_path / "home")
    draw(home)
    content = bytearray(home.labels_file.read_bytes())
    content[-20] ^= 1
    home.labels_file.write_bytes(content)

    with pytest.raises(ConfigError, match="drawn labels are lost"):
        open_label_journal(home, opened(home))


def test_journal_of_something_else_is_refused(tmp_path: Path) -> None:
    home = begin(tmp_path / "home")
    with open_label_journal(home, opened(home)) as journal:
        journal.append(b"\x93no batch")

    with pytest.raises(ConfigError, match="drawn labels are lost"):
        open_label_journal(home, opened(home))


def test_batch_that_a_power_cut_cut_short_is_dropped(tmp_path: Path) -> None:
    home = begin(tmp_path / "home")
    open_label_journal(home, opened(home)).close()
    before = home.labels_file.read_bytes()
    draw(home)
    whole = home.labels_file.read_bytes()
    # A tail of zeros is damage, as in the privacy ledger.
    for length in range(len(before) + 1, len(whole)):
        if not whole[length - 1]:
            continue
        home.labels_file.write_bytes(whole[:length])
        open_label_journal(home, opened(home)).close()

        assert home.labels_file.read_bytes() == before


def test_data_set_that_moves_takes_its_drawn_labels_along(tmp_path: Path) -> None:
    old, new = begin(tmp_path / "old"), begin(tmp_path / "new")
    draw(old)
    opened(old)

    found = recount(new, old.path / "data", take_data=True)

    assert kept(new) == list(BATCHES)
    assert "1 batches of drawn labels" in found.added
    assert carry_labels(old, new) == 0
    assert kept(old) == list(BATCHES)


def test_home_without_drawn_labels_has_none_to_carry(tmp_path: Path) -> None:
    old, new = begin(tmp_path / "old"), begin(tmp_path / "new")

    assert carry_labels(old, new) == 0
    assert not new.labels_file.exists()

"""A ledger that lacks what others know it has paid is kept from being used."""

from collections.abc import Callable
from contextlib import suppress

import pytest

from starling.agent.privacy.ledger import PrivacyLedger
from starling.agent.privacy.ledger_entries import Charge
from starling.agent.runtime.privacy_ledger.ledger_integrity import journal_file
from starling.agent.runtime.privacy_ledger.ledger_recount import recount
from starling.agent.runtime.storage.agent_home import AgentHome
from starling.durable.journal import Journal
from starling.protocol.errors import ConfigError
from starling.protocol.ids import Version
from starling.protocol.privacy.gaussian_dp import Budget
from tests.unit.agent.fake_coordinator import CAP, CHAIN
from tests.unit.agent.runtime.privacy_ledger.paid_home import (
    RELEASES,
    TASK,
    ledger_of,
    let_go,
    opened,
    payloads,
    prove,
)


def test_any_byte_of_the_last_entry_flipped_is_refused_with_the_way_out(
    home: AgentHome,
) -> None:
    path = journal_file(home)
    content = path.read_bytes()
    start = content.rindex(payloads(home)[-1]) - 12

    for offset in range(start, len(content)):
        spoiled = bytearray(content)
        spoiled[offset] ^= 1
        path.write_bytes(spoiled)
        with pytest.raises(ConfigError, match="recount --home") as caught:
            opened(home)
        assert str(path) in str(caught.value)
        assert path.read_bytes() == spoiled


@pytest.mark.parametrize("offset", range(16))
def test_any_byte_of_the_head_flipped_is_refused(home: AgentHome, offset: int) -> None:
    path = journal_file(home)
    content = bytearray(path.read_bytes())
    content[offset] ^= 0x20
    path.write_bytes(content)

    with pytest.raises(ConfigError, match="recount --home"):
        opened(home)


def test_entry_that_was_cut_short_is_dropped(home: AgentHome) -> None:
    path = journal_file(home)
    path.write_bytes(path.read_bytes()[:-1])

    assert len(opened(home).charges) == RELEASES - 1


def _empty(home: AgentHome) -> None:
    journal_file(home).write_bytes(b"")


def _delete(home: AgentHome) -> None:
    journal_file(home).unlink()


def _cut(home: AgentHome) -> None:
    found = payloads(home)
    journal, _ = Journal.open(journal_file(home))
    with journal:
        journal.rewrite(found[: len(found) // 2])


def _null_the_tail(home: AgentHome) -> None:
    path = journal_file(home)
    path.write_bytes(path.read_bytes()[:-20] + bytes(20))


def _repeat(home: AgentHome) -> None:
    found = payloads(home)
    journal, _ = Journal.open(journal_file(home))
    with journal:
        journal.append(found[-1])


def _prove(home: AgentHome) -> None:
    for charge in ledger_of(home).charges.values():
        prove(home, charge.base, charge.units)


def _spool(home: AgentHome) -> None:
    for base in range(RELEASES):
        (home.spool / f"0-{base}.upload.damaged").write_bytes(b"spoiled")


def _let_go(home: AgentHome) -> None:
    let_go(home, RELEASES)


def _all_know(home: AgentHome) -> None:
    _prove(home)
    _spool(home)
    _let_go(home)


LOSSES: dict[str, tuple[Callable[[AgentHome], None], Callable[[AgentHome], None]]] = {
    "emptied": (lambda home: None, _empty),
    "deleted": (lambda home: None, _delete),
    "nulled": (lambda home: None, _null_the_tail),
    "repeated": (lambda home: None, _repeat),
    "emptied, all know": (_all_know, _empty),
    "cut, proofs know": (_prove, _cut),
    "cut, spool knows": (_spool, _cut),
    "cut, index knows": (_let_go, _cut),
}


@pytest.mark.parametrize("name", LOSSES)
def test_ledger_that_lost_entries_is_refused_until_they_are_counted(
    home: AgentHome, name: str
) -> None:
    witness, lose = LOSSES[name]
    before = ledger_of(home)
    witness(home)
    opened(home)
    lose(home)
    with pytest.raises(ConfigError, match="lost entries"):
        opened(home)
    with pytest.raises(ConfigError, match="lost entries"):
        opened(home)

    _recounted(home)

    after = opened(home)
    assert after.spent or after.releases(CHAIN) >= before.releases(CHAIN)
    assert after.spent or after.units >= before.units


def _recounted(home: AgentHome) -> None:
    """A recount, with everything as spent only where it will not do without."""
    data = home.path / "data"
    with suppress(ConfigError):
        recount(home, data, chain=CHAIN)
        return
    recount(home, data, chain=CHAIN, as_fully_spent=True)


def test_proof_of_a_ledger_s_own_base_and_one_that_is_spoiled_say_nothing(
    home: AgentHome,
) -> None:
    prove(home, 0)
    (home.proofs / "0-99.proof").write_bytes(b"cut off by a power cut")

    assert len(opened(home).charges) == RELEASES


def test_windows_learnt_too_late_price_everything_anew_and_give_nothing_back(
    home: AgentHome,
) -> None:
    before = ledger_of(home)

    wide = opened(home, windows=3)
    again = opened(home, windows=3)
    narrow = opened(home, windows=1)

    each = next(iter(before.charges.values()))
    alone = Budget(CAP.epsilon, CAP.delta)
    dearer = PrivacyLedger.load(alone, [])
    for base in range(RELEASES):
        slot = (CHAIN, TASK, Version(base))
        dearer = dearer.after(
            Charge(*slot, each.mechanism, each.sigma_micro, 3, 10**6, 1, each.units)
        )
    assert wide.units == dearer.units > 8 * before.units
    assert wide == again == narrow
    assert wide.stated(CHAIN) == before.stated(CHAIN)
    assert wide.epsilon() > before.epsilon()

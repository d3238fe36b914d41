"""Whatever contradicts the ledger keeps it from being used, and a recount counts it."""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from starling import __main__ as starling
from starling.agent.privacy.ledger import PrivacyLedger
from starling.agent.privacy.ledger_entries import Charge, LedgerOwner, read_entry
from starling.agent.runtime.privacy_ledger import dataset_claim
from starling.agent.runtime.privacy_ledger.ledger_integrity import (
    journal_file,
    open_ledger,
)
from starling.agent.runtime.privacy_ledger.ledger_recount import recount
from starling.agent.runtime.storage.agent_home import AgentHome
from starling.agent.runtime.storage.spool import SpoolIndex
from starling.durable.journal import Journal
from starling.protocol.errors import ConfigError, StorageError
from starling.protocol.ids import H, TaskId, Version
from starling.protocol.privacy.gaussian_dp import Budget
from starling.protocol.wire.envelope import ENVELOPE, MessageKind, sign
from starling.protocol.wire.message_bodies import CONTRIBUTION, Contribution
from tests.unit.agent.fake_coordinator import BOARD, CAP, CHAIN, PRIVATE, final

RELEASES = 4
TASK = TaskId(0)


def begin(path: Path) -> AgentHome:
    home = AgentHome(path)
    home.begin({})
    return home


def opened(
    home: AgentHome, windows: int = 1, data: Path | None = None
) -> PrivacyLedger:
    """The ledger as a start of the agent finds it."""
    index = SpoolIndex(home.state / "index.json", pytest.fail)
    try:
        found = open_ledger(home, CAP, data or home.path / "data", windows, index)
    finally:
        index.close()
    found.journal.close()
    return found.ledger


def pay(home: AgentHome, releases: int = RELEASES) -> None:
    """Charges for so many base versions more."""
    ledger = opened(home)
    first = len(ledger.charges)
    journal, _ = Journal.open(journal_file(home))
    with journal:
        for base in range(first, first + releases):
            slot = (CHAIN, TASK, Version(base))
            ledger, _, entry = ledger.charge(slot, PRIVATE)
            journal.append(entry)


def payloads(home: AgentHome) -> list[bytes]:
    journal, found = Journal.open(journal_file(home))
    journal.close()
    return found


def ledger_of(home: AgentHome) -> PrivacyLedger:
    return PrivacyLedger.load(CAP, payloads(home))


def prove(home: AgentHome, base: int, charge: int = 7) -> Path:
    """A proof that an update for a base version is final."""
    body = Contribution(TASK, Version(base), 0, 16, 1, charge, H(b""), H(b""))
    update = sign(BOARD, CHAIN, MessageKind.UPDATE, 1, CONTRIBUTION.pack(body))
    home.proofs.mkdir(exist_ok=True)
    path = home.proofs / f"0-{base}.proof"
    path.write_bytes(ENVELOPE.unpack(final(update)).body)
    return path


def let_go(home: AgentHome, count: int) -> None:
    index = SpoolIndex(home.state / "index.json", pytest.fail)
    for row in range(count):
        index._agent.upsert(
            {"name": "final", "count": row + 1}, lambda each: each["name"] == "final"
        )
    index.close()


@pytest.fixture
def home(tmp_path: Path) -> AgentHome:
    """A home that has paid."""
    found = begin(tmp_path / "home")
    pay(found)
    return found


def test_ledger_has_an_id_that_the_data_set_names(home: AgentHome) -> None:
    first = read_entry(payloads(home)[0])
    claim = dataset_claim.read_claim(home.path / "data")

    assert isinstance(first, LedgerOwner)
    assert claim == dataset_claim.DataSetClaim(first.ledger.hex(), str(home.path))
    assert dataset_claim.claim_file(home.path / "data").stat().st_mode & 0o777 == 0o600
    assert opened(home).owner == first.ledger


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


def test_proof_of_a_ledger_s_own_base_and_one_that_is_spoiled_say_nothing(
    home: AgentHome,
) -> None:
    prove(home, 0)
    (home.proofs / "0-99.proof").write_bytes(b"cut off by a power cut")

    assert len(opened(home).charges) == RELEASES


def test_second_home_on_the_same_data_is_refused(
    home: AgentHome, tmp_path: Path
) -> None:
    other = begin(tmp_path / "other")

    with pytest.raises(ConfigError, match="--take-data"):
        opened(other, data=home.path / "data")
    assert payloads(other) == []


def test_copy_of_the_data_with_its_file_is_refused(
    home: AgentHome, tmp_path: Path
) -> None:
    other = begin(tmp_path / "other")
    claim = dataset_claim.claim_file(home.path / "data")
    dataset_claim.claim_file(other.path / "data").write_bytes(claim.read_bytes())

    with pytest.raises(ConfigError, match=f"ledger of {home.path}"):
        opened(other)


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


def test_claim_that_is_damaged_is_refused(home: AgentHome) -> None:
    dataset_claim.claim_file(home.path / "data").write_bytes(b"{}")

    with pytest.raises(ConfigError, match="is damaged"):
        opened(home)
    with pytest.raises(ConfigError, match="is damaged"):
        recount(home, home.path / "data")


def test_folder_that_cannot_be_written_to_is_remembered_in_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = begin(tmp_path / "home")

    def refuse(path: Path, content: bytes) -> None:
        if path.name == dataset_claim.FILE:
            error = OSError(30, "Read-only file system")
            raise StorageError("refused") from error
        path.write_bytes(content)

    monkeypatch.setattr(dataset_claim, "write_atomic", refuse)
    first = dataset_claim.take(home.path / "data", b"a" * 16, home.path)

    assert first is dataset_claim.ClaimLocation.AT_HOME
    kept = json.loads((home.state / dataset_claim.KEPT_FILE).read_text())
    assert kept["inode"] == (home.path / "data").stat().st_ino
    with pytest.raises(ConfigError, match="another ledger"):
        dataset_claim.take(home.path / "data", b"b" * 16, home.path)


def test_home_that_was_renamed_keeps_its_data_set(
    home: AgentHome, tmp_path: Path
) -> None:
    home.path.rename(tmp_path / "elsewhere")
    moved = AgentHome(tmp_path / "elsewhere")

    assert len(opened(moved).charges) == RELEASES
    claim = dataset_claim.read_claim(moved.path / "data")
    assert claim is not None
    assert claim.home == str(moved.path)


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

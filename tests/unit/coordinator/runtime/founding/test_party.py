"""A party's steps: against a founder that lies, and with the power cut at any time."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from starling.coordinator.runtime.founding.founding_store import FoundingStore
from starling.coordinator.runtime.founding.party import (
    FoundedChain,
    founded_here,
    join_founding,
)
from starling.coordinator.runtime.setup.genesis_setup import assemble_genesis, identify
from starling.durable.files import write_atomic
from starling.protocol.chain.founding import (
    CONFIRMATION_FORMAT,
    ENTRY_FORMAT,
    RECORD_FORMAT,
    ROSTER_FORMAT,
    document,
    founding_code,
    read_document,
)
from starling.protocol.chain.founding_messages import (
    FOUNDING_ENTRY,
    FOUNDING_RECORD,
    FOUNDING_ROSTER,
)
from starling.protocol.chain.genesis import GENESIS, FaultModel
from starling.protocol.errors import ConfigError, OperationError
from starling.protocol.wire.enrolment_token import EnrolmentToken
from tests.unit.coordinator.runtime.founding.parties import (
    Parties,
    Unanswered,
    copied,
)
from tests.unit.durable.power_cut_disk import PowerCut, PowerCutDisk
from tests.vectors import founding_samples as samples

TOKEN = EnrolmentToken("h", 1, "meadow", b"a" * 32, b"token-01", b"s" * 20, True)


def test_two_parties_agree_and_see_one_code(two: Parties) -> None:
    founded = two.agree("south", broker="east")

    own = two.founder.own_record()
    assert own is not None
    assert founding_code(own) == founding_code(founded.record)
    assert founded.roster == FoundingStore(two.home("north").founding).roster()
    names = {each.name for each in founded.roster.genesis.validators.members}
    assert names == {"north", "south"}


def test_party_that_agreed_asks_nobody_again(two: Parties) -> None:
    founded = two.agree("south")

    def nobody(_content: bytes) -> bytes:
        raise AssertionError("asked")

    assert two.agree("south", ask=nobody) == founded


def test_party_goes_on_with_the_entry_that_it_sent(three: Parties) -> None:
    with pytest.raises(Unanswered):
        three.agree("south")
    before = FoundingStore(three.home("south").founding).own()

    with pytest.raises(Unanswered):
        three.agree("south")

    assert FoundingStore(three.home("south").founding).own() == before


def lying(parties: Parties, form: str, lie: Callable[[bytes], bytes]) -> None:
    """Has `south` meet a founder that answers messages of one form with a lie."""

    def ask(content: bytes) -> bytes:
        answer = parties.ask(content)
        return lie(answer) if content.startswith(form.encode()) else answer

    with pytest.raises(OperationError, match="answer does not hold"):
        parties.agree("south", ask=ask)


def test_roster_with_another_key_in_our_place_is_not_kept(two: Parties) -> None:
    def swapped(answer: bytes) -> bytes:
        roster = read_document(ROSTER_FORMAT, FOUNDING_ROSTER, answer)
        founder = roster.entry_of(roster.founder)
        assert founder is not None
        evil = replace(samples.entry_of(9, "south"), fleet="meadow")
        entries = tuple(sorted((founder, evil), key=lambda each: each.public))
        made = roster.genesis
        genesis = replace(
            made,
            validators=replace(
                made.validators,
                members=tuple(
                    replace(
                        made.validators.members[0],
                        public=each.public,
                        sealing=each.sealing,
                        name=each.name,
                    )
                    for each in entries
                ),
            ),
            operators=tuple(sorted(each.operator for each in entries)),
        )
        forged = replace(roster, genesis=genesis, entries=entries)
        return document(ROSTER_FORMAT, FOUNDING_ROSTER, forged)

    lying(two, ENTRY_FORMAT, swapped)

    store = FoundingStore(two.home("south").founding)
    assert store.roster() is None
    confirmations = two.home("south").founding / "confirmations"
    assert list(confirmations.iterdir()) == []


@pytest.mark.parametrize("answer", [b"", b"{}", b"starling/founding-roster/1 AA=="])
def test_answer_that_is_no_roster_is_not_kept(two: Parties, answer: bytes) -> None:
    lying(two, ENTRY_FORMAT, lambda _answer: answer)


@pytest.mark.parametrize("fault", ["consents", "certificates", "chain"])
def test_record_that_lacks_something_founds_nothing(two: Parties, fault: str) -> None:
    def broken(answer: bytes) -> bytes:
        record = read_document(RECORD_FORMAT, FOUNDING_RECORD, answer)
        changes = {
            "consents": (record.consents[0], record.consents[0]),
            "certificates": (),
            "chain": b"c" * 32,
        }
        forged = replace(record, **{fault: changes[fault]})  # type: ignore[arg-type]  # by name
        return document(RECORD_FORMAT, FOUNDING_RECORD, forged)

    lying(two, CONFIRMATION_FORMAT, broken)

    assert FoundingStore(two.home("south").founding).record() is None
    assert not (two.home("south").path / "genesis").exists()


def test_party_that_agreed_cannot_become_another(two: Parties) -> None:
    two.agree("south")

    with pytest.raises(ConfigError, match="give what it was given first"):
        two.agree("south", broker="east")


def test_folder_of_another_chain_is_refused(tmp_path: Path, two: Parties) -> None:
    home = two.home("old")
    genesis = assemble_genesis(
        "meadow", [identify(home, "x")], FaultModel.BYZANTINE, 10
    )
    write_atomic(home.path / "genesis", GENESIS.pack(genesis))

    with pytest.raises(ConfigError, match="belongs to a chain already"):
        join_founding(home, TOKEN, two.options("old"), 1.0, print)

    assert founded_here(two.home("north")) is None


def test_folder_that_founds_starts_nothing_and_makes_no_other_chain(
    two: Parties,
) -> None:
    home = two.home("north")

    for refused in (home.config, home.genesis, home.require_no_founding):
        with pytest.raises(ConfigError, match="run the same `starling coordinator"):
            refused()


def test_second_command_in_the_same_folder_is_refused(two: Parties) -> None:
    store = FoundingStore(two.home("south").founding)

    with store.begin(), pytest.raises(ConfigError, match="already running"):
        join_founding(two.home("south"), TOKEN, two.options("south"), 1.0, print)


@pytest.mark.parametrize("undo", [False, True], ids=["renamed", "not-renamed"])
def test_power_cut_at_any_moment_is_gone_on_from(
    brokers: Path, tmp_path: Path, undo: bool
) -> None:
    """Cuts the power of founder and party at each change of their disks."""
    for cut_at in count():
        place = tmp_path / str(cut_at)
        place.mkdir()
        copied(brokers, place)
        first: FoundedChain | None = None
        with pytest.MonkeyPatch.context() as patch:
            power = PowerCutDisk(patch, cut_at)
            with suppress(PowerCut):
                first = Parties(place, 2).agree("south", broker="east")
        if power.steps < cut_at:
            break
        power.lose(keep=0.5, null_filled=False, undo_renames=undo)
        for held in place.rglob("lock"):
            # The system drops them with the process.
            held.unlink()

        again = Parties(place, 2)
        founded = again.agree("south", broker="east")

        own = again.founder.own_record()
        assert own is not None
        assert founding_code(own) == founding_code(founded.record), cut_at
        assert first in (None, founded), cut_at
    assert cut_at > 30


def test_entry_is_signed_and_committed_before_it_is_sent(two: Parties) -> None:
    def ask(content: bytes) -> bytes:
        store = FoundingStore(two.home("south").founding)
        entry = read_document(ENTRY_FORMAT, FOUNDING_ENTRY, content)
        assert store.own() == entry
        assert len(store.nonce()) == 32
        raise Unanswered

    with pytest.raises(Unanswered):
        two.agree("south", ask=ask)

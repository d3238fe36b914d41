"""The founder's answers: who is let in, who is not, and when all agree."""

from dataclasses import replace

import pytest

from starling.coordinator.runtime.founding.founder import FoundingProgress, party_of
from starling.coordinator.runtime.founding.founding_store import FoundingStore
from starling.coordinator.runtime.founding.party_home import own_confirmation
from starling.protocol.chain.founding import (
    ENTRY_FORMAT,
    RECORD_FORMAT,
    ROSTER_FORMAT,
    document,
    read_document,
    sign_consent,
)
from starling.protocol.chain.founding_messages import (
    FOUNDING_ENTRY,
    FOUNDING_RECORD,
    FOUNDING_ROSTER,
    FoundingConfirmation,
    FoundingRoster,
    PartyCertificate,
)
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.errors import OperationError, ProtocolError, SignatureError
from tests.unit.coordinator.runtime.founding.parties import Parties
from tests.vectors import founding_samples as samples


def roster(parties: Parties) -> FoundingRoster:
    """The roster, with `south`, which runs a broker, and `east`."""
    parties.enter("south", parties.options("south", broker="east"))
    answer = parties.enter("three", parties.options("three", at="south"))
    assert answer is not None
    return read_document(ROSTER_FORMAT, FOUNDING_ROSTER, answer)


def progress(parties: Parties) -> FoundingProgress:
    found = parties.founder.progress()
    assert found is not None
    return found


def consent(parties: Parties, name: str, broker: str = "") -> FoundingConfirmation:
    home = parties.home(name)
    found = FoundingStore(parties.home("north").founding).roster()
    assert found is not None
    folder = parties.path / broker if broker else None
    return own_confirmation(home, FoundingStore(home.founding), found, folder)


def test_roster_is_told_once_all_are_in_and_stays_the_same(three: Parties) -> None:
    asked = three.options("south", broker="east")
    assert three.enter("south", asked) is None
    assert three.enter("south", asked) is None
    assert progress(three).text() == "2 of 3 parties are in: north, south"

    last = three.enter("three", three.options("three"))

    assert last is not None
    assert three.enter("south", asked) == last


def test_record_is_told_once_all_agree_to_each_with_its_certificates(
    three: Parties,
) -> None:
    found = roster(three)

    first = three.confirm(consent(three, "south", "east"))
    said = progress(three).text()
    last = three.confirm(consent(three, "three"))

    assert first is None
    assert said == "all 3 parties are in; agreed: north, south"
    assert last is not None
    record = read_document(RECORD_FORMAT, FOUNDING_RECORD, last)
    hosts = {each.public for each in found.entries if each.broker}
    assert {each.party for each in record.certificates} == hosts
    own = three.founder.own_record()
    assert own is not None
    assert own.consents == record.consents
    assert len(own.certificates) == 1


def test_party_of_a_name_that_is_taken_is_refused_until_it_has_another(
    three: Parties,
) -> None:
    three.enter("south", three.options("south"))

    for name in ("south", "north"):
        with pytest.raises(OperationError, match=f"called '{name}': give --name"):
            three.enter("three", three.options(name))

    assert three.enter("three", three.options("three")) is not None


def test_fifth_party_is_refused_and_told_who_is_in(three: Parties) -> None:
    roster(three)

    with pytest.raises(OperationError, match=r"has its 3 parties: .*north"):
        three.enter("fifth", three.options("fifth"))


def test_party_that_comes_with_other_keys_once_all_are_in_is_refused(
    three: Parties,
) -> None:
    roster(three)
    own = three.home("three").founding
    for name in ("own", "nonce", "roster"):
        (own / name).unlink(missing_ok=True)

    with pytest.raises(OperationError, match="three is in it with another entry"):
        three.enter("three", three.options("three", at="south"))


def test_party_at_a_broker_that_nobody_runs_is_refused_and_may_come_again(
    three: Parties,
) -> None:
    three.enter("south", three.options("south", at="nobody"))
    assert three.enter("three", three.options("three", at="north")) is None

    with pytest.raises(OperationError, match="'nobody' runs a broker: north do"):
        three.enter("south", three.options("south", at="nobody"))

    assert three.enter("south", three.options("south", at="north")) is not None


def test_second_broker_at_the_address_of_the_first_is_refused(three: Parties) -> None:
    with pytest.raises(OperationError, match=r"is at 127\.0\.0\.1:18883: give --host"):
        three.enter("south", three.options("south", broker="west"))


def test_entry_of_another_fleet_is_refused(three: Parties) -> None:
    entry = samples.entry_of(3, "south")
    said = document(ENTRY_FORMAT, FOUNDING_ENTRY, entry)

    with pytest.raises(OperationError, match="of the fleet 'meadow'"):
        three.founder.answer(said)


def test_party_may_change_its_entry_until_all_are_in(three: Parties) -> None:
    three.enter("south", three.options("south"))
    three.enter("south", three.options("renamed"))

    assert progress(three).present == ("north", "renamed")


def test_consent_of_a_stranger_is_refused(two: Parties) -> None:
    two.enter("south", two.options("south"))
    found = FoundingStore(two.home("north").founding).roster()
    assert found is not None
    stranger, chain = SigningKey(b"s" * 32), found.genesis.chain_id()
    forged = FoundingConfirmation(
        1, chain, sign_consent(stranger, chain, b"n" * 32), ()
    )

    with pytest.raises(OperationError, match="no party of this founding"):
        two.confirm(forged)


def test_consent_in_a_partys_name_without_its_key_is_refused(two: Parties) -> None:
    two.enter("south", two.options("south"))
    given = consent(two, "south")
    forged = replace(given, consent=replace(given.consent, signature=b"s" * 64))

    with pytest.raises(SignatureError):
        two.confirm(forged)


def test_consent_to_a_founding_that_was_given_up_is_refused(two: Parties) -> None:
    two.enter("south", two.options("south"))
    given = consent(two, "south")
    FoundingStore(two.home("north").founding).forget()
    two.begin()

    with pytest.raises(OperationError, match="remove the folder `founding`"):
        two.confirm(given)


@pytest.mark.parametrize("fault", ["none", "too-few", "anothers", "not-one"])
def test_certificates_that_lead_nowhere_are_refused(three: Parties, fault: str) -> None:
    roster(three)
    given = consent(three, "south", "east")
    first, second = given.certificates
    broken = {
        "none": (),
        "too-few": (first,),
        "anothers": (
            replace(first, certificate=second.certificate),
            replace(second, certificate=first.certificate),
        ),
        "not-one": (PartyCertificate(first.party, b"nonsense"), second),
    }

    with pytest.raises(OperationError, match="the consent does not hold"):
        three.confirm(replace(given, certificates=broken[fault]))

    assert three.confirm(given) is None


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"\xff" * 50, ENTRY_FORMAT.encode(), b"starling/founding-record/1 AA"],
)
def test_message_of_no_party_is_refused(content: bytes) -> None:
    with pytest.raises(ProtocolError):
        party_of(content)


def test_entry_whose_signature_is_anothers_is_refused() -> None:
    forged = replace(samples.ENTRY, public=samples.OTHER.public)
    said = document(ENTRY_FORMAT, FOUNDING_ENTRY, forged)

    with pytest.raises(SignatureError):
        party_of(said)


def test_home_that_founds_nothing_refuses(two: Parties) -> None:
    FoundingStore(two.home("north").founding).forget()
    said = document(ENTRY_FORMAT, FOUNDING_ENTRY, samples.ENTRY)

    with pytest.raises(OperationError, match="no chain is founded here"):
        two.founder.answer(said)

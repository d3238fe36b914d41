"""A party believes no roster and no record that leave room for another genesis."""

from dataclasses import replace

import pytest

from starling.protocol.chain import founding
from starling.protocol.chain.founding_messages import (
    FOUNDING_ENTRY,
    FOUNDING_ROSTER,
    FoundingRecord,
    FoundingRoster,
)
from starling.protocol.errors import DecodeError, LimitError, ProofError, SignatureError
from starling.protocol.ids import ChainId
from tests.vectors import founding_samples as samples

EVIL = samples.entry_of(5, "south")


def record_of(*numbers: int) -> FoundingRecord:
    """The sample's record with the consents of these parties."""
    consents = tuple(
        sorted((samples.CONSENTS[at] for at in numbers), key=lambda each: each.party)
    )
    return replace(samples.RECORD, consents=consents)


def test_roster_and_record_of_an_honest_founder_are_believed() -> None:
    for entry in (samples.ENTRY, samples.OTHER):
        founding.check_roster(samples.ROSTER, entry)
    founding.check_record(samples.RECORD, samples.ROSTER)

    code = founding.founding_code(samples.RECORD)

    assert (len(code), code[4]) == (9, "-")


def test_roster_in_which_the_founder_took_a_partys_place_is_refused() -> None:
    forged = samples.roster_of(samples.ENTRY, EVIL)

    with pytest.raises(ProofError, match="our own entry"):
        founding.check_roster(forged, samples.OTHER)


@pytest.mark.parametrize("field", ["sealing", "operator", "tls", "commitment"])
def test_roster_in_which_the_founder_changed_our_key_is_refused(field: str) -> None:
    changed = replace(samples.OTHER, **{field: getattr(EVIL, field)})
    forged = samples.roster_of(samples.ENTRY, changed)

    with pytest.raises(ProofError, match="our own entry"):
        founding.check_roster(forged, samples.OTHER)


@pytest.mark.parametrize("field", ["sealing", "operator", "tls", "commitment"])
def test_roster_in_which_the_founder_changed_anothers_key_is_refused(
    field: str,
) -> None:
    third = samples.entry_of(2, "west")
    changed = replace(third, **{field: getattr(EVIL, field)})
    forged = samples.roster_of(samples.ENTRY, samples.OTHER, changed)

    with pytest.raises(SignatureError):
        founding.check_roster(forged, samples.OTHER)


def test_record_without_one_partys_consent_is_refused() -> None:
    third = samples.entry_of(2, "west")
    roster = samples.roster_of(samples.ENTRY, samples.OTHER, third)
    chain = roster.genesis.chain_id()

    with pytest.raises(ProofError, match="one consent of each"):
        founding.check_record(replace(samples.RECORD, chain=chain), roster)


def test_record_of_another_genesis_is_refused() -> None:
    other = samples.roster_of(samples.ENTRY, samples.entry_of(2, "west"))

    with pytest.raises(ProofError, match="another genesis"):
        founding.check_record(samples.RECORD, other)


def test_consent_to_another_genesis_is_refused() -> None:
    signing = samples.keys_of(1)[0]
    other = samples.roster_of(samples.ENTRY, samples.OTHER, EVIL_THIRD)
    given = founding.sign_consent(signing, other.genesis.chain_id(), samples.NONCES[1])
    forged = replace(record_of(0), consents=(samples.CONSENTS[0], given))
    ordered = sorted(forged.consents, key=lambda each: each.party)

    with pytest.raises(SignatureError, match="did not consent"):
        founding.check_record(replace(forged, consents=tuple(ordered)), samples.ROSTER)


EVIL_THIRD = samples.entry_of(6, "third")


def test_nonce_that_was_chosen_after_the_commitment_is_refused() -> None:
    signing, chain = samples.keys_of(0)[0], samples.CHAIN
    late = founding.sign_consent(signing, chain, b"better for a code".ljust(32))
    consents = sorted((late, samples.CONSENTS[1]), key=lambda each: each.party)

    with pytest.raises(ProofError, match="another nonce than it committed to"):
        founding.check_record(
            replace(samples.RECORD, consents=tuple(consents)), samples.ROSTER
        )


def recorded(*numbers: int, names: tuple[str, ...]) -> tuple[FoundingRoster, str]:
    """The roster of parties with these keys, and the code that they see."""
    entries = [
        samples.entry_of(number, name, samples.BROKER if number == 0 else None)
        for number, name in zip(numbers, names, strict=True)
    ]
    roster = samples.roster_of(*entries)
    chain = roster.genesis.chain_id()
    consents = [
        founding.sign_consent(
            samples.keys_of(number)[0], chain, bytes([64 + number]) * 32
        )
        for number in numbers
    ]
    consents.sort(key=lambda each: each.party)
    record = FoundingRecord(1, chain, tuple(consents), ())
    founding.check_record(record, roster)
    return roster, founding.founding_code(record)


def test_founder_that_plays_each_party_to_the_other_shows_them_two_codes() -> None:
    names = ("north", "south", "west")
    to_south, seen_by_south = recorded(0, 1, 8, names=names)
    to_west, seen_by_west = recorded(0, 9, 2, names=names)

    founding.check_roster(to_south, samples.entry_of(1, "south"))
    founding.check_roster(to_west, samples.entry_of(2, "west"))

    assert seen_by_south != seen_by_west


def test_commitment_of_another_party_cannot_be_taken_over() -> None:
    nonce = samples.NONCES[0]

    copied = founding.commitment(samples.OTHER.public, nonce)

    assert copied != founding.commitment(samples.ENTRY.public, nonce)


@pytest.mark.parametrize("place", [0, 1], ids=["first-nonce", "second-nonce"])
def test_code_depends_on_chain_and_on_each_nonce(place: int) -> None:
    consents = list(samples.RECORD.consents)
    consents[place] = replace(consents[place], nonce=b"x" * 32)
    changed = replace(samples.RECORD, consents=tuple(consents))
    elsewhere = replace(samples.RECORD, chain=ChainId(EVIL.commitment))

    codes = {
        founding.founding_code(each) for each in (samples.RECORD, changed, elsewhere)
    }

    assert len(codes) == 3


def test_document_is_read_back() -> None:
    said = founding.document(founding.ENTRY_FORMAT, FOUNDING_ENTRY, samples.ENTRY)

    form = founding.ENTRY_FORMAT
    assert founding.read_document(form, FOUNDING_ENTRY, said) == samples.ENTRY


SAID = founding.document(founding.ENTRY_FORMAT, FOUNDING_ENTRY, samples.ENTRY)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        SAID[:-1],
        SAID + b"\n",
        SAID + b"AAAA",
        SAID.replace(b" ", b"  "),
        SAID.replace(b"entry", b"roster"),
        SAID.replace(b"/1 ", b"/2 "),
        founding.ENTRY_FORMAT.encode(),
        founding.ENTRY_FORMAT.encode() + b" \xff\xfe",
        founding.ENTRY_FORMAT.encode() + b" " + b"A" * 100_000,
    ],
)
def test_document_that_is_no_entry_is_refused(content: bytes) -> None:
    with pytest.raises((DecodeError, LimitError)):
        founding.read_document(founding.ENTRY_FORMAT, FOUNDING_ENTRY, content)


def test_document_cut_at_every_byte_is_refused() -> None:
    for length in range(len(SAID)):
        with pytest.raises(DecodeError):
            founding.read_document(founding.ENTRY_FORMAT, FOUNDING_ENTRY, SAID[:length])


def test_document_of_another_form_is_refused() -> None:
    with pytest.raises(DecodeError, match="expected starling/founding-roster/1"):
        founding.read_document(founding.ROSTER_FORMAT, FOUNDING_ROSTER, SAID)

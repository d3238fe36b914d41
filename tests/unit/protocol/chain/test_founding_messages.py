"""A roster that is no founding does not decode."""

from dataclasses import replace

import pytest

from starling.protocol.chain.credit_policy import NO_ECONOMY
from starling.protocol.chain.founding_messages import (
    FOUNDING_ROSTER,
    FoundingEntry,
    FoundingRoster,
    without_broker,
)
from starling.protocol.chain.genesis import FaultModel, genesis_of
from starling.protocol.errors import DecodeError, SignatureError
from tests.vectors import founding_samples as samples

WEST = samples.entry_of(2, "west", at="north")


def test_entry_that_its_party_did_not_sign_is_refused() -> None:
    samples.ENTRY.check()

    with pytest.raises(SignatureError):
        replace(samples.ENTRY, name="other").check()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"name": ""}, "has a name"),
        ({"at": "south"}, "at its own"),
        ({"fleet": "De mo"}, "fleet name"),
    ],
    ids=["name", "at", "fleet"],
)
def test_entry_that_no_party_can_have_is_refused(
    changes: dict[str, str], text: str
) -> None:
    with pytest.raises(DecodeError, match=text):
        replace(samples.ENTRY, **changes)  # type: ignore[arg-type]  # texts all


@pytest.mark.parametrize(
    ("others", "text"),
    [
        ([samples.entry_of(1, "north")], "one name"),
        ([samples.entry_of(1, "south", at="west")], "nobody runs"),
        ([samples.OTHER, samples.entry_of(2, "west", at="south")], "nobody runs"),
    ],
    ids=["one-name-twice", "at-nobody", "at-one-without-a-broker"],
)
def test_roster_of_parties_that_do_not_fit_is_refused(
    others: list[FoundingEntry], text: str
) -> None:
    with pytest.raises(DecodeError, match=text):
        samples.roster_of(samples.ENTRY, *others)


def test_roster_of_a_founder_without_a_broker_is_refused() -> None:
    with pytest.raises(DecodeError, match="founder is a party with a broker"):
        samples.roster_of(samples.OTHER, samples.ENTRY)


def test_roster_whose_genesis_names_somebody_else_is_refused() -> None:
    other = samples.roster_of(samples.ENTRY, samples.OTHER, WEST).genesis

    with pytest.raises(DecodeError, match="not made of the entries"):
        replace(samples.ROSTER, genesis=other)


def test_roster_whose_genesis_has_one_more_operator_is_refused() -> None:
    made = samples.ROSTER.genesis
    more = replace(made, operators=tuple(sorted((*made.operators, WEST.operator))))
    packed = replace_genesis(samples.ROSTER, more)

    with pytest.raises(DecodeError, match="not made of the entries"):
        FOUNDING_ROSTER.unpack(packed)


def replace_genesis(roster: FoundingRoster, genesis: object) -> bytes:
    """A roster's bytes with another genesis in them."""
    import msgspec

    fields = msgspec.to_builtins(roster, builtin_types=(bytes,))
    fields[1] = msgspec.to_builtins(genesis, builtin_types=(bytes,))
    return msgspec.msgpack.encode(fields)


def test_roster_in_another_order_is_refused() -> None:
    with pytest.raises(DecodeError, match="sorted by public key"):
        replace(samples.ROSTER, entries=samples.ROSTER.entries[::-1])


def test_roster_with_an_entry_of_another_fleet_is_refused() -> None:
    entries = (samples.ENTRY, samples.OTHER)
    made = genesis_of(entries, "meadow", 1, FaultModel.BYZANTINE, 10, NO_ECONOMY)

    with pytest.raises(DecodeError, match="another fleet"):
        replace(samples.ROSTER, genesis=made)


def test_party_is_at_its_own_broker_or_at_the_one_it_names_or_at_the_founders() -> None:
    own = replace(samples.BROKER, host="second.example.org")
    south = samples.entry_of(1, "south", own)
    at_south = samples.entry_of(2, "west", at="south")
    plain = samples.entry_of(3, "east")
    roster = samples.roster_of(samples.ENTRY, south, at_south, plain)

    found = [roster.broker_of(each).name for each in (south, at_south, plain)]

    assert found == ["south", "south", "north"]
    assert without_broker([samples.ENTRY, at_south]) == [at_south]

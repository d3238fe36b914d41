"""Files of a founding: what is damaged is named, and nothing of it is believed."""

from pathlib import Path

import pytest

from starling.coordinator.runtime.founding.founding_store import (
    FoundingStore,
    FoundingTerms,
)
from starling.protocol.chain.credit_policy import CreditPolicy
from starling.protocol.chain.genesis import FaultModel
from starling.protocol.errors import ConfigError
from tests.vectors import founding_samples as samples

TERMS = FoundingTerms(4, FaultModel.BYZANTINE, 10, CreditPolicy(9, 2, 1, 1), "/broker")


@pytest.fixture
def store(tmp_path: Path) -> FoundingStore:
    made = FoundingStore(tmp_path / "home" / "founding")
    made.begin().release()
    made.put_own(samples.ENTRY, samples.NONCES[0])
    made.put_roster(samples.ROSTER)
    made.put_entry(samples.OTHER)
    made.put_confirmation(samples.CONFIRMATION)
    made.put_terms(TERMS)
    made.put_token("starling-founding://x")
    return made


def test_files_are_read_back(store: FoundingStore) -> None:
    assert store.own() == samples.ENTRY
    assert store.nonce() == samples.NONCES[0]
    assert store.roster() == samples.ROSTER
    assert store.entries() == [samples.OTHER]
    assert store.entry(samples.OTHER.public) == samples.OTHER
    chain = samples.CONFIRMATION.chain
    assert store.confirmation(samples.ENTRY.public, chain) == samples.CONFIRMATION
    assert store.terms() == TERMS
    assert store.token() == "starling-founding://x"
    assert store.record() is None


def test_consent_to_another_chain_is_none(store: FoundingStore) -> None:
    assert store.confirmation(samples.ENTRY.public, bytes(32)) is None


def test_record_ends_the_token(store: FoundingStore) -> None:
    store.put_record(samples.RECORD)

    assert (store.record(), store.token()) == (samples.RECORD, None)


def test_founding_that_is_forgotten_leaves_nothing(store: FoundingStore) -> None:
    store.forget()

    left = [path.name for path in store.path.rglob("*") if path.is_file()]
    assert left == ["lock"]


@pytest.mark.parametrize(
    "name", ["own", "nonce", "roster", "terms.json", "entries/{}", "confirmations/{}"]
)
@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 40, b"x" * 200_000], ids=["empty", "other", "long"]
)
def test_damaged_file_is_named(store: FoundingStore, name: str, content: bytes) -> None:
    for path in store.path.rglob("*"):
        if path.is_file() and path.match(name.replace("{}", "*")):
            path.write_bytes(content)

    with pytest.raises(ConfigError, match=name.split("/")[0]):
        _ = [
            store.own(),
            store.nonce(),
            store.roster(),
            store.terms(),
            store.entries(),
            store.confirmation(samples.ENTRY.public, samples.CONFIRMATION.chain),
        ]

"""The light client believes headers that are proven, and none that only look so."""

from dataclasses import replace

import pytest

from starling.protocol.chain.blocks import Certificate, Header
from starling.protocol.chain.genesis import FaultModel, ValidatorSet
from starling.protocol.chain.light_client import (
    TRUSTED,
    CertifiedHeader,
    ForkError,
    TrustedState,
    pin,
)
from starling.protocol.errors import ProofError, Reason, SignatureError
from starling.protocol.ids import ChainId, Digest
from tests.unit.protocol.chain.later_validators import (
    CHANGE,
    LATER,
    MOVED,
    PINNED,
    STRANGERS,
)
from tests.vectors import protocol_samples as samples
from tests.vectors.protocol_samples import CERTIFICATE, CHAIN_ID, HEADER, certify


def test_trusted_after_a_certified_header_has_its_height() -> None:
    after = PINNED.accept(HEADER, CERTIFICATE)

    last = CertifiedHeader(HEADER, CERTIFICATE)
    assert after == replace(PINNED, height=12, last=last)


def test_trusted_survives_being_written_down() -> None:
    read = TRUSTED.unpack(TRUSTED.pack(PINNED))

    assert read == PINNED
    assert read.accept(HEADER, CERTIFICATE).height == 12


def test_trusted_of_the_crash_model_survives_being_written_down() -> None:
    three = ValidatorSet(samples.VALIDATORS.members[:3])
    genesis = replace(samples.GENESIS, fault_model=FaultModel.CRASH, validators=three)
    header = replace(
        HEADER,
        chain_id=genesis.chain_id(),
        validators=three.digest(),
        next_validators=three.digest(),
    )

    read = TRUSTED.unpack(TRUSTED.pack(pin(genesis)))

    assert read.accept(header, certify(header, voters=(0, 2))).height == 12


def test_older_header_is_believed_and_lowers_nothing() -> None:
    older = replace(HEADER, height=5)
    after = PINNED.accept(HEADER, CERTIFICATE)

    assert after.accept(older, certify(older)) == after


@pytest.mark.parametrize("height", [5, 12], ids=["older", "second"])
def test_header_that_is_not_newer_needs_its_certificate_too(height: int) -> None:
    after = PINNED.accept(HEADER, CERTIFICATE)
    other = replace(HEADER, height=height, state_root=Digest(bytes(32)))
    few = certify(other, voters=(0, 1))
    forged = replace(certify(other), signatures=certify(HEADER).signatures)
    for certificate in (few, forged):
        with pytest.raises((ProofError, SignatureError)):
            after.accept(other, certificate)


ANOTHER = replace(HEADER, height=13)
UNPROVEN = {
    "another chain": (replace(HEADER, chain_id=ChainId(bytes(32))), CERTIFICATE),
    "certificate of another header": (ANOTHER, CERTIFICATE),
    "header of another certificate": (HEADER, certify(ANOTHER)),
    "certificate with the height changed": (
        HEADER,
        replace(certify(ANOTHER), height=12),
    ),
    "certificate with the block changed": (
        HEADER,
        replace(certify(ANOTHER), height=12, block_id=HEADER.block_id()),
    ),
    "too few votes": (HEADER, certify(HEADER, voters=(0, 1))),
    "foreign votes": (HEADER, certify(HEADER, STRANGERS)),
    "state root altered": (replace(HEADER, state_root=Digest(bytes(32))), CERTIFICATE),
}


@pytest.mark.parametrize(("header", "certificate"), UNPROVEN.values(), ids=UNPROVEN)
def test_header_without_its_proof_refuses(
    header: Header, certificate: Certificate
) -> None:
    with pytest.raises((ProofError, SignatureError)):
        PINNED.accept(header, certificate)


def test_header_of_another_chain_says_so() -> None:
    foreign = replace(HEADER, chain_id=ChainId(bytes(32)))

    with pytest.raises(ProofError) as caught:
        PINNED.accept(foreign, certify(foreign))

    assert caught.value.reason is Reason.WRONG_CHAIN


def test_pin_starts_below_the_first_block() -> None:
    assert pin(samples.GENESIS) == TrustedState(
        CHAIN_ID, FaultModel.BYZANTINE, 0, samples.VALIDATORS
    )


RIVAL = replace(HEADER, time_ms=HEADER.time_ms + 1)
RIVAL_CHANGE = replace(CHANGE, time_ms=CHANGE.time_ms + 1)


@pytest.mark.parametrize(
    ("known", "rival"),
    [(PINNED.accept(HEADER, CERTIFICATE), RIVAL), (MOVED, RIVAL_CHANGE)],
    ids=["same-set", "last-of-its-set"],
)
def test_second_certified_header_of_a_height_is_a_fork(
    known: TrustedState, rival: Header
) -> None:
    with pytest.raises(ForkError, match="two certified blocks at height") as found:
        known.accept(rival, certify(rival), LATER)
    assert found.value.first == known.last
    assert found.value.second == CertifiedHeader(rival, certify(rival))


def test_uncertified_second_header_is_no_fork() -> None:
    known = PINNED.accept(HEADER, CERTIFICATE)
    with pytest.raises(ProofError) as found:
        known.accept(RIVAL, certify(RIVAL, voters=(0, 1)))
    assert not isinstance(found.value, ForkError)

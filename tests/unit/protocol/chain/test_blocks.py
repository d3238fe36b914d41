"""Certificates, and what votes and proposals are signed for."""

from dataclasses import replace

import msgpack
import pytest

from starling.protocol.chain import blocks
from starling.protocol.chain.blocks import (
    PROPOSAL,
    Certificate,
    Header,
    VoteType,
    check_certificate,
    vote_bytes,
)
from starling.protocol.chain.genesis import FaultModel, ValidatorSet
from starling.protocol.crypto.keys import SigningKey, verify
from starling.protocol.errors import DecodeError, LimitError, ProofError, SignatureError
from starling.protocol.ids import BlockHash, ChainId, H
from starling.protocol.schema.msgpack_codec import UINT_MAX, encode
from starling.protocol.wire.envelope import ENVELOPE, MessageKind, sign
from tests.vectors import protocol_samples as samples
from tests.vectors.protocol_samples import CERTIFICATE, CHAIN_ID, HEADER, certify

BYZANTINE, CRASH = FaultModel.BYZANTINE, FaultModel.CRASH


def check(certificate: Certificate, chain_id: ChainId = CHAIN_ID) -> None:
    check_certificate(certificate, chain_id, samples.VALIDATORS, BYZANTINE)


@pytest.mark.parametrize("voters", [(0, 1, 2), (0, 1, 3), (1, 2, 3), (0, 1, 2, 3)])
def test_certificate_of_any_quorum_holds(voters: tuple[int, ...]) -> None:
    check(certify(HEADER, voters=voters))


def with_votes(*votes: int) -> Certificate:
    """The votes of these validators put at places 0, 1, 2."""
    full = certify(HEADER, voters=(0, 1, 2, 3))
    return replace(
        CERTIFICATE,
        signatures=tuple(full.signatures[i] for i in votes),
        extras=tuple(full.extras[i] for i in votes),
    )


def prevotes() -> Certificate:
    votes = [
        vote_bytes(
            CHAIN_ID, VoteType.PREVOTE, 12, 0, HEADER.block_id(), CERTIFICATE.extras[i]
        )
        for i in range(3)
    ]
    signatures = [samples.VALIDATOR_KEYS[i].sign(vote) for i, vote in enumerate(votes)]
    return replace(CERTIFICATE, signatures=tuple(signatures))


UNEVEN: dict[str, dict[str, object]] = {
    "no voters": {"voters": 0},
    "voter without a vote": {"voters": 0b1111},
    "vote without a voter": {"voters": 0b0011},
    "missing vote": {"signatures": CERTIFICATE.signatures[:2]},
    "missing time": {"extras": CERTIFICATE.extras[:2]},
}


@pytest.mark.parametrize("fields", UNEVEN.values(), ids=UNEVEN)
def test_certificate_of_other_voters_than_votes_is_none(
    fields: dict[str, object],
) -> None:
    with pytest.raises(DecodeError):
        replace(CERTIFICATE, **fields)  # type: ignore[arg-type]  # a table's fields


STRANGERS = tuple(SigningKey(bytes([200 + i]) * 32) for i in range(4))
DISPROVEN = {
    "one vote too few": certify(HEADER, voters=(0, 1)),
    "a single vote": certify(HEADER, voters=(3,)),
    "one vote twice": with_votes(0, 0, 2),
    "one vote three times": with_votes(1, 1, 1),
    "votes in another order": with_votes(1, 0, 2),
    "votes under other names": with_votes(1, 2, 3),
    "other time": replace(CERTIFICATE, extras=(1, 2, 3)),
    "voter beyond the set": replace(CERTIFICATE, voters=0b10011),
    "voter far beyond the set": replace(CERTIFICATE, voters=(1 << 31) | 0b11),
    "foreign votes": certify(HEADER, keys=STRANGERS),
    "other height": replace(CERTIFICATE, height=13),
    "other round": replace(CERTIFICATE, round=1),
    "other block": replace(CERTIFICATE, block_id=BlockHash(H(b"other"))),
    "prevotes": prevotes(),
    "signature altered": replace(
        CERTIFICATE, signatures=(*CERTIFICATE.signatures[:2], bytes(64))
    ),
}


@pytest.mark.parametrize("certificate", DISPROVEN.values(), ids=DISPROVEN)
def test_certificate_that_proves_nothing_refuses(certificate: Certificate) -> None:
    with pytest.raises((ProofError, SignatureError)):
        check(certificate)


def test_certificate_of_another_chain_refuses() -> None:
    with pytest.raises(SignatureError):
        check(CERTIFICATE, ChainId(H(b"other chain")))


def test_certificate_of_prevotes_holds_as_such() -> None:
    check_certificate(
        prevotes(), CHAIN_ID, samples.VALIDATORS, BYZANTINE, VoteType.PREVOTE
    )


def test_certificate_of_a_majority_holds_only_in_the_crash_model() -> None:
    three = ValidatorSet(samples.VALIDATORS.members[:3])
    two_votes = certify(HEADER, voters=(0, 2))

    check_certificate(two_votes, CHAIN_ID, three, CRASH)
    with pytest.raises(ProofError, match="2 votes, 3 of 3 needed"):
        check_certificate(two_votes, CHAIN_ID, three, BYZANTINE)


@pytest.mark.parametrize("field", ["parent", "tx_root", "state_root"])
def test_block_id_depends_on_every_root(field: str) -> None:
    altered: Header = replace(HEADER, **{field: bytes(32)})  # type: ignore[arg-type]  # by name

    assert altered.block_id() != HEADER.block_id()


def test_block_carries_the_root_of_its_transactions() -> None:
    assert replace(samples.BLOCK, transactions=samples.TRANSACTIONS).tx_root() == (
        HEADER.tx_root
    )
    assert samples.BLOCK.tx_root() != HEADER.tx_root


def test_proposal_signature_binds_place_and_block() -> None:
    proposal = PROPOSAL.unpack(PROPOSAL.pack(samples.PROPOSAL))
    public = samples.VALIDATOR_KEYS[2].public

    verify(public, proposal.signed_bytes(CHAIN_ID), proposal.signature)

    for altered in (
        replace(proposal, height=13),
        replace(proposal, round=2),
        replace(proposal, valid_round=0),
        replace(proposal, block_id=BlockHash(H(b"other"))),
    ):
        with pytest.raises(SignatureError):
            verify(public, altered.signed_bytes(CHAIN_ID), proposal.signature)


def test_signature_of_one_kind_never_passes_for_another() -> None:
    # Votes, proposals and envelopes are signed with the same keys.
    key = samples.VALIDATOR_KEYS[0]
    envelope = sign(key, CHAIN_ID, MessageKind.ATTEST, 1, b"")
    signed = {
        "vote": vote_bytes(CHAIN_ID, VoteType.PRECOMMIT, 12, 0, HEADER.block_id(), 0),
        "prevote": vote_bytes(CHAIN_ID, VoteType.PREVOTE, 12, 0, HEADER.block_id(), 0),
        "nil vote": vote_bytes(CHAIN_ID, VoteType.PRECOMMIT, 12, 0, None, 0),
        "proposal": samples.PROPOSAL.signed_bytes(CHAIN_ID),
        "envelope": envelope.signed_bytes(CHAIN_ID),
        "packed envelope": ENVELOPE.pack(envelope),
    }

    for name, message in signed.items():
        signature = key.sign(message)
        for other in signed:
            if other != name:
                with pytest.raises(SignatureError):
                    verify(key.public, signed[other], signature)


@pytest.mark.parametrize(
    "extras",
    [
        pytest.param((5,), id="one"),
        pytest.param((1000, 990, 1300), id="either-side"),
        pytest.param((UINT_MAX, 0), id="widest"),
    ],
)
def test_certificates_extras_come_back(extras: tuple[int, ...]) -> None:
    signatures, voters = (bytes(64),) * len(extras), (1 << len(extras)) - 1
    certificate = replace(
        CERTIFICATE, voters=voters, signatures=signatures, extras=extras
    )
    assert (
        blocks.CERTIFICATE.unpack(blocks.CERTIFICATE.pack(certificate)) == certificate
    )


@pytest.mark.parametrize("extras", [[3, -4, 0], [UINT_MAX, 1, 0], [], [-1, 1, 1]])
def test_certificate_with_an_extra_out_of_range_is_refused(extras: list[int]) -> None:
    fields = msgpack.unpackb(blocks.CERTIFICATE.pack(CERTIFICATE))
    with pytest.raises((DecodeError, LimitError)):
        blocks.CERTIFICATE.unpack(encode([*fields[:-1], extras]))


def test_certificate_of_three_stays_short() -> None:
    """Whoever checks a proof carries one; the bound is the project's goal."""
    late = (HEADER.time_ms, HEADER.time_ms - 30_000, HEADER.time_ms + 30_000)
    certificate = replace(CERTIFICATE, extras=late)
    assert len(blocks.CERTIFICATE.pack(certificate)) <= 260

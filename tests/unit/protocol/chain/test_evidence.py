"""Two signatures that exclude each other convict their signer; nothing else does."""

from dataclasses import replace

import pytest

from starling.protocol.chain.blocks import (
    PROPOSAL,
    VOTE,
    Proposal,
    Vote,
    VoteType,
    vote_bytes,
)
from starling.protocol.chain.evidence import (
    EVIDENCE,
    SHOWN_BOXES,
    SIGNED_BYTES_MAX,
    Conviction,
    Evidence,
    Offence,
    bare,
    convict,
    duplicate_proposals,
    duplicate_updates,
    duplicate_votes,
    missealed,
)
from starling.protocol.crypto.sealed_blob import SEALED, blob_digest, seal
from starling.protocol.errors import ProtocolError
from starling.protocol.ids import SIGNATURE_BYTES, BlockHash, ChainId, H, Version
from starling.protocol.wire.envelope import ENVELOPE, Envelope, MessageKind, sign
from starling.protocol.wire.message_bodies import CONTRIBUTION
from tests.vectors.protocol_samples import (
    BOARD,
    CHAIN_ID,
    ENTROPY,
    OPENING_KEYS,
    UPDATE,
    VALIDATOR_KEYS,
    VALIDATORS,
)
from tests.vectors.protocol_samples import CONTRIBUTION as BODY

A, B = BlockHash(H(b"A")), BlockHash(H(b"B"))


def vote(block_id: BlockHash | None, **other: int) -> Vote:
    place = {"kind": 1, "height": 12, "number": 3, "voter": 1, "extra": 0, **other}
    kind = VoteType(place["kind"])
    height, number, extra = place["height"], place["number"], place["extra"]
    signed = vote_bytes(CHAIN_ID, kind, height, number, block_id, extra)
    voter = place["voter"]
    signature = VALIDATOR_KEYS[voter].sign(signed)
    return Vote(kind, height, number, block_id, extra, voter, signature)


def proposal(block_id: BlockHash, valid_round: int = 0, number: int = 3) -> Proposal:
    unsigned = Proposal(
        12, number, valid_round, block_id, 1, bytes(SIGNATURE_BYTES), b"block", None
    )
    signature = VALIDATOR_KEYS[1].sign(unsigned.signed_bytes(CHAIN_ID))
    return replace(unsigned, signature=signature)


def update(
    counter: int, base: int = 3, kind: MessageKind = MessageKind.UPDATE
) -> Envelope:
    body = CONTRIBUTION.pack(replace(BODY, version=Version(base)))
    return sign(BOARD, CHAIN_ID, kind, counter, body)


def check(evidence: Evidence, chain_id: ChainId = CHAIN_ID) -> Conviction:
    packed = EVIDENCE.pack(evidence)
    return convict(EVIDENCE.unpack(packed), chain_id, lambda _: VALIDATORS)


def named(evidence: Evidence) -> tuple[bytes, int | None]:
    found = check(evidence)
    return found.public, found.height


@pytest.mark.parametrize("other", [B, None], ids=["other-block", "nil"])
@pytest.mark.parametrize("kind", VoteType)
def test_two_votes_convict(other: BlockHash | None, kind: VoteType) -> None:
    first, second = vote(A, kind=kind), vote(other, kind=kind, extra=7)
    assert duplicate_votes(first, second) == duplicate_votes(second, first)
    public = VALIDATOR_KEYS[1].public
    assert named(duplicate_votes(first, second)) == (public, 12)


@pytest.mark.parametrize("block_id", [A, None], ids=["block", "nil"])
def test_two_prevotes_that_rely_on_different_rounds_convict(
    block_id: BlockHash | None,
) -> None:
    evidence = duplicate_votes(vote(block_id), vote(block_id, extra=2))
    assert named(evidence) == (VALIDATOR_KEYS[1].public, 12)


@pytest.mark.parametrize("second", [proposal(B), proposal(A, 2)], ids=["block", "vr"])
def test_two_proposals_convict(second: Proposal) -> None:
    evidence = duplicate_proposals(proposal(A), second)
    assert named(evidence) == (VALIDATOR_KEYS[1].public, 12)


@pytest.mark.parametrize("base", [3, 4])
def test_evidence_against_a_board_names_task_and_base(base: int) -> None:
    found = check(duplicate_updates(update(1, base), update(2, base)))
    assert found.base == (BODY.task, base)
    assert check(spoilt()).base == (BODY.task, BODY.version)
    assert check(duplicate_votes(vote(A), vote(B))).base is None


def test_two_updates_convict() -> None:
    evidence = duplicate_updates(update(1), update(2))
    assert named(evidence) == (BOARD.public, None)
    other = duplicate_updates(update(3, base=4), update(4, base=4))
    assert check(other).place != check(evidence).place


PLAIN = b"a vector"
SEALING = [key.public for key in OPENING_KEYS]


def spoilt(**changes: object) -> Evidence:
    """An update with a wrong box for the first validator; `changes` what is shown."""
    blob, commitment = seal(PLAIN, SEALING, ENTROPY, BOARD.public)
    sealed = SEALED.unpack(blob)
    wrong = sealed.boxes[0][:8] + bytes(48)
    sealed = replace(sealed, boxes=(wrong, *sealed.boxes[1:]))
    body = replace(BODY, blob=sealed.digest(), commitment=commitment)
    signed = sign(BOARD, CHAIN_ID, MessageKind.UPDATE, 1, CONTRIBUTION.pack(body))
    found = missealed(signed, SEALED.pack(sealed), ENTROPY, SEALING[0], 9)
    assert found is not None
    shown = replace(SHOWN_BOXES.unpack(found.second), **changes)  # type: ignore[arg-type]  # the test breaks fields on purpose
    return replace(found, second=SHOWN_BOXES.pack(shown))


def test_wrong_box_convicts() -> None:
    convicted = check(spoilt())

    assert (convicted.public, convicted.height) == (BOARD.public, None)


def test_right_boxes_are_no_evidence() -> None:
    blob, commitment = seal(PLAIN, SEALING, ENTROPY, BOARD.public)
    body = replace(BODY, blob=blob_digest(blob), commitment=commitment)
    signed = sign(BOARD, CHAIN_ID, MessageKind.UPDATE, 1, CONTRIBUTION.pack(body))

    assert missealed(signed, blob, ENTROPY, SEALING[0], 9) is None


CASES = [
    pytest.param(spoilt(recipient=SEALING[1]), id="right-box"),
    pytest.param(spoilt(recipient=bytes(32)), id="no-validator"),
    pytest.param(spoilt(content_key=bytes(32)), id="other-key"),
    pytest.param(spoilt(plaintext=H(b"other")), id="other-plaintext"),
    pytest.param(spoilt(ciphertext=H(b"other")), id="other-ciphertext"),
    pytest.param(spoilt(ephemeral=SEALING[0]), id="other-ephemeral"),
    pytest.param(spoilt(boxes=(bytes(56),)), id="other-boxes"),
    pytest.param(
        replace(spoilt(), first=ENVELOPE.pack(replace(UPDATE, signature=bytes(64)))),
        id="other-update",
    ),
    pytest.param(replace(spoilt(), first=b""), id="no-envelope"),
    pytest.param(
        duplicate_votes(vote(A, kind=2), vote(A, kind=2, extra=1)), id="same-block"
    ),
    pytest.param(duplicate_votes(vote(A), vote(B, number=4)), id="other-round"),
    pytest.param(duplicate_votes(vote(A), vote(B, height=13)), id="other-height"),
    pytest.param(duplicate_votes(vote(A), vote(B, kind=2)), id="other-type"),
    pytest.param(duplicate_votes(vote(A), vote(B, voter=2)), id="other-voter"),
    pytest.param(
        duplicate_votes(vote(A), replace(vote(B, voter=2), voter=1)), id="forged"
    ),
    pytest.param(
        duplicate_votes(*(replace(vote(block_id), voter=9) for block_id in (A, B))),
        id="no-such-validator",
    ),
    pytest.param(duplicate_proposals(proposal(A), proposal(A)), id="same-proposal"),
    pytest.param(
        duplicate_proposals(proposal(A), proposal(B, number=4)), id="other-turn"
    ),
    pytest.param(
        duplicate_proposals(
            proposal(A), replace(proposal(B), signature=proposal(A).signature)
        ),
        id="forged-proposal",
    ),
    pytest.param(duplicate_updates(update(1), update(1)), id="same-update"),
    pytest.param(duplicate_updates(update(1), update(1, base=4)), id="other-base"),
    pytest.param(
        duplicate_updates(update(1), update(2, kind=MessageKind.CHECK_IN)),
        id="no-update",
    ),
    pytest.param(
        duplicate_updates(update(1), replace(update(2), signature=UPDATE.signature)),
        id="forged-update",
    ),
    pytest.param(Evidence(1, b"", b"a"), id="no-vote"),
    pytest.param(Evidence(2, VOTE.pack(vote(A)), b"z"), id="wrong-offence"),
]


@pytest.mark.parametrize("evidence", CASES)
def test_anything_less_convicts_nobody(evidence: Evidence) -> None:
    with pytest.raises(ProtocolError):
        check(evidence)


def test_evidence_in_the_other_order_is_refused() -> None:
    evidence = duplicate_votes(vote(A), vote(B))
    turned = replace(evidence, first=evidence.second, second=evidence.first)
    with pytest.raises(ProtocolError, match="order"):
        check(turned)


def test_evidence_of_another_chain_convicts_nobody() -> None:
    with pytest.raises(ProtocolError):
        check(duplicate_votes(vote(A), vote(B)), ChainId(H(b"other")))


def test_proposals_in_evidence_carry_no_block() -> None:
    first, second = sorted(
        (PROPOSAL.pack(proposal(A)), PROPOSAL.pack(bare(proposal(B))))
    )
    with pytest.raises(ProtocolError, match="without block"):
        check(Evidence(Offence.DUP_PROPOSAL, first, second))


def test_evidence_is_bounded_whatever_the_envelopes_hold() -> None:
    bodies = (bytes(3000), bytes(3001))
    envelopes = [sign(BOARD, CHAIN_ID, MessageKind.UPDATE, 1, body) for body in bodies]
    assert len(ENVELOPE.pack(envelopes[0])) > SIGNED_BYTES_MAX
    with pytest.raises(ProtocolError):
        check(duplicate_updates(*envelopes))

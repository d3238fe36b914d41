"""Evidence: signatures that prove their owner's misbehaviour to anyone.

Only what signatures alone prove is evidence; nothing here is a judgement. Two messages
that contradict each other stand in the order of their bytes, so that one fault with two
messages has one form. A box that a board put into a sealed blob contradicts the board's
own commitment, once the content key is shown.

Source: CometBFT, spec/consensus/evidence.md (duplicate votes).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Annotated

from starling.protocol.chain.blocks import PROPOSAL, VOTE, Proposal, Vote, VoteType
from starling.protocol.chain.genesis import ValidatorSet
from starling.protocol.crypto.keys import verify
from starling.protocol.crypto.sealed_blob import (
    BOX_BYTES,
    RECIPIENTS_MAX,
    SEALED,
    commitment_to,
    decrypt,
    is_missealed,
    sealed_digest,
)
from starling.protocol.errors import ProofError
from starling.protocol.ids import (
    KEY_BYTES,
    ChainId,
    Digest,
    H,
    PublicKey,
    TaskId,
    Version,
)
from starling.protocol.schema.msgpack_codec import (
    Structure,
    Uint,
    binary,
    encode,
    exactly,
    many,
    structure,
    uint,
)
from starling.protocol.wire.envelope import ENVELOPE, Envelope, MessageKind
from starling.protocol.wire.message_bodies import CONTRIBUTION

SIGNED_BYTES_MAX = 2048
AGE_HEIGHTS_MAX = 20_000
"""Evidence of older heights is not taken: nobody keeps what would answer it."""
AGE_VERSIONS_MAX = 1_000
"""Nor is evidence against boards of a base version further behind its task's head.

Updates belong to no height. An update counts for 63 versions at most, so this reaches
all that count, with room for a finder that was cut off. As a version takes a block at
least, evidence is taken for as many blocks as vectors of used updates are kept for by
default: they show a wrong box. Nobody brings a board's contradictions of years one by
one."""


class Offence(IntEnum):
    """Kind of misbehaviour; the numbers are fixed in the wire format."""

    DUP_VOTE = 1
    """Two votes of one type and round for different blocks, or two prevotes of a round
    that rely on different ones."""
    DUP_PROPOSAL = 2
    """Two proposals for one round."""
    DEVICE_DOUBLE = 3
    """Two updates of a board for one task and base version."""
    MISSEALED = 4
    """A box for a coordinator that does not hold the content key committed to."""


class Evidence(Structure, frozen=True):
    """A fault and what proves it.

    Attributes:
      offence: `Offence`.
      first: A packed `VOTE`, a packed `PROPOSAL` without block and proof, or a packed
        `ENVELOPE` of kind UPDATE.
      second: Another one, above `first` as bytes; for MISSEALED the `SHOWN_BOXES` of
        the update's blob.
    """

    offence: Annotated[int, uint(max(Offence), 1)]
    first: Annotated[bytes, binary(SIGNED_BYTES_MAX)]
    second: Annotated[bytes, binary(SIGNED_BYTES_MAX)]


EVIDENCE = structure(Evidence, 2 * SIGNED_BYTES_MAX + 16)


class ShownBoxes(Structure, frozen=True):
    """The boxes of a blob, and the content key that they should hold.

    Attributes:
      height: At which the recipient was a validator.
      recipient: X25519 key of the coordinator whose box is wrong.
      content_key: Of the blob; whoever sees it may decrypt the blob.
      plaintext: Hash of the plaintext: the commitment binds it and the key.
      ephemeral: The blob's ephemeral key.
      boxes: The blob's boxes.
      ciphertext: Hash of the blob's ciphertext.
    """

    height: Uint
    recipient: Annotated[bytes, exactly(KEY_BYTES)]
    content_key: Annotated[bytes, exactly(KEY_BYTES)]
    plaintext: Digest
    ephemeral: Annotated[bytes, exactly(KEY_BYTES)]
    boxes: Annotated[
        tuple[Annotated[bytes, exactly(BOX_BYTES)], ...], many(RECIPIENTS_MAX, 1)
    ]
    ciphertext: Digest


SHOWN_BOXES = structure(ShownBoxes, SIGNED_BYTES_MAX)


@dataclass(frozen=True)
class Conviction:
    """Offender and offence that a piece of evidence proves.

    Attributes:
      public: The offender's key.
      height: At which height; None for what belongs to none.
      place: Names what the offender contradicted itself about.
      base: Task and base version of a board's updates; None for a validator.
    """

    public: PublicKey
    height: int | None
    place: Digest
    base: tuple[TaskId, Version] | None = None


def duplicate_votes(first: Vote, second: Vote) -> Evidence:
    """Evidence of two votes."""
    return _ordered(Offence.DUP_VOTE, VOTE.pack(first), VOTE.pack(second))


def duplicate_proposals(first: Proposal, second: Proposal) -> Evidence:
    """Evidence of two proposals; signatures cover their blocks by hash."""
    return _ordered(
        Offence.DUP_PROPOSAL, PROPOSAL.pack(bare(first)), PROPOSAL.pack(bare(second))
    )


def duplicate_updates(first: Envelope, second: Envelope) -> Evidence:
    """Evidence of two UPDATE envelopes."""
    return _ordered(Offence.DEVICE_DOUBLE, ENVELOPE.pack(first), ENVELOPE.pack(second))


def missealed(
    update: Envelope,
    blob: bytes,
    content_key: bytes,
    to: bytes,
    height: int,
) -> Evidence | None:
    """Evidence that a blob's box for a coordinator is wrong; None if it is not.

    Args:
      update: The update that names the blob.
      blob: The blob.
      content_key: With which it opens to the commitment.
      to: X25519 public key of the coordinator.
      height: At which that coordinator is a validator.

    Raises:
      ClosedUpdate: If the content key does not decrypt the blob.
    """
    sealed = SEALED.unpack(blob)
    if not is_missealed(to, content_key, sealed.ephemeral, sealed.boxes):
        return None
    plaintext = decrypt(sealed, content_key, update.sender)
    shown = ShownBoxes(
        height,
        to,
        content_key,
        H(plaintext),
        sealed.ephemeral,
        sealed.boxes,
        H(sealed.ciphertext),
    )
    packed = SHOWN_BOXES.pack(shown)
    return Evidence(int(Offence.MISSEALED), ENVELOPE.pack(update), packed)


def bare(proposal: Proposal) -> Proposal:
    """Bytes that a proposal's signature covers, and the signature."""
    return replace(proposal, block=b"", proof_of_lock=None, parent=None)


Owner = Callable[[PublicKey], bytes]
"""Whom a key belongs to: a board that changes its key stays one board."""


Validators = Callable[[int], ValidatorSet]
"""Who decided a height."""


def _itself(public: PublicKey) -> bytes:
    return public


def convict(
    evidence: Evidence,
    chain_id: ChainId,
    validators: Validators,
    owner: Owner = _itself,
) -> Conviction:
    """Checks evidence.

    Args:
      evidence: What is claimed.
      chain_id: The chain; messages of another one prove nothing here.
      validators: The set of a height; may refuse one of which it knows nothing.
      owner: Whom a board's key belongs to.

    Raises:
      ProofError: If the messages do not contradict each other, or the box is right.
      SignatureError: If one of them was not signed by the offender.
      DecodeError, LimitError: If one of them is none.
    """
    offence = Offence(evidence.offence)
    # The two parts of MISSEALED are of different kinds and have one order anyway.
    if offence is not Offence.MISSEALED and evidence.first >= evidence.second:
        raise ProofError("the messages of evidence stand in the order of their bytes")
    match offence:
        case Offence.DUP_VOTE:
            return _votes(evidence, chain_id, validators)
        case Offence.DUP_PROPOSAL:
            return _proposals(evidence, chain_id, validators)
        case Offence.DEVICE_DOUBLE:
            return _updates(evidence, chain_id, owner)
        case Offence.MISSEALED:
            return _missealed(evidence, chain_id, validators, owner)


def _votes(evidence: Evidence, chain_id: ChainId, validators: Validators) -> Conviction:
    first, second = VOTE.unpack(evidence.first), VOTE.unpack(evidence.second)
    _same(_place_of_vote(first), _place_of_vote(second))
    # Deviation D2: a prevote also names the round that it relies on, and a precommit's
    # `extra` is only its time.
    relied = first.vote_type == VoteType.PREVOTE and first.extra != second.extra
    if first.block_id == second.block_id and not relied:
        raise ProofError("both votes are for the same block")
    public = _member(validators(first.height), first.voter)
    for vote in (first, second):
        # After all that costs less: evidence comes from anybody.
        verify(public, vote.signed_bytes(chain_id), vote.signature)
    return Conviction(public, first.height, _digest(_place_of_vote(first)))


def _place_of_vote(vote: Vote) -> tuple[int, ...]:
    return vote.height, vote.round, vote.vote_type, vote.voter


def _proposals(
    evidence: Evidence, chain_id: ChainId, validators: Validators
) -> Conviction:
    first, second = PROPOSAL.unpack(evidence.first), PROPOSAL.unpack(evidence.second)
    _same(_place_of_proposal(first), _place_of_proposal(second))
    if first.signed_bytes(chain_id) == second.signed_bytes(chain_id):
        raise ProofError("both proposals offer the same")
    public = _member(validators(first.height), first.proposer)
    for proposal in (first, second):
        if proposal != bare(proposal):
            raise ProofError("a proposal in evidence comes without block and proof")
        verify(public, proposal.signed_bytes(chain_id), proposal.signature)
    return Conviction(public, first.height, _digest(_place_of_proposal(first)))


def _place_of_proposal(proposal: Proposal) -> tuple[int, ...]:
    return proposal.height, proposal.round, proposal.proposer


def _updates(evidence: Evidence, chain_id: ChainId, owner: Owner) -> Conviction:
    first, second = ENVELOPE.unpack(evidence.first), ENVELOPE.unpack(evidence.second)
    _same(_place_of_update(first, owner), _place_of_update(second, owner))
    # By content: a second signature of the same update is no second update.
    if first.identity(chain_id) == second.identity(chain_id):
        raise ProofError("both envelopes hold the same update")
    for envelope in (first, second):
        envelope.check(chain_id)
    return _of_update(first, owner)


def _missealed(
    evidence: Evidence, chain_id: ChainId, validators: Validators, owner: Owner
) -> Conviction:
    update = ENVELOPE.unpack(evidence.first)
    shown = SHOWN_BOXES.unpack(evidence.second)
    accused = _of_update(update, owner)
    body = CONTRIBUTION.unpack(update.body)
    if sealed_digest(shown.ephemeral, shown.boxes, shown.ciphertext) != body.blob:
        raise ProofError("the boxes are not those of the update's blob")
    # Or an accuser could bring a key of its own, which no box holds.
    if commitment_to(shown.content_key, shown.plaintext) != body.commitment:
        raise ProofError("the content key is not the one committed to")
    members = validators(shown.height).members
    # A board need not seal to anybody else, so that a wrong box for a stranger is no
    # offence.
    if all(member.sealing != shown.recipient for member in members):
        raise ProofError("the box is for no validator")
    boxes = (shown.ephemeral, shown.boxes)
    if not is_missealed(shown.recipient, shown.content_key, *boxes):
        raise ProofError("the box is as it should be")
    # An update that its sender did not sign accuses nobody.
    update.check(chain_id)
    return accused


def _of_update(update: Envelope, owner: Owner) -> Conviction:
    _, task, base = _place_of_update(update, owner)
    return Conviction(update.sender, None, base_place(task, base), (task, base))


def base_place(task: TaskId, base: Version) -> Digest:
    """Place of a board's conviction for two updates of one base version."""
    return _digest((task, base))


def _place_of_update(envelope: Envelope, owner: Owner) -> tuple[bytes, TaskId, Version]:
    if envelope.kind != MessageKind.UPDATE:
        raise ProofError(f"an envelope of kind {envelope.kind} is no update")
    body = CONTRIBUTION.unpack(envelope.body)
    return owner(envelope.sender), body.task, body.version


def _digest(place: tuple[object, ...]) -> Digest:
    return H(b"starling/place/1", encode(place))


def _same(first: tuple[object, ...], second: tuple[object, ...]) -> None:
    if first != second:
        raise ProofError("the messages belong to different places or signers")


def _member(validators: ValidatorSet, index: int) -> PublicKey:
    if index >= len(validators.members):
        raise ProofError(f"no validator {index}")
    return validators.members[index].public


def _ordered(offence: Offence, first: bytes, second: bytes) -> Evidence:
    low, high = sorted((first, second))
    return Evidence(int(offence), low, high)

"""Messages between coordinators: one frame, its subjects, and the chain's bodies.

A frame names the wire's version and its subject; what it holds is the packed structure
of that subject, decoded once, where it comes in (`coordinator.handlers`). What a height
is decided by is signed by who made it: proposals, votes and statuses by their own
signature, transactions as envelopes, decisions by their certificate. So it may travel
over any bus, and anyone may pass it on.
"""

from enum import IntEnum
from typing import Annotated

from starling.protocol.chain.blocks import (
    BLOCK_BYTES_MAX,
    CERTIFICATE,
    PROPOSAL,
    ROUND_MAX,
    VOTE,
    Block,
    Certificate,
    Header,
    Proposal,
    Vote,
)
from starling.protocol.chain.genesis import VALIDATORS_MAX
from starling.protocol.errors import DecodeError
from starling.protocol.ids import (
    SIGNATURE_BYTES,
    BlockHash,
    ChainId,
    PublicKey,
)
from starling.protocol.schema.msgpack_codec import (
    Byte,
    Flag,
    Structure,
    Uint,
    binary,
    encode,
    exactly,
    many,
    structure,
    uint,
)
from starling.protocol.wire.envelope import Envelope

_CONTENT_BYTES_MAX = BLOCK_BYTES_MAX + 16 * 1024
_STATUS_TAG = b"starling/status/2"
WIRE_VERSION = 2
_VERSION_1 = b"\x92"
"""A frame of version 1 was an array of two, and named no version."""
_SUBJECT_AT = 2
"""After the head of an array of three and the version; subjects take one byte."""

ROUNDS_SHOWN_MAX = 256
NONCE_BYTES = 8


class FrameSubject(IntEnum):
    """Subject of a frame; the numbers are fixed in the wire format."""

    # The chain's.
    PROPOSAL = 1
    VOTE = 2
    DECISION = 3
    """A block with its certificate."""
    STATUS = 4
    TRANSACTION = 5
    FORK = 6
    CERTIFICATE = 7
    """A quorum of precommits."""
    POLKA = 8
    """A quorum of prevotes."""
    # Below them.
    CHUNK = 9
    """A part of a longer frame."""
    REQUEST = 10
    """An envelope with a `coordinator.wire.frames.PeerRequest`."""
    # Answers.
    PIECE = 11
    """A part of an answer that is longer than a packet."""
    UPLOAD = 12
    """An admitted update with its sealed vector, by its id."""
    KEY = 13
    """An admitted update with the content key of its vector, by its id."""
    WHOLE = 14
    """A bundle or a part of a model, by its digest."""
    MODEL = 15
    """What a version consists of, by `model_key`."""
    BLOCKS = 16
    """Decided blocks from a height on, by `blocks_key`."""
    SNAPSHOT = 17
    """The manifest of a snapshot, instead of blocks that are pruned."""
    BUCKETS = 18
    """Buckets of a snapshot, by `buckets_key`."""


class Frame(Structure, frozen=True):
    """The envelope of everything that coordinators say to each other.

    Attributes:
      version: Always `WIRE_VERSION`.
      subject: A `FrameSubject`.
      content: The packed structure that it names.
    """

    version: Byte
    subject: Byte
    content: Annotated[bytes, binary(_CONTENT_BYTES_MAX)]

    def __post_init__(self) -> None:
        """Refuses other versions; an unknown subject is the receiver's to refuse."""
        if self.version != WIRE_VERSION:
            raise _other_version(self.version)


FRAME = structure(Frame, _CONTENT_BYTES_MAX + 64)


def _other_version(version: int) -> DecodeError:
    return DecodeError(
        f"wire version {version}, and this release speaks {WIRE_VERSION}: "
        "install the same release on all coordinators"
    )


def open_frame(payload: bytes) -> Frame:
    """Reads a frame.

    Raises:
      DecodeError, LimitError: If it is none of this wire version.
    """
    if payload.startswith(_VERSION_1):
        raise _other_version(1)
    return FRAME.unpack(payload)


def frame(subject: FrameSubject, content: bytes) -> bytes:
    """Packs a frame."""
    return FRAME.pack(Frame(WIRE_VERSION, subject, content))


def subject_of(payload: bytes) -> FrameSubject:
    """The subject of a frame of our own; its content is not looked at."""
    return FrameSubject(payload[_SUBJECT_AT])


class DecidedBlock(Structure, frozen=True):
    """A block with the certificate that makes it final (deviation D6)."""

    block: Block
    certificate: Certificate


DECISION = structure(DecidedBlock, _CONTENT_BYTES_MAX)


class RoundHoldings(Structure, frozen=True):
    """Votes and proposal that a coordinator holds of one round.

    Attributes:
      round: Which round.
      proposal: 1 if it holds the proposal: of the block `polka`, if that is given.
      prevotes: Bit i is set if it holds validator i's prevote.
      precommits: Bit i is set if it holds validator i's precommit.
      polka: The block for which it holds a quorum of prevotes, whoever cast them.
    """

    round: Annotated[int, uint(ROUND_MAX)]
    proposal: Flag
    prevotes: Annotated[int, uint((1 << VALIDATORS_MAX) - 1)]
    precommits: Annotated[int, uint((1 << VALIDATORS_MAX) - 1)]
    polka: BlockHash | None = None


class ValidatorStatus(Structure, frozen=True):
    """Position of a coordinator, so that others send it what is missing.

    Attributes:
      validator: Its key, since its place changes with the validator set.
      counter: Above those of all its earlier statuses; older ones are not heard.
      height: Height that it decides.
      tip: Its block before that; the chain id before the first.
      round: Its round there.
      held: What it holds of its rounds, rising; the latest `ROUNDS_SHOWN_MAX`.
      asks: Drawn at its start, while it asks whether others are further; else empty.
      answers: What others asked in the latest status that it heard of each.
      signature: Over `signed_bytes`.
    """

    validator: PublicKey
    counter: Uint
    height: Annotated[int, uint(least=1)]
    tip: BlockHash
    round: Annotated[int, uint(ROUND_MAX)]
    held: Annotated[tuple[RoundHoldings, ...], many(ROUNDS_SHOWN_MAX)]
    asks: Annotated[bytes, binary(NONCE_BYTES)]
    answers: Annotated[
        tuple[Annotated[bytes, exactly(NONCE_BYTES)], ...], many(VALIDATORS_MAX)
    ]
    signature: Annotated[bytes, exactly(SIGNATURE_BYTES)]

    def signed_bytes(self, chain_id: ChainId) -> bytes:
        """Bytes that the signature covers."""
        held = [
            [h.round, h.proposal, h.prevotes, h.precommits, h.polka] for h in self.held
        ]
        place = [self.validator, self.counter, self.height, self.tip, self.round]
        fields = [*place, held, self.asks, list(self.answers)]
        return b"".join((_STATUS_TAG, chain_id, encode(fields)))


STATUS = structure(ValidatorStatus, 32 * 1024)


POLKAS_MAX = 16


class ForkProof(Structure, frozen=True):
    """Proof that two blocks of one height are certified.

    Attributes:
      first: A quorum of precommits.
      second: Another one: for another block of that height; or, if `child` is given,
        for a block of the next height that does not follow the first one's.
      child: The header of that block.
      polkas: Quorums of prevotes of the first one's height that show who lied.
    """

    first: Certificate
    second: Certificate
    child: Header | None
    polkas: Annotated[tuple[Certificate, ...], many(POLKAS_MAX)]


FORK = structure(ForkProof, (POLKAS_MAX + 3) * 4096)


ChainMessage = (
    Proposal
    | Vote
    | DecidedBlock
    | ValidatorStatus
    | Envelope
    | ForkProof
    | Certificate
)
"""What the chain hears: an envelope is a transaction, and the frame's subject says
whose votes a certificate holds."""


class VoteJournalEntry(Structure, frozen=True):
    """Entry that a validator writes before it publishes a proposal or a vote.

    Attributes:
      height: Height that it belongs to.
      proposal: The own proposal; with a precommit, the proposal that it locks.
      vote: The own vote.
      proof: The earlier prevotes that the vote relies on. Without those of a prevote a
        crash could lose what shows who lied.
    """

    height: Annotated[int, uint(least=1)]
    proposal: Proposal | None
    vote: Vote | None
    proof: Certificate | None


JOURNAL_ENTRY = structure(VoteJournalEntry, _CONTENT_BYTES_MAX + 8192)


def wrap_proposal(proposal: Proposal) -> bytes:
    """The frame of a proposal."""
    return frame(FrameSubject.PROPOSAL, PROPOSAL.pack(proposal))


def wrap_vote(vote: Vote) -> bytes:
    """The frame of a vote."""
    return frame(FrameSubject.VOTE, VOTE.pack(vote))


def wrap_status(status: ValidatorStatus) -> bytes:
    """The frame of a status."""
    return frame(FrameSubject.STATUS, STATUS.pack(status))


def wrap_polka(certificate: Certificate) -> bytes:
    """The frame of a quorum of prevotes."""
    return frame(FrameSubject.POLKA, CERTIFICATE.pack(certificate))


def wrap_commit(certificate: Certificate) -> bytes:
    """The frame of a quorum of precommits, without its block."""
    return frame(FrameSubject.CERTIFICATE, CERTIFICATE.pack(certificate))


def wrap_decision(block: Block, certificate: Certificate) -> bytes:
    """The frame of a decided block."""
    return frame(FrameSubject.DECISION, DECISION.pack(DecidedBlock(block, certificate)))


def wrap_fork(fork: ForkProof) -> bytes:
    """The frame of the proof that the chain forked."""
    return frame(FrameSubject.FORK, FORK.pack(fork))

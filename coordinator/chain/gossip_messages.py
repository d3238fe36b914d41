"""Messages between coordinators about the chain, and the vote journal's entries.

Every message is signed by who made it: proposals, votes and statuses by their own
signature, transactions as envelopes, decisions by their certificate. So they may travel
over any bus, and anyone may pass them on.
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

_CONTENT_BYTES_MAX = BLOCK_BYTES_MAX + 16 * 1024
_STATUS_TAG = b"starling/status/2"

ROUNDS_SHOWN_MAX = 256
NONCE_BYTES = 8


class GossipTopic(IntEnum):
    """Kind of a message; the numbers are fixed in the wire format."""

    PROPOSAL = 1
    VOTE = 2
    DECISION = 3
    STATUS = 4
    TRANSACTION = 5
    FORK = 6
    CERTIFICATE = 7
    """A quorum of precommits."""
    POLKA = 8
    """A quorum of prevotes."""


class GossipMessage(Structure, frozen=True):
    """Gossip message: a packed structure and its kind."""

    topic: Byte
    content: Annotated[bytes, binary(_CONTENT_BYTES_MAX)]


MESSAGE = structure(GossipMessage, _CONTENT_BYTES_MAX + 64)


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


def topic_of(payload: bytes) -> int:
    """Parts of a packed `GossipMessage` of our own; its content is not looked at."""
    return MESSAGE.unpack(payload).topic


def wrap_proposal(proposal: Proposal) -> bytes:
    """The gossip of a proposal."""
    return MESSAGE.pack(GossipMessage(GossipTopic.PROPOSAL, PROPOSAL.pack(proposal)))


def wrap_vote(vote: Vote) -> bytes:
    """The gossip of a vote."""
    return MESSAGE.pack(GossipMessage(GossipTopic.VOTE, VOTE.pack(vote)))


def wrap_polka(certificate: Certificate) -> bytes:
    """The gossip of a quorum of prevotes."""
    return MESSAGE.pack(GossipMessage(GossipTopic.POLKA, CERTIFICATE.pack(certificate)))


def wrap_commit(certificate: Certificate) -> bytes:
    """The gossip of a quorum of precommits, without its block."""
    return MESSAGE.pack(
        GossipMessage(GossipTopic.CERTIFICATE, CERTIFICATE.pack(certificate))
    )


def wrap_decision(block: Block, certificate: Certificate) -> bytes:
    """The gossip of a decided block."""
    decision = DecidedBlock(block, certificate)
    return MESSAGE.pack(GossipMessage(GossipTopic.DECISION, DECISION.pack(decision)))

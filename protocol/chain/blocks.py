"""Blocks, votes and certificates.

A block's header names its parent, the root of its transactions, the root of the state
after it, and the validators of this height and the next. A certificate is a quorum of
precommits for one header in one round, and proves the block final to anyone.

Source: Buchman, Kwon, Milosevic, arXiv:1807.04938, section 2.3 (messages); the
certificate is the `Commit` of that paper's implementations.
"""

from enum import IntEnum
from functools import cached_property
from typing import Annotated

from starling.protocol.chain.genesis import (
    FORMAT_VERSION,
    VALIDATORS_MAX,
    FaultModel,
    ValidatorSet,
    quorum,
)
from starling.protocol.crypto import merkle
from starling.protocol.crypto.keys import verify
from starling.protocol.errors import DecodeError, ProofError
from starling.protocol.ids import (
    SIGNATURE_BYTES,
    BlockHash,
    ChainId,
    Digest,
    H,
)
from starling.protocol.schema.msgpack_codec import (
    Byte,
    Difference,
    Structure,
    Uint,
    binary,
    encode,
    exactly,
    from_first,
    many,
    structure,
    uint,
)
from starling.protocol.wire.envelope import ENVELOPE_BYTES_MAX

ROUND_MAX = 1 << 31
TIME_MS_MAX = 253_402_300_799_999
"""The last millisecond of the year 9999: what shows times can show no later one."""
TRANSACTIONS_PER_BLOCK_MAX = 1000
BLOCK_BYTES_MAX = 4 * 1024 * 1024
# A tag for each kind of signed bytes, so that no signature of one kind passes for
# another.
_VOTE_TAG = b"starling/vote/1"
_PROPOSAL_TAG = b"starling/proposal/1"


class VoteType(IntEnum):
    """The two votes of a round."""

    PREVOTE = 1
    PRECOMMIT = 2


class Header(Structure, frozen=True, dict=True):
    """Header of a block; its hash is what validators vote on.

    Attributes:
      version: `FORMAT_VERSION`.
      chain_id: Hash of the genesis.
      height: 1 for the first block.
      time_ms: Median of the precommit times for the parent, Unix time; the chain's
        clock, which windows count besides heights.
      parent: Hash of the parent's header; the chain id for the first block.
      tx_root: Merkle root over the packed transactions.
      state_root: Root of the state after this block.
      validators: Hash of this height's validator set.
      next_validators: Hash of the next height's.
      proposer: Index of the proposer in this height's set.
    """

    version: Byte
    chain_id: ChainId
    height: Annotated[int, uint(least=1)]
    time_ms: Annotated[int, uint(TIME_MS_MAX)]
    parent: BlockHash
    tx_root: Digest
    state_root: Digest
    validators: Digest
    next_validators: Digest
    proposer: Annotated[int, uint(VALIDATORS_MAX - 1)]

    def __post_init__(self) -> None:
        """Refuses other versions."""
        if self.version != FORMAT_VERSION:
            raise DecodeError(f"header version {self.version} is not supported")

    def block_id(self) -> BlockHash:
        """H(0x02, header): what votes name."""
        return self._block_id

    @cached_property
    def _block_id(self) -> BlockHash:
        return BlockHash(H(b"\x02", HEADER.pack(self)))


HEADER = structure(Header, 512)


class Block(Structure, frozen=True, dict=True):
    """A header and its transactions.

    Attributes:
      header: What is voted on.
      transactions: Packed envelopes, in order.
    """

    header: Header
    transactions: Annotated[
        tuple[Annotated[bytes, binary(ENVELOPE_BYTES_MAX)], ...],
        many(TRANSACTIONS_PER_BLOCK_MAX),
    ]

    def tx_root(self) -> Digest:
        """The Merkle root that the header must carry."""
        # Kept: a block is checked, stored and proven from, and each would hash all of
        # it again.
        return self._tx_root

    @cached_property
    def _tx_root(self) -> Digest:
        return merkle.root(self.transactions)


BLOCK = structure(Block, BLOCK_BYTES_MAX)


def vote_bytes(
    chain_id: ChainId,
    vote_type: VoteType,
    height: int,
    round_: int,
    block_id: BlockHash | None,
    extra: int,
) -> bytes:
    """Bytes that a vote's signature covers.

    Args:
      chain_id: The chain.
      vote_type: Prevote or precommit.
      height: Height voted on.
      round_: Round of that height.
      block_id: The header's hash, or None for nil.
      extra: For a prevote the proposal's valid round plus 1 (deviation D2, after
        Accountable Tendermint); for a precommit the voter's Unix time in ms.
    """
    return b"".join(
        (
            _VOTE_TAG,
            chain_id,
            encode([int(vote_type), height, round_, block_id, extra]),
        )
    )


class Vote(Structure, frozen=True):
    """One validator's vote; fields as in `vote_bytes`, `voter` is its index."""

    vote_type: Annotated[int, uint(max(VoteType), 1)]
    height: Annotated[int, uint(least=1)]
    round: Annotated[int, uint(ROUND_MAX)]
    block_id: BlockHash | None
    extra: Uint
    voter: Annotated[int, uint(VALIDATORS_MAX - 1)]
    signature: Annotated[bytes, exactly(SIGNATURE_BYTES)]

    def signed_bytes(self, chain_id: ChainId) -> bytes:
        """Bytes that the signature covers."""
        return vote_bytes(
            chain_id,
            VoteType(self.vote_type),
            self.height,
            self.round,
            self.block_id,
            self.extra,
        )


VOTE = structure(Vote, 256)


class Certificate(Structure, frozen=True):
    """A quorum of equal votes for one block in one round.

    Attributes:
      height: Height voted on.
      round: The round.
      block_id: The block.
      voters: Bit i is set if validator i's vote is here.
      signatures: In the order of the set bits.
      extras: Each vote's `extra`, in the same order.
    """

    height: Annotated[int, uint(least=1)]
    round: Annotated[int, uint(ROUND_MAX)]
    block_id: BlockHash
    voters: Annotated[int, uint((1 << VALIDATORS_MAX) - 1)]
    signatures: Annotated[
        tuple[Annotated[bytes, exactly(SIGNATURE_BYTES)], ...], many(VALIDATORS_MAX, 1)
    ]
    extras: Annotated[tuple[Difference, ...], from_first(VALIDATORS_MAX)]

    def __post_init__(self) -> None:
        """Refuses another number of signatures or extras than of voters."""
        # Zipped with the voters when they are checked: one signature too few would
        # leave a voter unchecked.
        count = self.voters.bit_count()
        if not count == len(self.signatures) == len(self.extras):
            raise DecodeError("certificate's voters and signatures differ in number")

    def members(self) -> tuple[int, ...]:
        """The indices of the voters, rising and distinct by construction."""
        return tuple(i for i in range(VALIDATORS_MAX) if self.voters >> i & 1)


CERTIFICATE = structure(Certificate, 4096)


def check_certificate(
    certificate: Certificate,
    chain_id: ChainId,
    validators: ValidatorSet,
    fault_model: FaultModel,
    vote_type: VoteType = VoteType.PRECOMMIT,
) -> None:
    """Checks that a quorum of distinct validators signed.

    Raises:
      ProofError: Naming what is missing or wrong.
      SignatureError: If one vote's signature does not verify.
    """
    voters = certificate.members()
    count = len(validators.members)
    # The cheap checks first: anybody may send a certificate.
    if len(voters) < (needed := quorum(count, fault_model)):
        raise ProofError(f"{len(voters)} votes, {needed} of {count} needed")
    # They rise, so that the last one answers for all.
    if voters[-1] >= count:
        raise ProofError(f"voter {voters[-1]} of a set of {count}")
    entries = zip(voters, certificate.signatures, certificate.extras, strict=True)
    for voter, signature, extra in entries:
        signed = vote_bytes(
            chain_id,
            vote_type,
            certificate.height,
            certificate.round,
            certificate.block_id,
            extra,
        )
        verify(validators.members[voter].public, signed, signature)


class Proposal(Structure, frozen=True):
    """A proposer's signed offer of a block.

    Attributes:
      height: Height proposed for.
      round: Its round.
      valid_round: Valid round plus 1; 0 for a fresh block.
      block_id: Hash of the block's header.
      proposer: Index of the proposer.
      signature: Over `signed_bytes`.
      block: The packed block.
      proof_of_lock: The prevotes of the valid round, if there is one (deviation D1).
      parent: The certificate of the block before, by whose votes a fresh block is
        dated; None with the first block, and with one that is proposed again.
    """

    height: Annotated[int, uint(least=1)]
    round: Annotated[int, uint(ROUND_MAX)]
    valid_round: Annotated[int, uint(ROUND_MAX)]
    block_id: BlockHash
    proposer: Annotated[int, uint(VALIDATORS_MAX - 1)]
    signature: Annotated[bytes, exactly(SIGNATURE_BYTES)]
    block: Annotated[bytes, binary(BLOCK_BYTES_MAX)]
    proof_of_lock: Certificate | None
    parent: Certificate | None = None

    def signed_bytes(self, chain_id: ChainId) -> bytes:
        """Bytes that the signature covers; the block through its hash."""
        fields = [self.height, self.round, self.valid_round, self.block_id]
        return b"".join((_PROPOSAL_TAG, chain_id, encode(fields)))


PROPOSAL = structure(Proposal, BLOCK_BYTES_MAX + 12 * 1024)

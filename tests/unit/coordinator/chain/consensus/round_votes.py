"""Votes of four validators at one height, and a round that takes them."""

from dataclasses import replace

from starling.coordinator.chain.consensus.round_state import (
    ClockReading,
    RoundState,
    RoundStep,
)
from starling.protocol.chain.blocks import Vote, VoteType, vote_bytes
from starling.protocol.ids import BlockHash, H
from tests.unit.coordinator.fixtures.small_genesis import (
    genesis,
    sorted_validator_keys,
    validator_of,
)

A, B = BlockHash(H(b"A")), BlockHash(H(b"B"))
ME = 0
HEIGHT = 5
PREVOTE, PRECOMMIT = VoteType.PREVOTE, VoteType.PRECOMMIT
KEYS = sorted_validator_keys(4)
VALIDATOR = validator_of(genesis(4), HEIGHT, ME)
NOW = ClockReading(100.0, 5_000)


def vote(
    voter: int,
    kind: VoteType,
    block_id: BlockHash | None,
    number: int = 0,
    relied: int = 0,
) -> Vote:
    extra = NOW.now_ms if kind is PRECOMMIT else relied
    signed = vote_bytes(VALIDATOR.chain_id, kind, HEIGHT, number, block_id, extra)
    signature = KEYS[voter].sign(signed)
    return Vote(kind, HEIGHT, number, block_id, extra, voter, signature)


def at(step: RoundStep, number: int = 0, **fields: object) -> RoundState:
    state = RoundState(HEIGHT, round=number, step=step)
    return replace(state, **fields)  # type: ignore[arg-type]  # a test's fields


def receive(state: RoundState, *votes: Vote) -> RoundState:
    vote_set = state.vote_set
    for entry in votes:
        vote_set = vote_set.with_vote(entry, state.round)
    return replace(state, vote_set=vote_set)

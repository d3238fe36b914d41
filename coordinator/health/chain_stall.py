"""Detection of a stalled chain, and its reason: for status, log and check.

A chain with nothing to decide makes a block each heartbeat, so its silence shows after
a few of them; where something waits to be decided it shows after a few rounds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from starling.coordinator.chain.consensus.round_state import RoundStep, Timeouts
from starling.coordinator.chain.node import node
from starling.coordinator.peers import directory
from starling.coordinator.peers.responder_selection import SILENT_AFTER_STATUSES
from starling.coordinator.step.state import CoordinatorSettings, CoordinatorState
from starling.protocol.chain.blocks import VoteType
from starling.protocol.chain.governance import ChainParameter
from starling.protocol.ids import device_id

HEARTBEATS = 3
"""Without a block for so many, the chain stands still."""
ROUNDS = 3
"""Rounds whose time-outs together suffice for what waits, with one liar in the way."""
HIGH_ROUND = 3
"""A round from here on is worth a word: liars and losses cost one or two."""


@dataclass(frozen=True)
class MissingVotes:
    """Validators whose votes of the current round we lack, by name.

    Attributes:
      prevotes: Empty before we ourselves wait for them.
      precommits: The same.
    """

    prevotes: tuple[str, ...] = ()
    precommits: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """For people; empty if nothing is missing."""
        kinds = (("prevotes", self.prevotes), ("precommits", self.precommits))
        return "; ".join(f"{kind} of {', '.join(who)}" for kind, who in kinds if who)


@dataclass(frozen=True)
class SilentValidator:
    """A validator that we did not hear of lately."""

    name: str
    silent_s: float


@dataclass(frozen=True)
class ChainStall:
    """Progress of the chain on this coordinator.

    Attributes:
      stalled: Whether it stands still.
      block_age_s: Since the last block was decided, or since the start.
      stage_s: Since the height, round or step began.
      missing: Votes of the current round.
      why: What is known to hold it up; also of what has not stopped it yet.
    """

    stalled: bool
    block_age_s: float
    stage_s: float
    missing: MissingVotes
    why: tuple[str, ...]


def look(
    settings: CoordinatorSettings,
    state: CoordinatorState,
    now_s: float,
    outside: Sequence[str] = (),
) -> ChainStall:
    """Observes the progress of the chain.

    Args:
      settings: Constant.
      state: To look at.
      now_s: Monotonic clock.
      outside: What is wrong around us: the broker, the disk.
    """
    stalled = _is_stalled(settings, state, now_s)
    missing = missing_votes(state)
    why = [*_reasons(settings, state, now_s), *outside]
    deciding, validator = state.ledger.consensus, state.ledger.validator
    if stalled and deciding.step is RoundStep.PROPOSE:
        proposer = validator.roster.validators.members[
            validator.proposer(deciding.round)
        ]
        why.append(f"waits for the proposal of {proposer.name}")
    if stalled and missing.text:
        why.append(f"votes missing: {missing.text}")
    if stalled and not why:
        why.append("all are heard and no vote of this round is missing")
    return ChainStall(
        stalled,
        now_s - state.pace.decided_at_s,
        now_s - state.pace.staged_at_s,
        missing,
        tuple(why),
    )


def heartbeat_s(state: CoordinatorState) -> int:
    """Longest time without a block while all is well."""
    return state.ledger.tip.parameter(ChainParameter.HEARTBEAT_S)


def patience_s(timeouts: Timeouts) -> float:
    """Patience for what waits: all timeouts of the first `ROUNDS` rounds."""
    return sum(
        timeouts.of_proposal(number) + 2 * timeouts.of_votes(number)
        for number in range(ROUNDS)
    )


def _is_stalled(
    settings: CoordinatorSettings, state: CoordinatorState, now_s: float
) -> bool:
    ledger, pace = state.ledger, state.pace
    if ledger.fork is not None or state.diverged is not None:
        return True
    if now_s - pace.decided_at_s > HEARTBEATS * heartbeat_s(state):
        return True
    waits_s = now_s - pace.waits_from_s
    # What waits may be refused by every block; a round shows that it is decided upon.
    under_way = ledger.consensus.step is not RoundStep.NEW_HEIGHT
    return under_way and waits_s > patience_s(settings.ledger.timeouts)


def _reasons(
    settings: CoordinatorSettings, state: CoordinatorState, now_s: float
) -> list[str]:
    ledger = state.ledger
    found = []
    if state.diverged is not None:
        found.append(
            f"our state differs from the certified block {state.diverged.height}: "
            "nothing is decided here before code or disk is mended"
        )
    silence = node.silence(settings.ledger, ledger, now_s)
    if silence:
        found.append(f"does not vote: {silence}")
    elif ledger.validator.index is None:
        found.append("is no validator: it follows and does not vote")
    found += _quorum_reasons(settings, state, now_s)
    deciding = ledger.consensus
    if deciding.round >= HIGH_ROUND:
        since_s = now_s - state.pace.decided_at_s
        found.append(
            f"round {deciding.round} of height {deciding.height} after "
            f"{since_s:.0f} s: votes differ or get lost"
        )
    ahead = [
        (peer.height, who)
        for who, peer in state.peers.items()
        if peer.height > deciding.height + 1
    ]
    if ahead:
        height, who = max(ahead)
        name = directory.name_of(ledger, who)
        found.append(f"behind: {name} decides height {height}, we {deciding.height}")
    return found


def _quorum_reasons(
    settings: CoordinatorSettings, state: CoordinatorState, now_s: float
) -> list[str]:
    validator = state.ledger.validator
    gone = silent(settings, state, now_s)
    if validator.count - len(gone) >= validator.quorum:
        return []
    who = ", ".join(f"{one.name} for {one.silent_s:.0f} s" for one in gone)
    heard = validator.count - len(gone)
    return [f"no quorum: heard from {heard} of {validator.count}, silent {who}"]


def silent(
    settings: CoordinatorSettings, state: CoordinatorState, now_s: float
) -> tuple[SilentValidator, ...]:
    """Validators that were not heard lately, and for how long."""
    validator = state.ledger.validator
    wait_s = SILENT_AFTER_STATUSES * settings.ledger.status_s
    found = []
    for index, member in enumerate(validator.roster.validators.members):
        peer = state.peers.get(device_id(member.public))
        heard_at_s = state.since_s if peer is None else peer.heard_at_s
        silent_s = now_s - max(state.since_s, heard_at_s)
        if index != validator.index and silent_s > wait_s:
            found.append(SilentValidator(member.name, silent_s))
    return tuple(found)


def missing_votes(state: CoordinatorState) -> MissingVotes:
    """Validators whose votes of the current round are missing."""
    validator, deciding = state.ledger.validator, state.ledger.consensus
    members = validator.roster.validators.members

    def missing(kind: VoteType) -> tuple[str, ...]:
        cast = deciding.vote_set.cast(deciding.round, kind)
        return tuple(
            member.name for index, member in enumerate(members) if index not in cast
        )

    if validator.count == 1 or deciding.step < RoundStep.PREVOTE:
        return MissingVotes()
    prevotes = missing(VoteType.PREVOTE)
    if deciding.step < RoundStep.PRECOMMIT:
        return MissingVotes(prevotes)
    return MissingVotes(prevotes, missing(VoteType.PRECOMMIT))

"""The ledger of one coordinator: mempool, consensus and execution as one pure core.

Events come in, effects go out in the order in which they must happen: what is written
down stands before the gossip that it protects. Time comes back as `wake_at_s`, at which
the runtime sends `ChainTicked`. Of what is submitted only `ChainTicked` makes a
block, so that everything submitted before it shares one; with one validator that
same step also decides it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.chain_step import (
    BlamePeer,
    ChainSettings,
    ChainState,
    ChainStep,
    DecidedHeight,
    Effect,
    JournalVote,
    RefuseTransaction,
    SendGossip,
    StateDiverged,
    StoreBlock,
    StoreFork,
    silence,
)
from starling.coordinator.chain.consensus.round_state import (
    ClockReading,
    RoundState,
    RoundStep,
)
from starling.coordinator.chain.execution.block_builder import ChainHead
from starling.coordinator.chain.gossip import certificate_gossip, status_exchange
from starling.coordinator.chain.gossip_messages import ChainMessage, FrameSubject
from starling.coordinator.chain.node import height, message_handlers
from starling.protocol.chain.blocks import Block, Certificate, Header
from starling.protocol.chain.governance import ChainParameter
from starling.protocol.crypto.state_tree import StateTree
from starling.protocol.dataclass_replace import evolve
from starling.protocol.errors import ProtocolError
from starling.protocol.wire.envelope import Envelope

__all__ = [
    "BlamePeer",
    "ChainSettings",
    "ChainState",
    "ChainTicked",
    "Effect",
    "Event",
    "JournalVote",
    "PeerMessage",
    "RefuseTransaction",
    "SendGossip",
    "StateDiverged",
    "StoreBlock",
    "StoreFork",
    "TransactionSubmitted",
    "begin",
    "silence",
    "step",
]


@dataclass(frozen=True)
class TransactionSubmitted:
    """A transaction whose signature the sender of this event has checked.

    Attributes:
      envelope: The transaction.
      tells: Whether to tell the others of it at once; not if it came to them, too, as
        what boards publish does.
    """

    envelope: Envelope
    tells: bool = True


@dataclass(frozen=True)
class PeerMessage:
    """A message of another coordinator; its form is checked, and nothing else.

    Attributes:
      subject: What it is.
      said: What it says.
      source: Who passed it on, if that is known; limits how much waits on its word.
    """

    subject: FrameSubject
    said: ChainMessage
    source: bytes = b""


@dataclass(frozen=True)
class ChainTicked:
    """Time has come; nothing else happened."""


Event = TransactionSubmitted | PeerMessage | ChainTicked


def begin(
    settings: ChainSettings,
    header: Header | None,
    certificate: Certificate | None,
    tree: StateTree,
    journal: Sequence[bytes],
    now_s: float,
    last: Block | None = None,
) -> ChainState:
    """The state after a start or restart.

    Args:
      settings: What the ledger is started with.
      header: Of the last stored block; None before the first.
      certificate: Its certificate.
      tree: The state after it, `genesis_tree` before the first.
      journal: All entries of the vote journal, in order.
      now_s: Monotonic time.
      last: The last stored block, if all of it is there.

    Raises:
      DecodeError, LimitError: If a journal entry is none: a defect of the disk.
    """
    genesis, chain_id = settings.genesis, settings.chain_id
    tip = ChainHead(genesis, chain_id, header, certificate, tree, settings.pinned)
    validator = settings.validator(tip)
    entries = tuple(
        gossip_messages.JOURNAL_ENTRY.unpack(payload) for payload in journal
    )
    # A validator alone has nobody to listen to.
    listens_s = 0.0 if validator.count == 1 else settings.listen_s
    return ChainState(
        tip,
        validator,
        RoundState(tip.height + 1),
        now_s + tip.parameter(ChainParameter.HEARTBEAT_S),
        last=last,
        listens_until_s=now_s + listens_s,
        caught_up=listens_s == 0.0,
        status_counter=settings.status_from,
        # Votes of decided heights can be asked for no more.
        recovered=tuple(entry for entry in entries if entry.height > tip.height),
        recent=_last_decided(header, certificate, entries),
        fork=settings.fork,
        # At once: the first tick sets all other times.
        wake_at_s=now_s,
    )


def _last_decided(
    header: Header | None,
    certificate: Certificate | None,
    entries: Sequence[gossip_messages.VoteJournalEntry],
) -> tuple[DecidedHeight, ...]:
    """The last height, with the prevotes that the journal kept of it."""
    if header is None or certificate is None:
        return ()
    proofs = [one.proof for one in entries if one.height == certificate.height]
    polkas = {(one.round, one.block_id): one for one in proofs if one is not None}
    held = tuple(polkas.values())[: gossip_messages.POLKAS_MAX]
    return (DecidedHeight(certificate, held, header.time_ms),)


def step(
    settings: ChainSettings,
    state: ChainState,
    event: Event,
    now_s: float,
    now_ms: int,
) -> tuple[ChainState, tuple[Effect, ...]]:
    """Takes one event.

    Args:
      settings: What the ledger was started with.
      state: Before.
      event: What happened. What a peer may not say ends in `BlamePeer`, never an error.
      now_s: Monotonic time.
      now_ms: Unix time; goes into precommits and from there into headers, for display.
    """
    step = ChainStep(settings, state, ClockReading(now_s, now_ms))
    if isinstance(event, TransactionSubmitted):
        # No rule looks at what waits: `ChainTicked` comes at once if a height may
        # begin.
        height.submit(step, event.envelope, event.tells)
        step.state = evolve(step.state, wake_at_s=_wake_at_s(step))
        return step.result()
    # Only the first step has something to restore; `_decide` does it for later heights
    # of the journal.
    height.restore(step)
    # Before the event: from here on the rules count this validator in again.
    height.end_silence(step)
    match event:
        case PeerMessage():
            try:
                message_handlers.handle_message(
                    step, event.subject, event.said, event.source
                )
            except ProtocolError as error:
                step.emit(BlamePeer(error.reason, str(error)))
        case ChainTicked():
            height.begin_if_due(step)
        case _:
            assert_never(event)
    # After the event whatever it was: all rules are tried on what is known.
    height.run(step)
    # Own votes of this very step count as taking part.
    height.come_back(step)
    # Only `run` may have set a valid block that others lack.
    certificate_gossip.share_polka(step)
    status_exchange.send_if_due(step)
    height.look_around(step)
    step.state = evolve(step.state, wake_at_s=_wake_at_s(step))
    return step.result()


def _wake_at_s(step: ChainStep) -> float:
    state = step.state
    times = [] if state.alone else [state.status_at_s]
    if step.validator.index is None:
        # No timeout counts in silence.
        listens = state.listens_until_s > step.moment.now_s
        return min([*times, state.listens_until_s if listens else math.inf])
    if state.followed:
        # The silence ended within this step; the next one begins to vote.
        return step.moment.now_s
    times += [state.consensus.wake_at_s(), state.share_at_s]
    if state.consensus.step is RoundStep.NEW_HEIGHT:
        # Waiting transactions need no heartbeat; only the block interval holds them up.
        begin_s = -math.inf if state.mempool.size else state.heartbeat_at_s
        times.append(max(height.begin_from_s(step.settings, state), begin_s))
    return min(times)

"""Halt of the chain when two blocks of one height are certified.

No rule can repair that, and none may choose a side: more than f validators lied, or the
code is wrong. Whoever sees it votes and decides no more, keeps the proof over restarts,
and gives it to everybody. With the quorums of prevotes that the others saw, the proof
names the liars.

Source: the paper's agreement (arXiv:1807.04938 Lemma 3) is what was broken; who is to
blame by `accountability`.
"""

from collections.abc import Iterable
from dataclasses import replace

from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.chain_step import ChainStep, DecidedHeight, StoreFork
from starling.coordinator.chain.execution.block_builder import ChainHead
from starling.coordinator.chain.gossip import repeat_backoff
from starling.coordinator.chain.gossip_messages import (
    FORK,
    POLKAS_MAX,
    ForkProof,
    FrameSubject,
    ValidatorStatus,
)
from starling.coordinator.chain.safety.accountability import culprits
from starling.coordinator.chain.state import validator_records
from starling.protocol.chain.blocks import (
    Certificate,
    Header,
    VoteType,
    check_certificate,
)
from starling.protocol.chain.genesis import FaultModel
from starling.protocol.chain.governance import ChainParameter
from starling.protocol.dataclass_replace import evolve
from starling.protocol.errors import ProofError, StaleUpdate
from starling.protocol.ids import PublicKey

RECENT_MAX = 64
"""Heights of which certificate and prevotes are kept to compare with others', and as
many heartbeats: who makes blocks come faster is not to hide a fork by that."""
HELD_MAX = 4096
"""Of those heights at most, whatever their time."""


def liars(fork: ForkProof) -> frozenset[int]:
    """Provable equivocators, as indices in the validator set of that height.

    Empty if the proof does not tell: the certificates are of different heights, or
    prevotes are missing.
    """
    if fork.child is not None:
        return frozenset()
    return culprits(fork.first, fork.second, fork.polkas)


def remember(step: ChainStep, certificate: Certificate, time_ms: int) -> None:
    """Keeps what shows who lied, should another block of the height turn up.

    Args:
      step: The step.
      certificate: Of the block that we decide.
      time_ms: Of its header.
    """
    state = step.state
    # The votes go with the height, and with them all that names a liar.
    polkas = state.consensus.vote_set.polkas_held(state.validator.quorum)[:POLKAS_MAX]
    recent = (
        *state.recent[1 - HELD_MAX :],
        DecidedHeight(certificate, polkas, time_ms),
    )
    span_ms = 1000 * RECENT_MAX * state.tip.parameter(ChainParameter.HEARTBEAT_S)
    old = 0
    while old < len(recent) - RECENT_MAX and recent[old].time_ms < time_ms - span_ms:
        old += 1
    step.state = evolve(step.state, recent=recent[old:])


def known(step: ChainStep, height: int) -> DecidedHeight | None:
    """Decision at a recent height; None for an older one."""
    recent = step.state.recent
    if not recent:
        return None
    # They follow each other without a gap.
    place = height - recent[0].certificate.height
    return recent[place] if 0 <= place < len(recent) else None


def compare(step: ChainStep, certificate: Certificate) -> None:
    """Looks at a certificate of a height that we decided.

    Raises:
      ProofError, SignatureError: If it is none.
    """
    ours = known(step, certificate.height)
    # Equal blocks may have different certificates, and that proves nothing.
    if ours is None or ours.certificate.block_id == certificate.block_id:
        return
    _check_commit(step.state.tip, certificate)
    halt(step, ForkProof(ours.certificate, certificate, None, ours.polkas))


def is_elsewhere(step: ChainStep, status: ValidatorStatus) -> bool:
    """True if a peer reports another block than the one decided at that height."""
    ours = known(step, status.height - 1)
    return ours is not None and ours.certificate.block_id != status.tip


def show(step: ChainStep, status: ValidatorStatus) -> None:
    """Shows a peer that is elsewhere what we decided there, so that it compares.

    It finds the fork if there is one, and proves it to everybody. All heights count
    together, so that a liar gets no more by naming many.
    """
    ours = known(step, status.height - 1)
    assert ours is not None
    if repeat_backoff.may_repeat(step, status.validator, FrameSubject.CERTIFICATE):
        shown = gossip_messages.wrap_commit(ours.certificate)
        step.gossip(shown, status.validator, asked_by=status.validator)


def check_parent(step: ChainStep, header: Header, certificate: Certificate) -> None:
    """Looks whether a certified block of our height follows our last block."""
    last = step.state.tip.certificate
    # Before the first block there is nothing that a parent could contradict.
    if last is not None and header.parent != last.block_id:
        halt(step, ForkProof(last, certificate, header, ()))


def handle_fork_proof(step: ChainStep, fork: ForkProof) -> None:
    """Takes the proof from another coordinator.

    Old heights are left alone: keys of validators that left long ago may be anybody's,
    and must not stop those who decide now.

    Raises:
      StaleUpdate: If it is of an old height.
      ProofError, SignatureError: If it proves nothing.
    """
    ours = known(step, fork.first.height)
    if ours is None and fork.first.height + RECENT_MAX <= step.state.tip.height:
        raise StaleUpdate(f"a fork at height {fork.first.height}")
    _check(step.state.tip, fork)
    # Prevotes that were seen here are added, since any of them may name a liar.
    own = ours.polkas if ours is not None else ()
    halt(step, replace(fork, polkas=_merged(own, fork.polkas)))


def halt(step: ChainStep, fork: ForkProof) -> None:
    """Stands still from now on; says so, and again when more liars can be named."""
    before = step.state.fork
    if before is not None:
        same = {before.first.block_id, before.second.block_id}
        if {fork.first.block_id, fork.second.block_id} != same:
            # One fork is enough; but one that names somebody is better.
            fork = fork if len(liars(fork)) > len(liars(before)) else before
        else:
            fork = replace(before, polkas=_merged(before.polkas, fork.polkas))
        # Nothing more to tell: without this two coordinators would send it to and fro
        # for ever.
        if liars(fork) <= liars(before):
            return
    step.state = evolve(step.state, fork=fork)
    step.emit(StoreFork(FORK.pack(fork)))
    step.gossip(gossip_messages.wrap_fork(fork))


def prove(step: ChainStep, fork: ForkProof, who: PublicKey) -> None:
    """Sends the proof of a fork to a peer that still sends statuses without it."""
    if repeat_backoff.may_repeat(step, who, FrameSubject.FORK):
        step.gossip(gossip_messages.wrap_fork(fork), who, asked_by=who)


def _merged(
    ours: Iterable[Certificate], theirs: Iterable[Certificate]
) -> tuple[Certificate, ...]:
    by_place = {(one.round, one.block_id): one for one in (*theirs, *ours)}
    # Sorted before it is cut: all who hold the same prevotes keep the same ones.
    return tuple(by_place[place] for place in sorted(by_place))[:POLKAS_MAX]


def _check(tip: ChainHead, fork: ForkProof) -> None:
    first, second, child = fork.first, fork.second, fork.child
    if child is None:
        contradict = first.height == second.height
        contradict &= first.block_id != second.block_id
    else:
        # The certified child names another parent than the certified block before it.
        contradict = child.height == second.height == first.height + 1
        contradict &= child.block_id() == second.block_id
        contradict &= child.parent != first.block_id
    if not contradict:
        raise ProofError("certificates that do not contradict each other")
    _check_commit(tip, first)
    _check_commit(tip, second)
    for polka in fork.polkas:
        # Prevotes accuse only together with the first certificate.
        if polka.height != first.height:
            raise ProofError("prevotes of another height")
        _check_votes(tip, polka, VoteType.PREVOTE)


def _check_commit(tip: ChainHead, certificate: Certificate) -> None:
    _check_votes(tip, certificate, VoteType.PRECOMMIT)


def _check_votes(tip: ChainHead, certificate: Certificate, kind: VoteType) -> None:
    validators = validator_records.validators(tip.tree, tip.genesis, certificate.height)
    fault_model = FaultModel(tip.genesis.fault_model)
    check_certificate(certificate, tip.chain_id, validators, fault_model, kind)

"""The part of a coordinator's status about deciding with the others."""

from collections import Counter
from dataclasses import asdict
from typing import Any

from starling.coordinator.chain.consensus.round_state import RoundStep
from starling.coordinator.chain.gossip import fork_halt
from starling.coordinator.chain.node import node
from starling.coordinator.chain.state import board_records, validator_records
from starling.coordinator.chain.tasks import attestation
from starling.coordinator.health.chain_stall import silent
from starling.coordinator.peers import directory
from starling.coordinator.step.state import CoordinatorSettings, CoordinatorState
from starling.protocol.chain.evidence import Offence
from starling.protocol.chain.genesis import FaultModel
from starling.protocol.ids import device_name


def consensus(
    settings: CoordinatorSettings, state: CoordinatorState, now_s: float
) -> dict[str, Any]:
    """Our place in deciding the next block, and what we know of the others.

    Args:
      settings: For names.
      state: To show.
      now_s: Monotonic clock.
    """
    validator, tree = state.ledger.validator, state.ledger.tree
    members = validator.roster.validators.members
    deciding = state.ledger.consensus
    pinned = state.ledger.tip.pinned
    return {
        "validators": len(members),
        "index": validator.index,
        "learns": directory.is_learner(state.ledger, directory.own_id(state.ledger)),
        "pinned": None if pinned is None else pinned.height,
        "quorum": validator.quorum,
        "fault_model": FaultModel(settings.ledger.genesis.fault_model).name.lower(),
        "height": deciding.height,
        "round": deciding.round,
        "silence": node.silence(settings.ledger, state.ledger, now_s),
        "passed_over": [
            member.name
            for member in members
            if (absence := validator_records.absence(tree, member.public)) is not None
            and absence.away
        ],
        "missing": [asdict(one) for one in silent(settings, state, now_s)],
        "fork": _fork(state),
        "step": RoundStep(deciding.step).name.lower(),
        "rounds": state.rounds,
        "signed_by": _signers(settings, state),
        "outvoted": _outvoted(settings, state),
        "convicted": {
            member.name: Offence(fault.offence).name.lower()
            for member in members
            if (fault := board_records.fault(tree, member.public)) is not None
        },
        "wanted": len(state.wanted),
        "peers": [
            {
                "id": device_name(who),
                "name": directory.name_of(state.ledger, who),
                "learner": directory.is_learner(state.ledger, who),
                "height": peer.height,
                "round": peer.round,
                "silent_s": now_s - max(state.since_s, peer.heard_at_s),
                "refused": peer.refused,
                "wants_dropped": peer.wants_dropped,
            }
            for who, peer in sorted(state.peers.items())
        ],
    }


def _fork(state: CoordinatorState) -> dict[str, Any] | None:
    """Proof that more lied than are allowed for; None if there is none."""
    proof = state.ledger.fork
    if proof is None:
        return None
    members = state.ledger.validator.roster.validators.members
    return {
        "height": proof.first.height,
        "blocks": [proof.first.block_id.hex(), proof.second.block_id.hex()],
        "liars": [members[index].name for index in sorted(fork_halt.liars(proof))],
    }


def _signers(settings: CoordinatorSettings, state: CoordinatorState) -> list[str]:
    """Names of the validators whose votes certify the last block."""
    tip = state.ledger.tip
    validators = validator_records.validators(
        tip.tree, settings.ledger.genesis, tip.height
    )
    members = validators.members
    certificate = tip.certificate
    signers = () if certificate is None else certificate.members()
    return [members[index].name for index in signers]


def _outvoted(settings: CoordinatorSettings, state: CoordinatorState) -> dict[str, int]:
    """Validators that attested other versions than became final, and how many."""
    tree = state.ledger.tree
    counts: Counter[str] = Counter()
    for member in state.ledger.validator.roster.validators.members:
        for number in state.tasks:
            dissent = validator_records.dissent(tree, number, member.public)
            counts[member.name] += 0 if dissent is None else dissent.count
    return {name: count for name, count in sorted(counts.items()) if count}


def attested(
    settings: CoordinatorSettings, state: CoordinatorState, task: int
) -> dict[str, Any]:
    """Attestations of a task's open job.

    Args:
      settings: For names.
      state: To show.
      task: The task.

    Returns:
      `by_digest`, the names of who attested each digest, and `split`: whether no digest
      can get a quorum any more, which takes more liars than are allowed for.
    """
    validators = state.ledger.validator.roster.validators
    names = {member.public: member.name for member in validators.members}
    given = attestation.given(state.ledger.tree, validators, task)
    by_digest: dict[str, list[str]] = {}
    for entry in given:
        by_digest.setdefault(entry.digest.hex(), []).append(names[entry.validator])
    split = attestation.is_split(given, validators, settings.ledger.genesis)
    return {"by_digest": by_digest, "split": split}

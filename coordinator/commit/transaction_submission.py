"""Between the coordinator and its ledger: transactions in, blocks out."""

from typing import assert_never

from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.gossip import fork_halt
from starling.coordinator.chain.node import node
from starling.coordinator.commit import block_commit
from starling.coordinator.health import progress_monitor
from starling.coordinator.peers import repeat_quota, transaction_quota
from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.coordinator.step.effects import RecordRefusal
from starling.protocol.dataclass_replace import evolve
from starling.protocol.errors import Reason
from starling.protocol.ids import device_id
from starling.protocol.wire.envelope import Envelope


def submit(step: CoordinatorStep, envelope: Envelope) -> None:
    """Hands a transaction whose signature was checked to the ledger."""
    advance(step, node.TransactionSubmitted(envelope))


def submit_upload(step: CoordinatorStep, update: Envelope) -> None:
    """Hands an admitted update to the ledger.

    What boards publish reaches every coordinator at their broker, so that nobody there
    needs to be told. Who missed it asks when a block names it, and hears of it if it
    waits for long.
    """
    advance(step, node.TransactionSubmitted(update, tells=not step.settings.shared))


def advance(step: CoordinatorStep, event: node.Event) -> None:
    """Lets the ledger take one step, and acts on what it decides and refuses."""
    ledger, effects = node.step(
        step.settings.ledger, step.state.ledger, event, step.now_s, step.now_ms
    )
    # Before the state is replaced, as it compares the two.
    progress_monitor.note(step, ledger)
    # Kept, since a refused transaction is in the mempool no more when it is charged.
    waited = step.state.ledger.mempool
    step.state = evolve(step.state, ledger=ledger)
    for effect in effects:
        match effect:
            case node.StoreBlock():
                # Emitted first: what follows from a block is stored after it.
                step.emit(effect)
                block_commit.block_decided(step, effect)
            case node.RefuseTransaction(identity, reason, detail):
                transaction_quota.refused(step, waited, identity)
                block_commit.transaction_refused(step, identity, reason, detail)
            case node.BlamePeer():
                _blame(step, event, effect)
            case node.StateDiverged():
                progress_monitor.diverged(step, effect)
            case node.StoreFork(payload):
                step.emit(effect)
                step.report(_about(step, payload))
            case node.SendGossip(payload, _, asked_by):
                if asked_by is None or repeat_quota.pays(step, asked_by, len(payload)):
                    step.emit(effect)
            case node.JournalVote():
                step.emit(effect)
            case _:
                assert_never(effect)


def _blame(step: CoordinatorStep, event: node.Event, blame: node.BlamePeer) -> None:
    """Names whose message was refused; for a forged transaction it is charged."""
    # At another broker nothing shows that it is who its topic says.
    speaker = None if step.broker else step.speaker
    whose = speaker if blame.signer is None else device_id(blame.signer)
    step.emit(RecordRefusal(None, blame.reason, blame.detail, whose))
    if (
        isinstance(event, node.PeerMessage)
        and isinstance(event.said, Envelope)
        # For want of room it is refused before its signature is looked at.
        and blame.reason is not Reason.BUSY
    ):
        transaction_quota.charge(step, event.source)


def _about(step: CoordinatorStep, payload: bytes) -> str:
    members = step.state.ledger.validator.roster.validators.members
    proof = gossip_messages.FORK.unpack(payload)
    liars = [members[index].name for index in sorted(fork_halt.liars(proof))]
    return (
        f"two blocks of height {proof.first.height} are certified: more lied than are "
        f"allowed for ({', '.join(liars) or 'who is not known'}); nothing is decided "
        "any more"
    )

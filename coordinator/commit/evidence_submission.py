"""Brings boards to the chain whose own signatures prove a fault of theirs.

Two updates for one base version need both signatures; a wrong box needs the content key
that the board committed to. The chain refuses what proves nothing new.
"""

from starling.coordinator.chain.state import board_records, transaction_codec
from starling.coordinator.commit import evidence_pool
from starling.coordinator.commit.transaction_submission import submit
from starling.coordinator.step.admitted_updates import admitted_key
from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.coordinator.step.effects import LookUpUpdate
from starling.coordinator.step.events import UpdateLookedUp
from starling.protocol.chain.evidence import EVIDENCE, Evidence, duplicate_updates
from starling.protocol.chain.evidence import missealed as evidence_of_box
from starling.protocol.dataclass_replace import evolve
from starling.protocol.ids import Digest, device_name
from starling.protocol.wire.envelope import Envelope, MessageKind


def second_update_found(step: CoordinatorStep, known: Digest, other: Envelope) -> None:
    """A board signed `other` beside the update that is known."""
    if not evidence_pool.keep(step, known, other):
        return
    # In memory while it waits; decided ones are read from the store, off the loop.
    waiting = step.state.ledger.mempool.get(known)
    if waiting is None:
        step.emit(LookUpUpdate(known, other))
    else:
        accuse(step, waiting.envelope, other)


def update_from_peer(step: CoordinatorStep, envelope: Envelope) -> None:
    """An update whose signature was checked came from another coordinator."""
    body = transaction_codec.contribution(envelope.body)
    device = board_records.owner(step.state.ledger.tree, envelope.sender)
    held = step.state.held.get(admitted_key(device, body.task, body.version))
    known = None if held is None else held.transaction
    if known is None:
        known = board_records.update_of(
            step.state.ledger.tree, body.task, device, body.version
        )
    if known is not None and known != envelope.identity(step.settings.gate.chain_id):
        second_update_found(step, known, envelope)


def first_update_found(step: CoordinatorStep, event: UpdateLookedUp) -> None:
    """The store has the first update, or has it no more."""
    if event.known is not None:
        accuse(step, event.known, event.other)
        return
    device = board_records.owner(step.state.ledger.tree, event.other.sender)
    # As if never accused: a later pair may still have both of its sides.
    step.put_session(device, evolve(step.session(device), accused=-1))


def accuse(step: CoordinatorStep, first: Envelope, second: Envelope) -> None:
    """Submits two updates as evidence."""
    name = device_name(board_records.owner(step.state.ledger.tree, first.sender))
    step.report(f"board {name} signed two updates for one base version")
    _submit(step, duplicate_updates(first, second))


def missealed(
    step: CoordinatorStep, update: Envelope, blob: bytes, content_key: bytes
) -> None:
    """Accuses a board whose box for us is not what its content key gives."""
    device = board_records.owner(step.state.ledger.tree, update.sender)
    if not evidence_pool.may_accuse(step, update):
        return
    to, height = step.settings.gate.key.public, step.state.ledger.height
    evidence = evidence_of_box(update, blob, content_key, to, height)
    if evidence is not None:
        step.report(f"board {device_name(device)} boxed another content key for us")
        evidence_pool.mark_accused(step, device)
        _submit(step, evidence)


def _submit(step: CoordinatorStep, evidence: Evidence) -> None:
    submit(step, step.sign(MessageKind.EVIDENCE, EVIDENCE.pack(evidence)))

"""Brings boards to the chain whose own signatures prove a fault of theirs.

Two updates for one base version need both signatures; a wrong box needs the content key
that the board committed to. The chain refuses what proves nothing new.
"""

from starling.coordinator.chain.state import board_records, transaction_codec
from starling.coordinator.commit import evidence_pool
from starling.coordinator.commit.transaction_submission import submit
from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.coordinator.step.effects import LookUpUpdate
from starling.coordinator.step.events import UpdateLookedUp
from starling.coordinator.step.state import admitted_key
from starling.protocol.chain.evidence import EVIDENCE, Evidence, duplicate_updates
from starling.protocol.chain.evidence import missealed as evidence_of_box
from starling.protocol.dataclass_replace import evolve
from starling.protocol.ids import Digest, device_name
from starling.protocol.wire.envelope import Envelope, MessageKind


def second_update_found(turn: CoordinatorStep, known: Digest, other: Envelope) -> None:
    """A board signed `other` beside the update that is known."""
    if not evidence_pool.keep(turn, known, other):
        return
    waiting = turn.state.ledger.mempool.get(known)
    if waiting is None:
        turn.emit(LookUpUpdate(known, other))
    else:
        accuse(turn, waiting.envelope, other)


def update_from_peer(turn: CoordinatorStep, envelope: Envelope) -> None:
    """An update whose signature was checked came from another coordinator."""
    body = transaction_codec.contribution(envelope.body)
    device = board_records.owner(turn.state.ledger.tree, envelope.sender)
    held = turn.state.held.get(admitted_key(device, body.task, body.version))
    known = None if held is None else held.transaction
    if known is None:
        known = board_records.update_of(
            turn.state.ledger.tree, body.task, device, body.version
        )
    if known is not None and known != envelope.identity(turn.settings.gate.chain_id):
        second_update_found(turn, known, envelope)


def first_update_found(turn: CoordinatorStep, event: UpdateLookedUp) -> None:
    """The store has the first update, or has it no more."""
    if event.known is not None:
        accuse(turn, event.known, event.other)
        return
    device = board_records.owner(turn.state.ledger.tree, event.other.sender)
    turn.put_session(device, evolve(turn.session(device), accused=-1))


def accuse(turn: CoordinatorStep, first: Envelope, second: Envelope) -> None:
    """Submits two updates as evidence."""
    name = device_name(board_records.owner(turn.state.ledger.tree, first.sender))
    turn.report(f"board {name} signed two updates for one base version")
    _submit(turn, duplicate_updates(first, second))


def missealed(
    turn: CoordinatorStep, update: Envelope, blob: bytes, content_key: bytes
) -> None:
    """Accuses a board whose box for us is not what its content key gives."""
    device = board_records.owner(turn.state.ledger.tree, update.sender)
    if not evidence_pool.may_accuse(turn, update):
        return
    to, height = turn.settings.gate.key.public, turn.state.ledger.height
    evidence = evidence_of_box(update, blob, content_key, to, height)
    if evidence is not None:
        turn.report(f"board {device_name(device)} boxed another content key for us")
        evidence_pool.mark_accused(turn, device)
        _submit(turn, evidence)


def _submit(turn: CoordinatorStep, evidence: Evidence) -> None:
    submit(turn, turn.sign(MessageKind.EVIDENCE, EVIDENCE.pack(evidence)))

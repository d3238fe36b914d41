"""Brings boards to the chain whose own signatures prove a fault of theirs.

Two updates for one base version need both signatures; a wrong box needs the content key
that the board committed to. The chain refuses what proves nothing new.
"""

from coordinator import contradiction
from coordinator.effects import Recall
from coordinator.events import Recalled
from coordinator.ledger import transactions, views
from coordinator.state import held_key
from coordinator.submission import submit
from coordinator.turn import Turn
from protocol.envelope import Envelope, Kind
from protocol.evidence import EVIDENCE, Evidence, duplicate_updates
from protocol.evidence import missealed as evidence_of_box
from protocol.evolve import evolve
from protocol.ids import Digest, device_name


def found(turn: Turn, known: Digest, other: Envelope) -> None:
    """A board signed `other` beside the update that is known."""
    if not contradiction.keep(turn, known, other):
        return
    waiting = turn.ledger.mempool.get(known)
    if waiting is None:
        turn.emit(Recall(known, other))
    else:
        accuse(turn, waiting.envelope, other)


def met(turn: Turn, envelope: Envelope) -> None:
    """An update whose signature was checked came from another coordinator."""
    body = transactions.contribution(envelope.body)
    device = views.owner(turn.ledger.tree, envelope.sender)
    held = turn.held.get(held_key(device, body.task, body.version))
    known = None if held is None else held.transaction
    if known is None:
        known = views.update_of(turn.ledger.tree, body.task, device, body.version)
    if known is not None and known != envelope.identity(turn.settings.gate.chain_id):
        found(turn, known, envelope)


def recalled(turn: Turn, event: Recalled) -> None:
    """The store has the first update, or has it no more."""
    if event.known is not None:
        accuse(turn, event.known, event.other)
        return
    device = views.owner(turn.ledger.tree, event.other.sender)
    turn.put_session(device, evolve(turn.session(device), accused=-1))


def accuse(turn: Turn, first: Envelope, second: Envelope) -> None:
    """Submits two updates as evidence."""
    name = device_name(views.owner(turn.ledger.tree, first.sender))
    turn.report(f"board {name} signed two updates for one base version")
    _submit(turn, duplicate_updates(first, second))


def missealed(turn: Turn, update: Envelope, blob: bytes, content_key: bytes) -> None:
    """Accuses a board whose box for us is not what its content key gives."""
    device = views.owner(turn.ledger.tree, update.sender)
    if not contradiction.may_accuse(turn, update):
        return
    to, height = turn.settings.gate.key.public, turn.ledger.height
    evidence = evidence_of_box(update, blob, content_key, to, height)
    if evidence is not None:
        turn.report(f"board {device_name(device)} boxed another content key for us")
        contradiction.mark_accused(turn, device)
        _submit(turn, evidence)


def _submit(turn: Turn, evidence: Evidence) -> None:
    submit(turn, turn.sign(Kind.EVIDENCE, EVIDENCE.pack(evidence)))

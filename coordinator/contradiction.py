"""A board that signed two updates for one base version: what proves it is kept.

Whoever holds both signatures finds it: the coordinator that was sent both, or one that
took another update than the one that it hears of. `coordinator.accusation` brings it to
the chain. A board is accused once before each conviction.
"""

from coordinator.effects import KeepEvidence, Recall
from coordinator.ledger import conviction, transactions, views
from coordinator.state import Held
from coordinator.turn import Turn
from protocol.envelope import Envelope
from protocol.evolve import evolve
from protocol.ids import DeviceId, Digest
from protocol.statement import Board


def keep(turn: Turn, known: Digest, other: Envelope) -> bool:
    """Keeps an update that contradicts a known one.

    Args:
      turn: The step.
      known: Id of the update that was taken first.
      other: The other one; its signature was checked.

    Returns:
      Whether the board is to be accused now, which has not been done before.
    """
    if not may_accuse(turn, other):
        return False
    turn.emit(KeepEvidence(known, other))
    mark_accused(turn, views.owner(turn.ledger.tree, other.sender))
    return True


def may_accuse(turn: Turn, update: Envelope) -> bool:
    """Whether the chain would take evidence against an update's board from us now.

    Only if the board has something to lose, the base version is not too old, and we did
    not accuse it already.
    """
    tree = turn.ledger.tree
    device = views.owner(tree, update.sender)
    board = views.board(tree, device)
    if board is None or board.jailed or board.revoked:
        return False
    body = transactions.contribution(update.body)
    if not conviction.reaches(tree, body.task, body.version):
        return False
    return turn.session(device).accused != _convictions(turn, board)


def mark_accused(turn: Turn, device: DeviceId) -> None:
    """Accuses a board no more until the chain has convicted it."""
    board = views.board(turn.ledger.tree, device)
    assert board is not None
    accused = _convictions(turn, board)
    turn.put_session(device, evolve(turn.session(device), accused=accused))


def _convictions(turn: Turn, board: Board) -> int:
    fault = views.fault(turn.ledger.tree, board.public)
    return 0 if fault is None else len(fault.places)


def refused(turn: Turn, device: DeviceId, held: Held) -> None:
    """The chain does not take an admitted update, since it has another one."""
    known = views.update_of(turn.ledger.tree, held.task, device, held.base)
    if known is None or known == held.transaction:
        return
    if keep(turn, known, held.update):
        turn.emit(Recall(known, held.update))

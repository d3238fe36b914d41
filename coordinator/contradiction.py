"""A board that signed two updates for one base version: what proves it is kept.

Whoever holds both signatures finds it: the coordinator that was sent both, or one that
took another update than the one that it hears of. `coordinator.accusation` brings it to
the chain. A board is accused once.
"""

from coordinator.events import KeepEvidence, Recall
from coordinator.ledger import views
from coordinator.state import Held
from coordinator.turn import Turn
from protocol.envelope import Envelope
from protocol.evolve import evolve
from protocol.ids import DeviceId, Digest


def keep(turn: Turn, known: Digest, other: Envelope) -> bool:
    """Keeps an update that contradicts a known one.

    Args:
      turn: The step.
      known: Id of the update that was taken first.
      other: The other one; its signature was checked.

    Returns:
      Whether the board is to be accused now, which has not been done before.
    """
    device = views.owner(turn.ledger.tree, other.sender)
    session = turn.session(device)
    enrolled = views.board(turn.ledger.tree, device) is not None
    convicted = views.fault(turn.ledger.tree, other.sender) is not None
    if session.accused or convicted or not enrolled:
        return False
    turn.emit(KeepEvidence(known, other))
    turn.put_session(device, evolve(session, accused=True))
    return True


def refused(turn: Turn, device: DeviceId, held: Held) -> None:
    """The chain does not take an admitted update, since it has another one."""
    known = views.update_of(turn.ledger.tree, held.task, device, held.base)
    if known is None or known == held.transaction:
        return
    if keep(turn, known, held.update):
        turn.emit(Recall(known, held.update))

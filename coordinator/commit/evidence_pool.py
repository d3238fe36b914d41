"""A board that signed two updates for one base version: what proves it is kept.

Whoever holds both signatures finds it: the coordinator that was sent both, or one that
took another update than the one that it hears of.
`coordinator.commit.evidence_submission` brings it to the chain. A board is accused once
before each conviction.
"""

from starling.coordinator.chain.governance import slashing
from starling.coordinator.chain.state import board_records, transaction_codec
from starling.coordinator.step.admitted_updates import AdmittedUpdate
from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.coordinator.step.effects import KeepEvidence, LookUpUpdate
from starling.protocol.chain.board_statement import BoardRecord
from starling.protocol.dataclass_replace import evolve
from starling.protocol.ids import DeviceId, Digest
from starling.protocol.wire.envelope import Envelope


def keep(step: CoordinatorStep, known: Digest, other: Envelope) -> bool:
    """Keeps an update that contradicts a known one.

    Args:
      step: The step.
      known: Id of the update that was taken first.
      other: The other one; its signature was checked.

    Returns:
      Whether the board is to be accused now, which has not been done before.
    """
    if not may_accuse(step, other):
        return False
    step.emit(KeepEvidence(known, other))
    mark_accused(step, board_records.owner(step.state.ledger.tree, other.sender))
    return True


def may_accuse(step: CoordinatorStep, update: Envelope) -> bool:
    """True if the chain would take evidence against an update's board from us now.

    Only if the board has something to lose, the base version is not too old, and we did
    not accuse it already.
    """
    tip = step.state.ledger.tip
    tree = tip.tree
    device = board_records.owner(tree, update.sender)
    board = board_records.board(tree, device)
    if board is None or board.revoked or tip.is_jailed(board):
        return False
    body = transaction_codec.contribution(update.body)
    if not slashing.is_within_age(tree, body.task, body.version):
        return False
    # By the number of convictions: one accusation for each, however much it signs.
    return step.session(device).accused != _convictions(step, board)


def mark_accused(step: CoordinatorStep, device: DeviceId) -> None:
    """Accuses a board no more until the chain has convicted it."""
    board = board_records.board(step.state.ledger.tree, device)
    assert board is not None
    accused = _convictions(step, board)
    step.put_session(device, evolve(step.session(device), accused=accused))


def _convictions(step: CoordinatorStep, board: BoardRecord) -> int:
    fault = board_records.fault(step.state.ledger.tree, board.public)
    return 0 if fault is None else len(fault.places)


def refused(step: CoordinatorStep, device: DeviceId, held: AdmittedUpdate) -> None:
    """The chain does not take an admitted update, since it has another one."""
    known = board_records.update_of(
        step.state.ledger.tree, held.task, device, held.base
    )
    # The chain has not got another one: it was refused for a different reason.
    if known is None or known == held.transaction:
        return
    if keep(step, known, held.update):
        step.emit(LookUpUpdate(known, held.update))

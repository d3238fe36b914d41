"""Receipts of admitted updates: given, left to another coordinator, or repeated."""

from starling.coordinator.chain.state import board_records
from starling.coordinator.peers import responder_selection
from starling.coordinator.step.admitted_updates import admitted_key
from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.coordinator.step.deferred_replies import DeferredReceipt
from starling.coordinator.step.effects import PublishFinality
from starling.coordinator.update.admission_checks import AdmittedUpload
from starling.protocol.ids import DeviceId, Digest
from starling.protocol.wire.envelope import MessageKind
from starling.protocol.wire.message_bodies import ACCEPTED, Accepted


def send_accepted(step: CoordinatorStep, device: DeviceId, transaction: Digest) -> None:
    """Says that an update is durable."""
    step.sign_and_send(
        device, MessageKind.ACCEPTED, ACCEPTED.pack(Accepted(transaction))
    )


def leave_receipt(
    step: CoordinatorStep, device: DeviceId, admitted: AdmittedUpload
) -> None:
    """Leaves a receipt to a coordinator before us."""
    body, transaction = admitted.contribution, admitted.transaction
    left = DeferredReceipt(device, step.now_s, transaction, body.task, body.version)
    responder_selection.defer_reply(step, left)


def repeat_receipt(
    step: CoordinatorStep, device: DeviceId, admitted: AdmittedUpload
) -> None:
    """Says again that an update is durable, and proves it if it is final."""
    body = admitted.contribution
    send_accepted(step, device, admitted.transaction)
    if step.state.held.get(admitted_key(device, body.task, body.version)) is None:
        responder_selection.note_missed_proof(step, device)
        counter = step.take_counter()
        step.emit(PublishFinality(device, admitted.transaction, counter))


def give_receipt(step: CoordinatorStep, left: DeferredReceipt) -> None:
    """Says that an update is durable, or proves it if a block was quicker."""
    device, transaction = left.device, left.transaction
    held = step.state.held.get(admitted_key(device, left.task, left.base))
    if held is not None and held.transaction == transaction:
        send_accepted(step, device, transaction)
        return
    tree = step.state.ledger.tree
    if board_records.update_of(tree, left.task, device, left.base) == transaction:
        step.emit(PublishFinality(device, transaction, step.take_counter()))

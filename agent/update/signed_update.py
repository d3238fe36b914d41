"""The signed update: a vector sealed to the validators, and what is stated of it.

The contribution is what the chain keeps: task, base version, charge, and the digests
that bind the sealed bytes to it. It is signed here, and nowhere else.
"""

from starling.agent.step.agent_step import AgentStep
from starling.agent.step.ongoing_work import OngoingTraining
from starling.agent.step.state import slot_of
from starling.protocol.crypto.sealed_blob import blob_digest, seal
from starling.protocol.wire.envelope import MessageKind
from starling.protocol.wire.message_bodies import (
    CONTRIBUTION,
    Contribution,
    Upload,
)


def signed_upload(step: AgentStep, training: OngoingTraining) -> Upload:
    """The update of a finished training, sealed to the validators and signed.

    Args:
      step: The step; its counter of messages goes on.
      training: With a result, whose charge is in the privacy ledger.
    """
    order, finished = training.order, training.finished
    assert finished is not None
    recipients = [item.sealing for item in step.state.trusted.validators.members]
    sender = step.settings.key.public
    blob, commitment = seal(finished.payload, recipients, finished.entropy, sender)
    charge = step.state.ledger.charged(*slot_of(step.state, order.task, order.base))
    assert charge is not None
    contribution = Contribution(
        order.task,
        order.base,
        order.codec,
        order.pledge,
        order.privacy.mechanism,
        charge.units,
        blob_digest(blob),
        commitment,
        step.state.ledger.stated(step.state.chain),
    )
    # Signed once, and spooled: each later sending has the same bytes and id, which
    # coordinators know again.
    update = step.signed(MessageKind.UPDATE, CONTRIBUTION.pack(contribution))
    return Upload(update, training.lease, blob)

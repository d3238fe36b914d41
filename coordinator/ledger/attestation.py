"""ATTEST: validators say which version they computed, and a quorum makes it final.

Each member of the validator set counts once for a job, with the digest that it
attested.
"""

from coordinator.ledger import dissent, layout, settlement, versions, views
from coordinator.ledger.draft import Context, Draft
from coordinator.ledger.records import (
    ATTESTATIONS,
    Attestation,
    Attestations,
    JobRecord,
)
from protocol.envelope import Envelope
from protocol.errors import ProtocolError, Reason
from protocol.genesis import FaultModel, quorum
from protocol.ids import Digest
from protocol.messages import ATTEST


def attest(
    draft: Draft, context: Context, envelope: Envelope, identity: Digest
) -> None:
    """Notes what a validator computed; a quorum of equal digests makes it final.

    One that differs from what is final already is noted, to name its sender.

    Raises:
      ProtocolError: NOT_AUTHORISED, UNKNOWN_TASK, STALE, ALREADY_KNOWN, EQUIVOCATION
        or MALFORMED.
    """
    del identity
    body = ATTEST.unpack(envelope.body)
    validators = views.validators(draft, context.genesis, context.height)
    if validators.index_of(envelope.sender) is None:
        raise ProtocolError("signed by no validator", Reason.NOT_AUTHORISED)
    if views.head(draft, body.task) is None:
        raise ProtocolError(f"no task {body.task}", Reason.UNKNOWN_TASK)
    job = views.job_record(draft, body.task)
    if job is None or job.version != body.version:
        dissent.attest_late(draft, envelope.sender, body)
        return
    given = views.attestations(draft, body.task)
    for entry in given:
        if entry.validator == envelope.sender:
            same = entry.digest == body.digest
            reason = Reason.ALREADY_KNOWN if same else Reason.EQUIVOCATION
            raise ProtocolError("the validator attested this job", reason)
    given = (*given, Attestation(envelope.sender, body.digest))
    # Who left the set since it attested counts as little as who never was in it.
    equal = sum(
        entry.digest == body.digest
        for entry in given
        if validators.index_of(entry.validator) is not None
    )
    fault_model = FaultModel(context.genesis.fault_model)
    if equal >= quorum(len(validators.members), fault_model):
        for entry in given:
            if entry.digest != body.digest:
                dissent.note(
                    draft, body.task, job.version, entry.validator, entry.digest
                )
        _finalise(draft, context, body.task, job, body.digest)
        return
    ordered = tuple(sorted(given, key=lambda entry: entry.validator))
    packed = ATTESTATIONS.pack(Attestations(ordered))
    draft.put(layout.attest_key(body.task), packed)


def _finalise(
    draft: Draft, context: Context, number: int, job: JobRecord, digest: Digest
) -> None:
    """Makes a version final and settles it."""
    spec = views.task(draft, number)
    assert spec is not None
    settlement.settle(draft, context, number, spec, job)
    for place in job.places:
        draft.put(layout.pending_key(number, place), None)
    draft.put(layout.job_key(number), None)
    draft.put(layout.attest_key(number), None)
    versions.advance(draft, context, number, job.version, digest)

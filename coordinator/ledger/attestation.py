"""ATTEST: validators say which version they computed, and a quorum makes it final.

Each member of the validator set counts once for a job, with the digest that it
attested. Who left the set counts no more: a job is counted anew when the set changes.
"""

from collections import Counter

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
from protocol.genesis import FaultModel, ValidatorSet, quorum
from protocol.ids import Digest, TaskId
from protocol.messages import ATTEST

Given = tuple[Attestation, ...]


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
    given = _given(draft, validators, body.task)
    for entry in given:
        if entry.validator == envelope.sender:
            same = entry.digest == body.digest
            reason = Reason.ALREADY_KNOWN if same else Reason.EQUIVOCATION
            raise ProtocolError("the validator attested this job", reason)
    given = (*given, Attestation(envelope.sender, body.digest))
    _count(draft, context, validators, body.task, job, given)


def count_anew(draft: Draft, context: Context) -> None:
    """Counts all open jobs by the set of this height, which is another one than before.

    A smaller set has a smaller quorum. What its members attested already may be one,
    and nobody attests again: without this such a job would stand for ever.
    """
    validators = views.validators(draft, context.genesis, context.height)
    for number in range(views.task_count(draft)):
        job = views.job_record(draft, number)
        if job is not None:
            given = _given(draft, validators, number)
            _count(draft, context, validators, number, job, given)


def _given(tree: views.Reader, validators: ValidatorSet, number: int) -> Given:
    """The attestations of a task's open job that count; who left counts no more."""
    return tuple(
        entry
        for entry in views.attestations(tree, number)
        if validators.index_of(entry.validator) is not None
    )


def _count(
    draft: Draft,
    context: Context,
    validators: ValidatorSet,
    number: int,
    job: JobRecord,
    given: Given,
) -> None:
    """Keeps what members attested, or makes the version final."""
    needed = quorum(len(validators.members), FaultModel(context.genesis.fault_model))
    equal = Counter(entry.digest for entry in given)
    for digest in sorted(equal):
        # A quorum is more than half: no second digest has one.
        if equal[digest] >= needed:
            _note_dissent(draft, number, job, given, digest)
            _finalise(draft, context, number, job, digest)
            return
    ordered = tuple(sorted(given, key=lambda entry: entry.validator))
    if ordered != views.attestations(draft, number):
        packed = ATTESTATIONS.pack(Attestations(ordered)) if ordered else None
        draft.put(layout.attest_key(number), packed)


def _note_dissent(
    draft: Draft, number: int, job: JobRecord, given: Given, final: Digest
) -> None:
    for entry in given:
        if entry.digest != final:
            dissent.note(
                draft, TaskId(number), job.version, entry.validator, entry.digest
            )


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

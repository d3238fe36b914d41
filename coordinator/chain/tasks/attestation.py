"""ATTEST: validators say which version they computed, and a quorum makes it final.

Each member of the validator set counts once for a job, with the digest that it
attested. Who left the set counts no more: a job is counted anew when the set changes.
While no digest can get a quorum any more, a validator may attest another one in place
of its last.
"""

from collections import Counter

from starling.coordinator.chain.state import task_records, validator_records
from starling.coordinator.chain.state.overlay import (
    AttestationsSplit,
    BlockContext,
    StateOverlay,
)
from starling.coordinator.chain.state.state_table import StateReader
from starling.coordinator.chain.state.task_records import (
    REPLACEMENTS_MAX,
    Attestation,
    Attestations,
    JobRecord,
)
from starling.coordinator.chain.tasks import (
    attestation_mismatch,
    rewards,
    scores,
    version_cut,
)
from starling.protocol.chain.genesis import FaultModel, Genesis, ValidatorSet, quorum
from starling.protocol.errors import ProtocolError, Reason
from starling.protocol.ids import Digest, PublicKey, TaskId
from starling.protocol.wire.envelope import Envelope
from starling.protocol.wire.message_bodies import ATTEST

Given = tuple[Attestation, ...]


def attest(
    draft: StateOverlay, context: BlockContext, envelope: Envelope, identity: Digest
) -> None:
    """Notes what a validator computed; a quorum of equal digests makes it final.

    One that differs from what is final already is noted, to name its sender.

    Raises:
      ProtocolError: NOT_AUTHORISED, UNKNOWN_TASK, STALE, ALREADY_KNOWN, EQUIVOCATION
        or MALFORMED.
    """
    del identity
    body = ATTEST.unpack(envelope.body)
    validators = validator_records.validators(draft, context.genesis, context.height)
    if validators.index_of(envelope.sender) is None:
        raise ProtocolError("signed by no validator", Reason.NOT_AUTHORISED)
    if task_records.head(draft, body.task) is None:
        raise ProtocolError(f"no task {body.task}", Reason.UNKNOWN_TASK)
    job = task_records.job_record(draft, body.task)
    # A job of another version is over, or has not been cut.
    if job is None or job.version != body.version:
        attestation_mismatch.attest_late(draft, envelope.sender, body)
        return
    before = given(draft, validators, body.task)
    # By what was attested before: only then may a validator take its word back.
    split = is_split(before, validators, context.genesis)
    after = _with(before, split, envelope.sender, body.digest)
    _count(draft, context, validators, body.task, job, after, split)


def recount(draft: StateOverlay, context: BlockContext) -> None:
    """Counts all open jobs by the set of this height, which is another one than before.

    A smaller set has a smaller quorum. What its members attested already may be one,
    and nobody attests again: without this such a job would stand for ever.
    """
    validators = validator_records.validators(draft, context.genesis, context.height)
    for number in range(task_records.task_count(draft)):
        job = task_records.job_record(draft, number)
        if job is not None:
            present = given(draft, validators, number)
            _count(draft, context, validators, number, job, present, False)


def given(tree: StateReader, validators: ValidatorSet, number: int) -> Given:
    """The attestations of a task's open job that count, sorted by validator."""
    # A member that was removed keeps its record until the next count, and no vote.
    return tuple(
        entry
        for entry in task_records.attestations(tree, number)
        if validators.index_of(entry.validator) is not None
    )


def is_split(attested: Given, validators: ValidatorSet, genesis: Genesis) -> bool:
    """True if no digest can get a quorum, whatever is still attested.

    It takes more wrong attestations than the fault model allows for.

    Args:
      attested: What members attested.
      validators: All of them.
      genesis: For the fault model.
    """
    equal = Counter(entry.digest for entry in attested)
    silent = len(validators.members) - len(attested)
    return max(equal.values(), default=0) + silent < _quorum(validators, genesis)


def _quorum(validators: ValidatorSet, genesis: Genesis) -> int:
    return quorum(len(validators.members), FaultModel(genesis.fault_model))


def _with(before: Given, split: bool, validator: PublicKey, digest: Digest) -> Given:
    """With one more attestation, or another one of a validator that was wrong.

    Nobody correct attests two digests: what a job gives is determined. But if so many
    are wrong that the job is split, only their second word can end it.
    """
    others = tuple(entry for entry in before if entry.validator != validator)
    after = Attestation(validator, digest)
    for known in before:
        if known.validator != validator:
            continue
        if known.digest == digest:
            raise ProtocolError("it attested this job", Reason.ALREADY_KNOWN)
        if not split or known.replacements == REPLACEMENTS_MAX:
            detail = "it attested another digest of this job"
            raise ProtocolError(detail, Reason.EQUIVOCATION)
        count = known.replacements + 1
        after = Attestation(validator, digest, known.digest, count)
    return tuple(sorted((*others, after), key=lambda entry: entry.validator))


def _count(
    draft: StateOverlay,
    context: BlockContext,
    validators: ValidatorSet,
    number: int,
    job: JobRecord,
    attested: Given,
    was_split: bool,
) -> None:
    """Keeps what members attested, or makes the version final."""
    equal = Counter(entry.digest for entry in attested)
    for digest in sorted(equal):
        # A quorum is more than half: no second digest has one.
        if equal[digest] >= _quorum(validators, context.genesis):
            _note_dissent(draft, number, job, attested, digest)
            _finalise(draft, context, number, job, digest)
            return
    # Mostly equal after a change of set, and then nothing is written.
    if attested != task_records.attestations(draft, number):
        if attested:
            record = Attestations(attested)
            task_records.JOB_ATTESTATIONS.put(draft, record, number)
        else:
            task_records.JOB_ATTESTATIONS.drop(draft, number)
    # Said once, when it becomes split: each coordinator then computes the job again.
    if not was_split and is_split(attested, validators, context.genesis):
        draft.happen(AttestationsSplit(TaskId(number), job.version))


def _note_dissent(
    draft: StateOverlay, number: int, job: JobRecord, attested: Given, final: Digest
) -> None:
    """Names who attested another digest than the final one, last or before that.

    One earlier word is enough: of two in a row one at least is not the final one.
    """
    for entry in attested:
        wrong = entry.digest if entry.digest != final else entry.replaced
        if wrong is not None:
            attestation_mismatch.note(
                draft, TaskId(number), job.version, entry.validator, wrong
            )


def _finalise(
    draft: StateOverlay,
    context: BlockContext,
    number: int,
    job: JobRecord,
    digest: Digest,
) -> None:
    """Makes a version final and settles it."""
    spec = task_records.task(draft, number)
    assert spec is not None
    # Both read the job's updates from the queue, which are dropped below.
    rewards.settle(draft, context, number, spec, job)
    scores.open_version(draft, number, spec, job)
    for place in job.places:
        task_records.QUEUE.drop(draft, number, place)
    task_records.JOBS.drop(draft, number)
    task_records.JOB_ATTESTATIONS.drop(draft, number)
    # Last: it cuts the next job, for which none may be open.
    version_cut.advance(draft, context, number, job.version, digest)

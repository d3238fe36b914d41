"""Validators that attested another version than the one that became final, by name.

That proves no lie: hardware fails too. So it is written down for everybody to see, also
when the attestation comes after the quorum's, and it costs nothing. It is for those who
decide about the set, and goes when the validator leaves; the blocks still tell.
"""

from collections.abc import Sequence

from starling.coordinator.chain.state import (
    rollback_records,
    task_records,
    validator_records,
)
from starling.coordinator.chain.state.overlay import AttestationOutvoted, StateOverlay
from starling.coordinator.chain.state.validator_records import MismatchRecord
from starling.protocol.errors import ProtocolError, Reason
from starling.protocol.ids import Digest, PublicKey, TaskId, Version
from starling.protocol.wire.message_bodies import Attest


def note(
    draft: StateOverlay,
    task: TaskId,
    version: Version,
    validator: PublicKey,
    digest: Digest,
) -> None:
    """Counts that a validator was outvoted on a version; each version counts once.

    Args:
      draft: The state.
      task: The task.
      version: The version that became final with another digest.
      validator: Who attested.
      digest: What it attested.
    """
    known = validator_records.dissent(draft, task, validator)
    # Versions only rise, so that the latest one tells which were counted.
    if known is not None and known.version >= version:
        return
    count = 1 if known is None else known.count + 1
    record = MismatchRecord(count, version, digest)
    validator_records.MISMATCHES.put(draft, record, task, validator)
    draft.happen(AttestationOutvoted(task, version, validator))


def attest_late(draft: StateOverlay, validator: PublicKey, body: Attest) -> None:
    """Takes an attestation for which no job is open any more, if it tells something.

    Raises:
      ProtocolError: STALE if it agrees with what is final, or if that is not known any
        more; ALREADY_KNOWN if the validator's dissent on this or a later version is.
    """
    # Nobody computes version 0: the task brings it.
    final = (
        task_records.version(draft, body.task, body.version) if body.version else None
    )
    # What a rollback made final nobody computed as a job.
    rolled = rollback_records.rollback(draft, body.task, body.version) is not None
    if final is None or final == body.digest or rolled:
        raise ProtocolError("no such job is open", Reason.STALE)
    known = validator_records.dissent(draft, body.task, validator)
    if known is not None and known.version >= body.version:
        raise ProtocolError("the dissent is known", Reason.ALREADY_KNOWN)
    note(draft, TaskId(body.task), Version(body.version), validator, body.digest)


def forget(block: StateOverlay, left: Sequence[PublicKey]) -> None:
    """Drops what was counted of validators that left."""
    for number in range(task_records.task_count(block)):
        for public in left:
            if validator_records.dissent(block, number, public) is not None:
                validator_records.MISMATCHES.drop(block, number, public)

"""SCORE: what coordinators think of updates, each once, and the median of a quorum.

    subjects/<n>/<v>/<page>        `ScoreSubjects`: whose updates they are
    scored/<n>/<v>                 `ScorerList`: who scored a version's updates
    opinion/<n>/<v>/<public key>   what one of them gave, a packed `SCORE`
    score/<n>/<v>                  `SCORES`, once a quorum did

The medians of a version are fixed by the first quorum of members of the set that score
it; reputation follows at once (`coordinator.chain.tasks.reputations`), and then
rewards (`contribution_rewards`). They stand as long as their version may be a base. A
version that is too old for one and not scored yet stands, with its settlement, until
the time for its scores is over: however quickly versions follow each other, late scores
settle the one that they are of.

Source: the lower median of at least q = floor(2n/3) + 1 values, of which at most f lie,
has an honest value on either side of it or is one.
"""

from collections.abc import Sequence
from typing import Annotated

from starling.coordinator.chain.governance import chain_parameters
from starling.coordinator.chain.state import (
    score_subjects,
    task_records,
    validator_records,
)
from starling.coordinator.chain.state.overlay import (
    BlockContext,
    ScoresKnown,
    StateOverlay,
)
from starling.coordinator.chain.state.score_subjects import ScoreSubject
from starling.coordinator.chain.state.state_table import (
    StateReader,
    Table,
    by_task_and_number,
    by_task_version_and_identity,
)
from starling.coordinator.chain.state.task_records import JobRecord
from starling.coordinator.chain.tasks import (
    contribution_rewards,
    reputations,
    rewards,
    task_end,
)
from starling.coordinator.chain.tasks.rewards import Settlement
from starling.protocol.chain.genesis import VALIDATORS_MAX, FaultModel, quorum
from starling.protocol.chain.governance import ChainParameter
from starling.protocol.chain.update_scores import (
    SCORE,
    SCORES,
    Score,
    Scores,
    UpdateScore,
    lower_medians,
)
from starling.protocol.errors import ProtocolError, Reason, ShapeMismatch
from starling.protocol.ids import Digest, PublicKey
from starling.protocol.learning.score_policy import ScoreRule
from starling.protocol.learning.task import TaskSpec
from starling.protocol.schema.msgpack_codec import (
    Structure,
    many,
    structure,
)
from starling.protocol.wire.envelope import Envelope


class ScorerList(Structure, frozen=True):
    """Scorers of a version's updates, sorted."""

    validators: Annotated[tuple[PublicKey, ...], many(VALIDATORS_MAX, 1)]


_SCORER_LIST = structure(ScorerList, 2048)
LATE_VERSIONS = 64
"""Versions too old for a base that wait for scores at most; bounds the state."""

_SCORERS = Table(b"scored/", by_task_and_number, _SCORER_LIST)
"""By task and version: who scored its updates."""
MEDIANS = Table(b"score/", by_task_and_number, SCORES)
"""By task and version: the medians that count."""
_OPINIONS = Table(b"opinion/", by_task_version_and_identity, SCORE)
"""By task, version and public key: what one validator gave."""


def scorers(tree: StateReader, number: int, version: int) -> tuple[PublicKey, ...]:
    """Scorers of a version's updates, sorted."""
    found = _SCORERS.get(tree, number, version)
    return () if found is None else found.validators


def scores(tree: StateReader, number: int, version: int) -> Scores | None:
    """The medians of a version's updates, once a quorum scored them."""
    return MEDIANS.get(tree, number, version)


def open_version(
    draft: StateOverlay, number: int, spec: TaskSpec, job: JobRecord
) -> None:
    """Keeps whose updates a version is made of, if the task has them scored."""
    if spec.scores.rule == ScoreRule.NONE:
        return
    found = []
    for place in job.places:
        entry = task_records.pending_at(draft, number, place)
        assert entry is not None, "a job's updates stand until its version is final"
        found.append(ScoreSubject(entry.board, entry.base, entry.pledge))
    score_subjects.put(draft, number, job.version, tuple(found))


def score(
    draft: StateOverlay, context: BlockContext, envelope: Envelope, identity: Digest
) -> None:
    """Takes a coordinator's scores; those of the first quorum give the medians.

    Raises:
      ProtocolError: NOT_AUTHORISED, UNKNOWN_TASK, POLICY_MISMATCH, STALE,
        SHAPE_MISMATCH, ALREADY_KNOWN, EQUIVOCATION or MALFORMED.
    """
    del identity
    body = SCORE.unpack(envelope.body)
    validators = validator_records.validators(draft, context.genesis, context.height)
    if validators.index_of(envelope.sender) is None:
        raise ProtocolError("signed by no validator", Reason.NOT_AUTHORISED)
    spec = _check_version(draft, context, body)
    given = scorers(draft, body.task, body.version)
    own = body.task, body.version, envelope.sender
    if envelope.sender in given:
        same = _OPINIONS.get(draft, *own) == body
        reason = Reason.ALREADY_KNOWN if same else Reason.EQUIVOCATION
        raise ProtocolError("the validator scored this version", reason)
    if scores(draft, body.task, body.version) is not None:
        raise ProtocolError("a quorum scored it before", Reason.STALE)
    # Also one that is no member by the time of the quorum: then it is not counted.
    given = tuple(sorted((*given, envelope.sender)))
    _OPINIONS.put(draft, body, *own)
    _SCORERS.put(draft, ScorerList(given), body.task, body.version)
    fault_model = FaultModel(context.genesis.fault_model)
    # Who left the set since it scored counts as little as who never was in it.
    counted = [public for public in given if validators.index_of(public) is not None]
    if len(counted) >= quorum(len(validators.members), fault_model):
        medians = _medians([_opinion(draft, body, public) for public in counted])
        MEDIANS.put(draft, Scores(len(counted), medians), body.task, body.version)
        draft.happen(ScoresKnown(body.task, body.version))
        of = score_subjects.subjects(draft, body.task, body.version)
        # Reputation first: a board that it quarantines is not paid for this version.
        reputations.follow(draft, context, spec, of, medians)
        contribution_rewards.settle(
            draft, context, body.task, body.version, of, medians
        )
        # The last payday may be past: late scores bring their own.
        if task_end.is_over(draft, body.task, context.time_ms):
            contribution_rewards.pay_all(draft, context, body.task)


def _medians(opinions: Sequence[Sequence[UpdateScore]]) -> tuple[UpdateScore, ...]:
    influences = lower_medians([[each.influence for each in row] for row in opinions])
    agreements = lower_medians([[each.agreement for each in row] for row in opinions])
    pairs = zip(influences, agreements, strict=True)
    return tuple(UpdateScore(*pair) for pair in pairs)


def _check_version(draft: StateOverlay, context: BlockContext, body: Score) -> TaskSpec:
    """The task of a version that may be scored like this."""
    spec = task_records.task(draft, body.task)
    if spec is None:
        raise ProtocolError(f"no task {body.task}", Reason.UNKNOWN_TASK)
    if spec.scores.rule == ScoreRule.NONE:
        raise ProtocolError("the task asks for no scores", Reason.POLICY_MISMATCH)
    settled = rewards.settlement(draft, body.task, body.version)
    if settled is None:
        raise ProtocolError(f"no version {body.version} to score", Reason.STALE)
    if _too_late(draft, context, settled):
        detail = f"the time for scores of version {body.version} is over"
        raise ProtocolError(detail, Reason.STALE)
    if len(body.values) != settled.updates:
        raise ShapeMismatch(f"{len(body.values)} scores of {settled.updates} updates")
    return spec


def _too_late(draft: StateOverlay, context: BlockContext, settled: Settlement) -> bool:
    """True once both blocks and seconds for a version's scores are over."""
    blocks = chain_parameters.parameter(
        draft, context.genesis, ChainParameter.SCORE_BLOCKS, context.height
    )
    span_ms = chain_parameters.span_ms(
        draft, context.genesis, ChainParameter.SCORE_S, context.height
    )
    until, until_ms = settled.height + blocks, settled.time_ms + span_ms
    return context.height > until and context.time_ms > until_ms


def _opinion(
    draft: StateOverlay, body: Score, public: bytes
) -> tuple[UpdateScore, ...]:
    found = _OPINIONS.get(draft, body.task, body.version, public)
    assert found is not None, "an opinion stands as long as its scorer's name"
    return found.values


def forget_old(
    draft: StateOverlay,
    context: BlockContext,
    number: int,
    spec: TaskSpec,
    oldest: int,
) -> None:
    """Drops settlements and scores of versions that nobody waits for any more.

    Args:
      draft: The state.
      context: The block, which made a version the head.
      number: The task.
      spec: What it is.
      oldest: The first version that may still be a base.
    """
    # One more than may wait, so that the one that leaves the window is dropped.
    for version in range(max(1, oldest - 1 - LATE_VERSIONS), oldest):
        if version >= oldest - LATE_VERSIONS and _is_awaited(
            draft, context, number, spec, version
        ):
            continue
        rewards.forget(draft, number, version)
        _forget(draft, number, version)


def _is_awaited(
    draft: StateOverlay,
    context: BlockContext,
    number: int,
    spec: TaskSpec,
    version: int,
) -> bool:
    """True if the scores of a version are still to come, and may."""
    if spec.scores.rule == ScoreRule.NONE or MEDIANS.has(draft, number, version):
        return False
    settled = rewards.settlement(draft, number, version)
    return settled is not None and not _too_late(draft, context, settled)


def _forget(draft: StateOverlay, number: int, version: int) -> None:
    score_subjects.forget(draft, number, version)
    given = scorers(draft, number, version)
    if not given:
        return
    for public in given:
        _OPINIONS.drop(draft, number, version, public)
    _SCORERS.drop(draft, number, version)
    if MEDIANS.has(draft, number, version):
        MEDIANS.drop(draft, number, version)

"""SCORE: what coordinators think of updates, each once, and the median of a quorum.

    scored/<n>/<v>                 `ScorerList`: who scored a version's updates
    opinion/<n>/<v>/<public key>   what one of them gave, a packed `SCORE`
    score/<n>/<v>                  `SCORES`, once a quorum did

They stand as long as their version may be a base. Until the last height
and time the median moves with each further opinion; after both, it is what reputation
may build upon.

Source: the lower median of at least q = floor(2n/3) + 1 values, of which at most f lie,
has an honest value on either side of it or is one.
"""

from collections.abc import Sequence
from typing import Annotated

from starling.coordinator.chain.governance import chain_parameters
from starling.coordinator.chain.state import task_records, validator_records
from starling.coordinator.chain.state.overlay import BlockContext, StateOverlay
from starling.coordinator.chain.state.state_table import (
    StateReader,
    Table,
    by_task_and_number,
    by_task_version_and_identity,
)
from starling.coordinator.chain.training import rewards
from starling.protocol.chain.genesis import VALIDATORS_MAX, FaultModel, quorum
from starling.protocol.chain.governance import ChainParameter
from starling.protocol.chain.update_scores import SCORE, SCORES, Score, Scores
from starling.protocol.errors import ProtocolError, Reason, ShapeMismatch
from starling.protocol.ids import Digest, PublicKey
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


def lower_medians(opinions: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The lower median of each column.

    Args:
      opinions: (k, n) integers, k opinions of n updates each; k is at least 1.

    Returns:
      n values, each of them one of its column's.
    """
    middle = (len(opinions) - 1) // 2
    columns = zip(*opinions, strict=True)
    return tuple(sorted(column)[middle] for column in columns)


def score(
    draft: StateOverlay, context: BlockContext, envelope: Envelope, identity: Digest
) -> None:
    """Takes a coordinator's scores; those of a quorum give the medians.

    Raises:
      ProtocolError: NOT_AUTHORISED, UNKNOWN_TASK, STALE, SHAPE_MISMATCH, ALREADY_KNOWN,
        EQUIVOCATION or MALFORMED.
    """
    del identity
    body = SCORE.unpack(envelope.body)
    validators = validator_records.validators(draft, context.genesis, context.height)
    if validators.index_of(envelope.sender) is None:
        raise ProtocolError("signed by no validator", Reason.NOT_AUTHORISED)
    until, until_ms = _check_version(draft, context, body)
    given = scorers(draft, body.task, body.version)
    own = body.task, body.version, envelope.sender
    if envelope.sender in given:
        same = _OPINIONS.get(draft, *own) == body
        reason = Reason.ALREADY_KNOWN if same else Reason.EQUIVOCATION
        raise ProtocolError("the validator scored this version", reason)
    given = tuple(sorted((*given, envelope.sender)))
    _OPINIONS.put(draft, body, *own)
    _SCORERS.put(draft, ScorerList(given), body.task, body.version)
    fault_model = FaultModel(context.genesis.fault_model)
    # Who left the set since it scored counts as little as who never was in it.
    counted = [public for public in given if validators.index_of(public) is not None]
    if len(counted) >= quorum(len(validators.members), fault_model):
        medians = lower_medians([_opinion(draft, body, public) for public in counted])
        counts = Scores(until, until_ms, len(counted), medians)
        MEDIANS.put(draft, counts, body.task, body.version)


def _check_version(
    draft: StateOverlay, context: BlockContext, body: Score
) -> tuple[int, int]:
    """The last height and time for scores of a version that may be scored like this."""
    if task_records.head(draft, body.task) is None:
        raise ProtocolError(f"no task {body.task}", Reason.UNKNOWN_TASK)
    settled = rewards.settlement(draft, body.task, body.version)
    if settled is None:
        raise ProtocolError(f"no version {body.version} to score", Reason.STALE)
    blocks = chain_parameters.parameter(
        draft, context.genesis, ChainParameter.SCORE_BLOCKS, context.height
    )
    span_ms = chain_parameters.span_ms(
        draft, context.genesis, ChainParameter.SCORE_S, context.height
    )
    until, until_ms = settled.height + blocks, settled.time_ms + span_ms
    if context.height > until and context.time_ms > until_ms:
        raise ProtocolError(f"scores until height {until}", Reason.STALE)
    if len(body.values) != settled.updates:
        raise ShapeMismatch(f"{len(body.values)} scores of {settled.updates} updates")
    return until, until_ms


def _opinion(draft: StateOverlay, body: Score, public: bytes) -> tuple[int, ...]:
    found = _OPINIONS.get(draft, body.task, body.version, public)
    assert found is not None, "an opinion stands as long as its scorer's name"
    return found.values


def forget(draft: StateOverlay, number: int, version: int) -> None:
    """Drops the scores of a version that can be no base any more."""
    given = scorers(draft, number, version)
    if not given:
        return
    for public in given:
        _OPINIONS.drop(draft, number, version, public)
    _SCORERS.drop(draft, number, version)
    if MEDIANS.has(draft, number, version):
        MEDIANS.drop(draft, number, version)

"""Reputations of boards: evidence of what a quorum thinks of their updates.

    reputation/<board>   `BoardReputation`, from its first scored update on

A board has one reputation, whatever tasks it takes part in. Evidence is for a board
whose update agrees with training on some mixture of the root set's classes, so that a
board with few classes has nothing to fear from being unlike the others:

- Where noise is added to a sum of clipped gradients its size is public: evidence is how
  many of its standard deviations the agreement is, whole at two.
- Else agreement is a cosine, and evidence is how far it stays above a bar below the
  median of the version's, whole at the median and above.
- Under `ACCURACY` an update is valid or not, as in the algorithm; where the median is
  not, that is the step's or the root set's fault, and speaks against nobody.

Where the version's median itself says little, since noise hides everything or the model
has learned what there is, single agreements say no more: evidence counts by that
median, whole at one standard deviation, or at a cosine of 1. Only an update that no
noise explains counts in full whatever the others are.

Source: `protocol.learning.board_reputation` and `protocol.learning.score_policy`.
"""

from collections.abc import Sequence

from starling.coordinator.chain.state.overlay import (
    BlockContext,
    BoardQuarantined,
    StateOverlay,
)
from starling.coordinator.chain.state.score_subjects import ScoreSubject
from starling.coordinator.chain.state.state_table import (
    StateReader,
    Table,
    by_identity,
)
from starling.protocol.chain.update_scores import UpdateScore
from starling.protocol.learning.board_reputation import (
    MILLION,
    UNKNOWN_BOARD,
    BoardReputation,
    with_evidence,
)
from starling.protocol.learning.score_policy import ScoreRule
from starling.protocol.learning.task import TaskSpec
from starling.protocol.privacy.aggregation_terms import noise_micro
from starling.protocol.schema.msgpack_codec import structure

WHOLE_AT_DEVIATIONS = 2
"""Standard deviations of noise at which evidence is as large as it gets."""
BEYOND_NOISE = 3
"""Standard deviations at which it counts in full, however little the others say."""
BAR_OF_16 = 14
"""Sixteenths of the median agreement below which evidence speaks against a board."""
ACCURACY_LOSS_MAX = 20_000
"""Accuracy on the root set, in parts per million, that a valid update may cost."""

REPUTATIONS = Table(b"reputation/", by_identity, structure(BoardReputation, 64))
"""By id: what is known of a board."""


def reputation(tree: StateReader, board: bytes) -> BoardReputation:
    """Reputation of a board; `UNKNOWN_BOARD` before its first scored update."""
    return REPUTATIONS.get(tree, board) or UNKNOWN_BOARD


def is_quarantined(tree: StateReader, context: BlockContext, board: bytes) -> bool:
    """True if a board is in quarantine in this block."""
    return reputation(tree, board).is_quarantined(context.time_ms)


def follow(
    draft: StateOverlay,
    context: BlockContext,
    spec: TaskSpec,
    subjects: Sequence[ScoreSubject],
    medians: Sequence[UpdateScore],
) -> None:
    """Lets a version's scores count for, or against, the boards that made it.

    Args:
      draft: The state.
      context: The block.
      spec: The task.
      subjects: The version's updates, in the order of the chain.
      medians: What a quorum thinks of each.
    """
    # Lower median, as for all that a quorum or a version states.
    usual = sorted(each.agreement for each in medians)[(len(medians) - 1) // 2]
    for of, median in zip(subjects, medians, strict=True):
        before = reputation(draft, of.board)
        speaks = evidence(spec, of.pledge, median, usual)
        after = with_evidence(before, speaks, context.time_ms, spec.scores.quarantine_s)
        REPUTATIONS.put(draft, after, of.board)
        if after.quarantines > before.quarantines:
            draft.happen(BoardQuarantined(of.board))


def evidence(spec: TaskSpec, pledge: int, score: UpdateScore, usual: int) -> int:
    """Evidence that a score is, in millionths, in [-10^6, 10^6]; for a board above 0.

    Args:
      spec: The task.
      pledge: Of the update.
      score: Median of a quorum.
      usual: Lower median of the agreements of the version's updates.
    """
    if spec.scores.rule == ScoreRule.ACCURACY:
        if score.influence >= -ACCURACY_LOSS_MAX:
            return MILLION
        # If even the median lost accuracy, it is the step or the root set that is at
        # fault.
        return -MILLION if usual >= -ACCURACY_LOSS_MAX else 0
    if sigma_micro := noise_micro(spec.privacy, spec.codec):
        # In units of the noise's deviation, so that one bar fits every policy.
        deviations, others = (
            each * pledge * MILLION // sigma_micro for each in (score.agreement, usual)
        )
        if abs(deviations) >= BEYOND_NOISE * MILLION:
            return _bounded(deviations)
        return _by_others(_bounded(deviations // WHOLE_AT_DEVIATIONS), others)
    # Below a median that is not positive the bar is 0: all are measured alike.
    bar = max(usual, 0) * BAR_OF_16 // 16
    above = (score.agreement - bar) * MILLION // max(1, usual - bar)
    return _by_others(_bounded(above), usual)


def _by_others(speaks: int, usual: int) -> int:
    return speaks * max(0, min(MILLION, usual)) // MILLION


def _bounded(value: int) -> int:
    return max(-MILLION, min(MILLION, value))

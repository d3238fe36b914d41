"""SCORE: a coordinator's opinion of a version's updates, and what became of it.

Scores are opinions, not computations that all repeat: each coordinator tries the
updates on a root set of its own. What counts is the lower median of a quorum, which
lies among honest opinions whoever lies. One transaction for each version and
coordinator holds them all, so that the chain does not grow with each update.
"""

from collections.abc import Sequence
from typing import Annotated

from starling.protocol.ids import TaskId, Version
from starling.protocol.learning.task import BUFFER_MAX
from starling.protocol.schema.msgpack_codec import (
    Structure,
    many,
    structure,
    uint,
)
from starling.protocol.wire.message_bodies import PPM

_Ppm = Annotated[int, uint(PPM, -PPM)]


class UpdateScore(Structure, frozen=True):
    """Score of one update, in parts per million, in [-10^6, 10^6].

    Attributes:
      influence: What it does for the root set: above 0 helps. By the task's rule, see
        `protocol.learning.score_policy`.
      agreement: How far training on some mixture of the root set's classes explains
        it: what reputation is made of.
    """

    influence: _Ppm
    agreement: _Ppm


class Score(Structure, frozen=True):
    """One coordinator's scores of all updates of one version.

    Attributes:
      task: Which task.
      version: Which version; it is final.
      values: One per update, in the order of the chain.
    """

    task: TaskId
    version: Version
    values: Annotated[tuple[UpdateScore, ...], many(BUFFER_MAX, 1)]


SCORE = structure(Score, 12 * 1024)


class Scores(Structure, frozen=True):
    """Scores that a quorum of coordinators gave to a version's updates.

    Attributes:
      given: How many coordinators' scores it is of.
      medians: The lower medians of each update's, in the order of the chain.
    """

    given: Annotated[int, uint(32, 1)]
    medians: Annotated[tuple[UpdateScore, ...], many(BUFFER_MAX, 1)]


SCORES = structure(Scores, 12 * 1024)


def lower_medians(opinions: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The lower median of each column.

    Args:
      opinions: (k, n) integers, k opinions of n updates each; k is at least 1.

    Returns:
      n values, each of them one of its column's.
    """
    # The lower one of two middle opinions, and no mean of them, which would be
    # nobody's.
    middle = (len(opinions) - 1) // 2
    columns = zip(*opinions, strict=True)
    return tuple(sorted(column)[middle] for column in columns)

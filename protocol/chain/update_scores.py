"""SCORE: a coordinator's opinion of a version's updates, and what became of it.

Scores are opinions, not computations that all repeat: each coordinator may try the
updates on samples of its own. What counts is the lower median of a quorum, which lies
among honest opinions whoever lies.
"""

from typing import Annotated

from starling.protocol.ids import TaskId, Version
from starling.protocol.learning.task import BUFFER_MAX
from starling.protocol.schema.msgpack_codec import (
    Structure,
    Uint,
    many,
    structure,
    uint,
)
from starling.protocol.wire.message_bodies import PPM


class Score(Structure, frozen=True):
    """One coordinator's scores of all updates of one version.

    Attributes:
      task: Which task.
      version: Which version; it is final.
      values: In parts per million, in [-10^6, 10^6]; one per update, in the order of
        the chain.
    """

    task: TaskId
    version: Version
    values: Annotated[tuple[Annotated[int, uint(PPM, -PPM)], ...], many(BUFFER_MAX, 1)]


SCORE = structure(Score, 6144)


class Scores(Structure, frozen=True):
    """Scores that a quorum of coordinators gave to a version's updates.

    Attributes:
      until: Height of the last block that may still change it, or
      until_ms: time of the last one, in Unix milliseconds, whichever comes later.
      given: How many coordinators' scores it is of.
      medians: The lower median of each update's scores, in the order of the chain.
    """

    until: Uint
    until_ms: Uint
    given: Annotated[int, uint(32, 1)]
    medians: Annotated[tuple[Annotated[int, uint(PPM, -PPM)], ...], many(BUFFER_MAX, 1)]


SCORES = structure(Scores, 6144)

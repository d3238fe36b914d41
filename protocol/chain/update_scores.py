"""SCORE: a coordinator's opinion of a version's updates, and what became of it.

Scores are opinions, not computations that all repeat: each coordinator may try the
updates on samples of its own. What counts is the lower median of a quorum, which lies
among honest opinions whoever lies.
"""

from dataclasses import dataclass

from starling.protocol.ids import TaskId, Version
from starling.protocol.learning.task import BUFFER_MAX
from starling.protocol.schema.msgpack_codec import many, structure, uint
from starling.protocol.wire.message_bodies import PPM, TASKS_MAX

_VALUES = many(uint(PPM, -PPM), BUFFER_MAX, 1)


@dataclass(frozen=True)
class Score:
    """One coordinator's scores of all updates of one version.

    Attributes:
      task: Which task.
      version: Which version; it is final.
      values: In parts per million, in [-10^6, 10^6]; one per update, in the order of
        the chain.
    """

    task: TaskId
    version: Version
    values: tuple[int, ...]


SCORE = structure(Score, 6144, uint(TASKS_MAX), uint(), _VALUES)


@dataclass(frozen=True)
class Scores:
    """What a quorum of coordinators thinks of a version's updates.

    Attributes:
      until: Height of the last block that may still change it, or
      until_ms: time of the last one, in Unix milliseconds, whichever comes later.
      given: How many coordinators' scores it is of.
      medians: The lower median of each update's scores, in the order of the chain.
    """

    until: int
    until_ms: int
    given: int
    medians: tuple[int, ...]


SCORES = structure(Scores, 6144, uint(), uint(), uint(32, 1), _VALUES)

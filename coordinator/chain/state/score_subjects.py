"""Updates of a final version that may be scored, while the version may be a base."""

from typing import Annotated

from starling.coordinator.chain.state.state_table import (
    StateReader,
    StateWriter,
    Table,
    by_task_version_and_page,
)
from starling.protocol.ids import DeviceId, Version
from starling.protocol.learning.task import PLEDGE_MAX
from starling.protocol.schema.msgpack_codec import Structure, many, structure, uint

SUBJECT_PAGE = 256
"""Updates that stand under one key."""


class ScoreSubject(Structure, frozen=True):
    """An update that may be scored.

    Attributes:
      board: Who signed it.
      base: Version that it was computed from.
      pledge: Its size.
    """

    board: DeviceId
    base: Version
    pledge: Annotated[int, uint(PLEDGE_MAX, 1)]


class ScoreSubjects(Structure, frozen=True):
    """Up to `SUBJECT_PAGE` updates of a version, in the order of the chain."""

    updates: Annotated[tuple[ScoreSubject, ...], many(SUBJECT_PAGE, 1)]


SUBJECTS = Table(b"subjects/", by_task_version_and_page, structure(ScoreSubjects, 8192))
"""By task, version and page: the updates that may be scored."""


def subjects(tree: StateReader, number: int, version: int) -> tuple[ScoreSubject, ...]:
    """The updates of a version that may be scored, in the order of the chain."""
    found: list[ScoreSubject] = []
    page = 0
    while (part := SUBJECTS.get(tree, number, version, page)) is not None:
        found.extend(part.updates)
        page += 1
    return tuple(found)


def put(
    draft: StateWriter, number: int, version: int, found: tuple[ScoreSubject, ...]
) -> None:
    """Keeps the updates of a version."""
    for page in range(-(-len(found) // SUBJECT_PAGE)):
        part = ScoreSubjects(found[page * SUBJECT_PAGE :][:SUBJECT_PAGE])
        SUBJECTS.put(draft, part, number, version, page)


def forget(draft: StateWriter, number: int, version: int) -> None:
    """Drops the updates of a version."""
    page = 0
    while SUBJECTS.has(draft, number, version, page):
        SUBJECTS.drop(draft, number, version, page)
        page += 1

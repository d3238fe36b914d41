"""Entries of the label journal: which class was drawn for which record's label.

A batch holds what one training drew, and is one entry of the journal: all of it is
durable, or none. Its columns are packed, as there are many records.

Letters: `n` records of a batch, `K` classes.
"""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from sys import byteorder
from typing import Annotated

from starling.protocol.errors import DecodeError
from starling.protocol.privacy.randomised_response import CLASSES_MAX
from starling.protocol.schema.msgpack_codec import (
    Structure,
    binary,
    exactly,
    structure,
    uint,
)

DIGEST_BYTES = 16
BATCH_MAX = 1 << 16
BATCHES_MAX = 64
"""Of one training, so that one message of a trainer holds them."""
TWINS_MAX = 1 << 20
"""Records with the same inputs."""
_WORD_BYTES = 4


@dataclass(frozen=True)
class DrawnLabel:
    """A class that was drawn for a label.

    Attributes:
      record: Digest of the record's inputs.
      twin: Which of the records with these inputs, from 0.
      label: The label that it was drawn for.
      answer: The class that was drawn.
    """

    record: bytes
    twin: int
    label: int
    answer: int


class LabelBatch(Structure, frozen=True):
    """Labels that were drawn together, under one task's terms.

    Attributes:
      form: Of the entry.
      inputs: Digest of what inputs are: records of other inputs have other digests.
      classes: K.
      epsilon_micro: Of each answer, in units of 10^-6.
      records: Of each record `DIGEST_BYTES` of its digest, (n,).
      twins: (n,) little-endian uint32.
      labels: Likewise.
      answers: Likewise.
    """

    form: Annotated[int, uint(1, 1)]
    inputs: Annotated[bytes, exactly(DIGEST_BYTES)]
    classes: Annotated[int, uint(CLASSES_MAX, 2)]
    epsilon_micro: Annotated[int, uint(1000 * 10**6, 1)]
    records: Annotated[bytes, binary(DIGEST_BYTES * BATCH_MAX)]
    twins: Annotated[bytes, binary(_WORD_BYTES * BATCH_MAX)]
    labels: Annotated[bytes, binary(_WORD_BYTES * BATCH_MAX)]
    answers: Annotated[bytes, binary(_WORD_BYTES * BATCH_MAX)]

    def __post_init__(self) -> None:
        """Refuses columns of different lengths, and classes that there are not."""
        columns = self.twins, self.labels, self.answers
        count, odd = divmod(len(self.records), DIGEST_BYTES)
        if odd or any(len(column) != _WORD_BYTES * count for column in columns):
            raise DecodeError("label batch: columns of different lengths")
        if max(_words(self.twins), default=0) >= TWINS_MAX:
            raise DecodeError("label batch: too many records with the same inputs")
        most = max((*_words(self.labels), *_words(self.answers)), default=0)
        if most >= self.classes:
            raise DecodeError("label batch: no class of that number")

    def drawn(self) -> list[DrawnLabel]:
        """Its rows."""
        starts = range(0, len(self.records), DIGEST_BYTES)
        records = [self.records[start : start + DIGEST_BYTES] for start in starts]
        columns = map(_words, (self.twins, self.labels, self.answers))
        return [DrawnLabel(*row) for row in zip(records, *columns, strict=True)]


BATCH = structure(LabelBatch, (DIGEST_BYTES + 3 * _WORD_BYTES) * BATCH_MAX + 128)


def batches_of(
    inputs: bytes, classes: int, epsilon_micro: int, drawn: Sequence[DrawnLabel]
) -> tuple[bytes, ...]:
    """Packs what was drawn; one empty batch for nothing.

    An empty one says that the journal was there: where it is missing later, it was
    lost.

    Raises:
      LimitError, DecodeError: If a value is out of bounds.
    """
    starts = range(0, max(1, len(drawn)), BATCH_MAX)
    parts = [drawn[start : start + BATCH_MAX] for start in starts]
    return tuple(
        BATCH.pack(
            LabelBatch(
                1,
                inputs,
                classes,
                epsilon_micro,
                b"".join(each.record for each in part),
                _packed(each.twin for each in part),
                _packed(each.label for each in part),
                _packed(each.answer for each in part),
            )
        )
        for part in parts
    )


def _packed(words: Iterable[int]) -> bytes:
    column = array("I", words)
    # `array` works in the machine's byte order; the journal is little-endian.
    if byteorder == "big":
        column.byteswap()
    return column.tobytes()


def _words(column: bytes) -> Sequence[int]:
    words = array("I")
    words.frombytes(column)
    if byteorder == "big":
        words.byteswap()
    return words

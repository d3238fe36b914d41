"""Answers for the labels of a board's data set, from and for its label journal.

The trainer reads the journal and draws what is missing; the agent makes that durable
(`agent.loop`), and only then is anything computed from an answer.

Letters: `n` records.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from starling.agent.privacy.label_entries import DIGEST_BYTES, batches_of
from starling.agent.privacy.label_ledger import LabelAnswers, LabelLedger, LabelTerms
from starling.agent.trainer.dataset import BoardDataSet
from starling.agent.training.trainer_messages import LabelFacts, TrainerJob
from starling.durable.files import read_if_present
from starling.durable.journal import JOURNAL_BYTES_MAX
from starling.durable.journal_frames import scan
from starling.protocol.learning.vector_codecs import Draw
from starling.protocol.model.label_classes import classes_of
from starling.protocol.model.training_bundle import BundleManifest


@dataclass(frozen=True)
class AnsweredDataSet:
    """A data set whose labels are answers.

    Attributes:
      data: With the answers in y, in an order that follows from no label.
      batches: What was drawn for it, to be durable before it is trained on.
      facts: For the data's owner.
    """

    data: BoardDataSet
    batches: tuple[bytes, ...]
    facts: LabelFacts


def inputs_digest(manifest: BundleManifest) -> bytes:
    """Digest of what a bundle's inputs are: shape, scaling and columns."""
    table = None if manifest.table is None else manifest.table.document()
    what = (manifest.input, manifest.preprocessing, manifest.tables, table)
    return blake2b(repr(what).encode(), digest_size=DIGEST_BYTES).digest()


def record_digests(x: NDArray[Any]) -> list[bytes]:
    """Digest of each record's inputs, (n,)."""
    rows = np.ascontiguousarray(x)
    return [blake2b(row.tobytes(), digest_size=DIGEST_BYTES).digest() for row in rows]


def read_label_ledger(path: Path) -> LabelLedger:
    """Reads a label journal that the agent keeps; an empty ledger where there is none.

    Raises:
      StorageError: If it is damaged.
    """
    content = read_if_present(path, JOURNAL_BYTES_MAX)
    return LabelLedger.load(scan(content).payloads if content else ())


def answer_labels(
    data: BoardDataSet,
    manifest: BundleManifest,
    ledger: LabelLedger,
    terms: LabelTerms,
    draw: Draw,
) -> AnsweredDataSet:
    """Puts answers in the place of labels.

    Args:
      data: As it was read.
      manifest: Of the bundle.
      ledger: Of the data set; grows by what is drawn.
      terms: Of the draws.
      draw: Cryptographically secure random bytes.

    Raises:
      ConfigError: If labels of the bundle cannot be drawn.
      LimitError: If there are too many.
    """
    labels = data.y.reshape(len(data.y)).tolist()
    records = list(zip(record_digests(data.x), labels, strict=True))
    found = ledger.respond(records, terms, draw)
    # In the ledger's order: the file's order could follow the labels.
    answered = replace(data, x=data.x[_numbers(found.order)], y=_y(data.y, found))
    classes = classes_of(manifest)
    batches = batches_of(terms.inputs, classes, terms.epsilon_micro, found.drawn)
    facts = LabelFacts(
        len(found.order),
        len(found.drawn),
        found.outdated,
        found.left_out,
        found.most_micro,
    )
    return AnsweredDataSet(answered, batches, facts)


def answers_for(
    job: TrainerJob, manifest: BundleManifest, data: BoardDataSet
) -> AnsweredDataSet:
    """Answers for a job's data set, from its journal and by fresh draws.

    Raises:
      ConfigError, LimitError: As `answer_labels`.
      StorageError: If the journal is damaged.
    """
    assert job.order is not None
    terms = LabelTerms(
        inputs_digest(manifest),
        classes_of(manifest),
        job.order.privacy.epsilon_micro,
        job.labels_micro,
        job.label_losses,
    )
    # Read anew for each job, as the agent appends to it in between.
    ledger = read_label_ledger(Path(job.labels_path))
    return answer_labels(data, manifest, ledger, terms, os.urandom)


def _numbers(order: Sequence[int]) -> NDArray[np.int64]:
    return np.array(order, np.int64)


def _y(labels: NDArray[Any], found: LabelAnswers) -> NDArray[Any]:
    answers = np.array(found.answers, labels.dtype)
    return answers.reshape(len(answers), *labels.shape[1:])

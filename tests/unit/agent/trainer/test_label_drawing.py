"""Answers take the place of labels, in an order that no label decides."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from starling.agent.privacy.label_entries import BATCH, DIGEST_BYTES
from starling.agent.privacy.label_ledger import LabelLedger, LabelTerms
from starling.agent.trainer.dataset import BoardDataSet, Complaints
from starling.agent.trainer.label_drawing import (
    answer_labels,
    inputs_digest,
    read_label_ledger,
    record_digests,
)
from starling.durable.journal import Journal
from starling.durable.journal_frames import DamagedJournal
from starling.protocol.errors import ConfigError
from starling.protocol.learning.task import MICRO
from starling.protocol.model.training_bundle import (
    MANIFEST,
    Preprocessing,
    manifest_from_json,
)
from tests.contract.trainer.test_engines import CLASSES, FILES, RECORDS, X, Y
from tests.unit.agent.goodness_of_fit import stream

PLAIN = manifest_from_json(FILES[MANIFEST])
TERMS = LabelTerms(inputs_digest(PLAIN), CLASSES, 30 * MICRO, 30 * MICRO)
"""So large an epsilon that every label is answered by itself."""
DATA = BoardDataSet(X, Y, Complaints())


def test_answers_stand_beside_their_own_inputs() -> None:
    found = answer_labels(DATA, PLAIN, LabelLedger(), TERMS, stream(1))
    expected = {x.tobytes(): y for x, y in zip(X, Y, strict=True)}

    assert {
        x.tobytes(): y for x, y in zip(found.data.x, found.data.y, strict=True)
    } == (expected)
    assert found.data.y.dtype == Y.dtype
    assert (found.facts.answers, found.facts.drawn) == (RECORDS, RECORDS)
    assert found.facts.most_micro == 30 * MICRO


def test_order_of_the_records_is_the_same_whatever_their_labels_and_places() -> None:
    first = answer_labels(DATA, PLAIN, LabelLedger(), TERMS, stream(1))
    turned = BoardDataSet(X[::-1].copy(), (Y[::-1] + 1) % CLASSES, Complaints())
    second = answer_labels(turned, PLAIN, LabelLedger(), TERMS, stream(2))

    np.testing.assert_array_equal(first.data.x, second.data.x)
    assert record_digests(first.data.x) == sorted(record_digests(X))


def test_targets_of_one_place_keep_their_shape() -> None:
    data = BoardDataSet(X, Y[:, None], Complaints())
    found = answer_labels(data, PLAIN, LabelLedger(), TERMS, stream(1))

    assert found.data.y.shape == (RECORDS, 1)


def test_no_records_draw_nothing_and_leave_a_batch() -> None:
    data = BoardDataSet(X[:0], Y[:0], Complaints())
    found = answer_labels(data, PLAIN, LabelLedger(), TERMS, stream(1))

    assert [BATCH.unpack(each).drawn() for each in found.batches] == [[]]
    assert len(found.data.x) == 0


def test_records_without_budget_are_not_trained_on() -> None:
    short = replace(TERMS, cap_micro=MICRO)
    found = answer_labels(DATA, PLAIN, LabelLedger(), short, stream(1))

    assert len(found.data.x) == 0
    assert found.facts.left_out == RECORDS


def test_ledger_is_read_from_a_journal_that_another_process_has_open(
    tmp_path: Path,
) -> None:
    found = answer_labels(DATA, PLAIN, LabelLedger(), TERMS, stream(1))
    path = tmp_path / "labels.journal"
    journal, _ = Journal.open(path)
    with journal:
        journal.append_many(found.batches)
        again = answer_labels(DATA, PLAIN, read_label_ledger(path), TERMS, stream(2))

    assert again.facts.drawn == 0
    np.testing.assert_array_equal(again.data.y, found.data.y)


def test_missing_journal_is_an_empty_ledger(tmp_path: Path) -> None:
    ledger = read_label_ledger(tmp_path / "none")
    found = answer_labels(DATA, PLAIN, ledger, TERMS, stream(1))

    assert found.facts.drawn == RECORDS


def test_damaged_journal_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.journal"
    path.write_bytes(b"nonsense, and long enough to be one")

    with pytest.raises(DamagedJournal):
        read_label_ledger(path)


def test_inputs_of_another_form_have_another_digest() -> None:
    scaled = replace(PLAIN, preprocessing=Preprocessing((2.0,), (0.0,)))

    assert inputs_digest(PLAIN) != inputs_digest(scaled)
    assert inputs_digest(PLAIN) == inputs_digest(replace(PLAIN, name="another"))
    assert len(inputs_digest(PLAIN)) == DIGEST_BYTES


def test_bundle_without_classes_is_refused() -> None:
    with pytest.raises(ConfigError):
        answer_labels(DATA, replace(PLAIN, loss="mse"), LabelLedger(), TERMS, stream(1))

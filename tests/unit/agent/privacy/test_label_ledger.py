"""A label is drawn once, pays once, and nothing else of it decides anything."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from starling.agent.privacy.label_entries import BATCH, DIGEST_BYTES, batches_of
from starling.agent.privacy.label_ledger import (
    LabelAnswers,
    LabelLedger,
    LabelTerms,
)
from starling.protocol.errors import ConfigError, StorageError
from starling.protocol.learning.task import MICRO
from tests.unit.agent.goodness_of_fit import chi_square, stream

INPUTS = b"i" * DIGEST_BYTES
TERMS = LabelTerms(INPUTS, 10, 2 * MICRO, 6 * MICRO)
Records = Sequence[tuple[bytes, int]]


def digest(number: int) -> bytes:
    return number.to_bytes(DIGEST_BYTES, "big")


def records(labels: Sequence[int]) -> list[tuple[bytes, int]]:
    return [(digest(number), label) for number, label in enumerate(labels)]


class Keeper:
    """A ledger and its journal; each answer is made by a ledger that was read anew."""

    def __init__(self) -> None:
        self.journal: list[bytes] = []
        self._seed = 0

    def ask(
        self, asked: Records, terms: LabelTerms = TERMS, *, synced: bool = True
    ) -> LabelAnswers:
        self._seed += 1
        ledger = LabelLedger.load(self.journal)
        found = ledger.respond(asked, terms, stream(self._seed))
        if synced:
            packed = batches_of(
                terms.inputs, terms.classes, terms.epsilon_micro, found.drawn
            )
            self.journal += packed
        return found


def by_record(found: LabelAnswers, asked: Records) -> Counter[tuple[bytes, int]]:
    rows = zip(found.order, found.answers, strict=True)
    return Counter((asked[number][0], answer) for number, answer in rows)


@pytest.mark.parametrize(("classes", "epsilon"), [(2, 0.5), (3, 2.0), (10, 1.0)])
def test_answers_follow_the_law_whatever_the_label(
    classes: int, epsilon: float
) -> None:
    terms = LabelTerms(INPUTS, classes, round(epsilon * MICRO), 1000 * MICRO)
    odds = math.exp(epsilon)
    for label in range(classes):
        asked = records([label] * 20_000)
        found = LabelLedger().respond(asked, terms, stream(label))

        def weight(k: np.ndarray, label: int = label) -> np.ndarray:
            there = (k >= 0) & (k < classes)
            return np.where(there, np.where(k == label, odds, 1.0), 1e-300)

        # Of a million seeds a right draw fails with one.
        assert chi_square(np.array(found.answers), weight, classes) > 1e-6


def test_label_is_drawn_once_however_often_it_is_asked_for() -> None:
    keeper, asked = Keeper(), records([3, 1, 4, 1, 5, 9, 2, 6])
    first = keeper.ask(asked)
    again = [keeper.ask(asked) for _ in range(20)]

    assert len(first.drawn) == 8
    assert all(found.drawn == () for found in again)
    assert {found.answers for found in again} == {first.answers}
    assert again[-1].most_micro == 2 * MICRO


def test_draw_that_was_not_kept_is_drawn_again_and_paid_for_once() -> None:
    keeper, asked = Keeper(), records(range(10))
    keeper.ask(asked, synced=False)
    found = keeper.ask(asked)

    assert len(found.drawn) == 10
    assert found.most_micro == 2 * MICRO


def test_data_that_grow_pay_for_new_records_alone() -> None:
    keeper = Keeper()
    before = keeper.ask(records([1, 2, 3]))
    after = keeper.ask(records([1, 2, 3, 4, 5]))

    assert [each.record for each in after.drawn] == [digest(3), digest(4)]
    assert after.answers[:3] == before.answers
    assert after.most_micro == 2 * MICRO


def test_records_in_another_order_keep_their_answers() -> None:
    keeper, asked = Keeper(), records([5, 6, 7, 8])
    first = keeper.ask(asked)
    turned = list(reversed(asked))
    second = keeper.ask(turned)

    assert second.drawn == ()
    assert by_record(second, turned) == by_record(first, asked)
    assert second.answers == first.answers


def test_label_that_changed_is_drawn_anew_and_its_record_pays_for_both() -> None:
    keeper = Keeper()
    first = keeper.ask(records([1, 2]))
    second = keeper.ask(records([1, 7]))
    back = keeper.ask(records([1, 2]))

    assert [(each.record, each.label) for each in second.drawn] == [(digest(1), 7)]
    assert second.most_micro == 4 * MICRO
    assert back.drawn == ()
    assert back.answers == first.answers


def test_label_without_budget_keeps_its_last_answer() -> None:
    keeper = Keeper()
    found = [keeper.ask(records([label])) for label in (1, 2, 3, 4)]

    assert [len(each.drawn) for each in found] == [1, 1, 1, 0]
    assert found[3].answers == found[2].answers
    assert found[3].outdated == 1
    assert found[3].most_micro == 6 * MICRO


def test_record_without_budget_is_left_out() -> None:
    found = Keeper().ask(records([1]), replace(TERMS, cap_micro=MICRO))

    assert (found.order, found.left_out, found.most_micro) == ((), 1, 0)


def test_other_terms_draw_anew_and_add_up() -> None:
    keeper, asked = Keeper(), records([1, 2])
    keeper.ask(asked)
    weaker = keeper.ask(asked, replace(TERMS, epsilon_micro=MICRO))
    third = keeper.ask(asked, replace(TERMS, classes=11))

    assert weaker.most_micro == 3 * MICRO
    assert third.most_micro == 5 * MICRO


def test_inputs_of_another_form_count_for_every_record() -> None:
    keeper = Keeper()
    keeper.ask(records([1, 2]))
    keeper.ask(records([1, 5]))
    other = replace(TERMS, inputs=b"j" * DIGEST_BYTES)
    found = keeper.ask([(digest(99), 1)], other)

    # The dearest label of the others had paid 4, whichever record that is here.
    assert found.most_micro == 6 * MICRO
    assert (
        keeper.ask([(digest(98), 1)], replace(other, cap_micro=5 * MICRO)).order == ()
    )


def test_each_forgotten_life_counts_one_draw_of_every_label() -> None:
    keeper = Keeper()
    keeper.ask(records([1]))
    lost = replace(TERMS, losses=2)

    assert keeper.ask(records([1]), lost).most_micro == 6 * MICRO
    assert keeper.ask(records([2]), lost).drawn == ()
    assert keeper.ask([(digest(7), 2)], lost).drawn != ()
    assert keeper.ask([(digest(8), 2)], replace(TERMS, losses=3)).left_out == 1


def test_twins_have_an_answer_each_and_one_that_changes_redraws_itself_alone() -> None:
    keeper, same = Keeper(), digest(1)
    asked = [(same, 4), (same, 5), (same, 4)]
    first = keeper.ask(asked)
    changed = [(same, 9), (same, 4), (same, 4)]
    second = keeper.ask(changed)

    assert [(each.twin, each.label) for each in first.drawn] == [(0, 4), (1, 5), (2, 4)]
    assert [(each.twin, each.label) for each in second.drawn] == [(1, 9)]
    kept = Counter(first.answers) - Counter([first.answers[1]])
    assert Counter(second.answers) - Counter([second.drawn[0].answer]) == kept


@given(
    before=st.lists(st.integers(0, 3), min_size=1, max_size=8),
    place=st.integers(0, 7),
    label=st.integers(0, 3),
    twins=st.booleans(),
)
@settings(deadline=None)
def test_one_changed_label_moves_one_answer_and_no_order(
    before: list[int], place: int, label: int, twins: bool
) -> None:
    keeper = Keeper()
    key = digest(5) if twins else None
    asked = [(key or digest(at), each) for at, each in enumerate(before)]
    changed = list(asked)
    changed[place % len(asked)] = (asked[place % len(asked)][0], label)
    first, second = keeper.ask(asked), keeper.ask(changed)

    assert len(second.drawn) <= 1
    moved = by_record(first, asked) - by_record(second, changed)
    assert moved.total() <= 1
    assert [asked[at][0] for at in first.order] == [
        changed[at][0] for at in second.order
    ]


def test_order_follows_from_inputs_and_not_from_how_files_are_sorted() -> None:
    # Folders by class read one after the other: their order is the labels'.
    by_class = [(digest(9), 0), (digest(2), 1), (digest(5), 2)]
    found = Keeper().ask(by_class)

    assert [by_class[at][0] for at in found.order] == [digest(2), digest(5), digest(9)]


def test_many_twins_take_no_time_to_place() -> None:
    same = [(digest(1), number % 10) for number in range(20_000)]
    keeper = Keeper()
    keeper.ask(same)

    assert keeper.ask(list(reversed(same))).drawn == ()


def test_journal_that_holds_no_batch_is_refused() -> None:
    (sound,) = batches_of(INPUTS, 10, MICRO, [])
    with pytest.raises(StorageError, match="label journal, entry 1"):
        LabelLedger.load([sound, sound[:-1]])
    assert BATCH.unpack(sound).classes == 10


def test_terms_out_of_bounds_are_refused() -> None:
    with pytest.raises(ConfigError):
        LabelLedger().respond(records([0]), replace(TERMS, classes=1), stream(0))

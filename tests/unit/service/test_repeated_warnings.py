"""A failure that goes on is told once an hour."""

from starling.service.repeated_warnings import EVERY_S, KEPT_MAX, RepeatedWarnings


def test_same_text_is_told_once_in_a_period() -> None:
    told = RepeatedWarnings()

    moments = [0.0, 1.0, EVERY_S - 1, EVERY_S, EVERY_S + 1, 2 * EVERY_S]
    new = [now_s for now_s in moments if told.is_new("refused", now_s)]

    assert new == [0.0, EVERY_S, 2 * EVERY_S]


def test_texts_in_turn_do_not_bring_each_other_back() -> None:
    told = RepeatedWarnings()

    new = [text for text in "abab" if told.is_new(text, 0.0)]

    assert new == ["a", "b"]


def test_after_the_failure_ended_it_is_told_again() -> None:
    told = RepeatedWarnings()

    assert told.is_new("refused", 0.0)
    told.forget()

    assert told.is_new("refused", 1.0)


def test_what_is_kept_has_a_bound_and_loses_the_oldest() -> None:
    told = RepeatedWarnings()

    for number in range(KEPT_MAX + 1):
        assert told.is_new(str(number), 0.0)

    assert told.is_new("0", 1.0)
    assert not told.is_new(str(KEPT_MAX), 1.0)

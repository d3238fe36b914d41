"""When coordinators count as level after a fault, by statuses of several ages."""

from benchmarks.recovery import SHOWN_S, nobody_is_behind


def test_statuses_of_one_second_may_differ_by_several_heights() -> None:
    tops = [(0.0, 40), (SHOWN_S, 46)]

    assert nobody_is_behind([40, 43, 46, 44], tops, SHOWN_S)


def test_who_lacks_what_was_shown_long_ago_is_behind() -> None:
    tops = [(0.0, 40), (SHOWN_S, 46)]

    assert not nobody_is_behind([39, 46, 46, 46], tops, SHOWN_S)


def test_nothing_is_known_before_statuses_were_seen_for_long_enough() -> None:
    assert not nobody_is_behind([7, 7], [(0.0, 7)], SHOWN_S / 2)

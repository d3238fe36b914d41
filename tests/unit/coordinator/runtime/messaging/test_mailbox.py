"""What wakes the loop, what waits for something else to do so, and nothing is lost."""

import threading

import pytest

from starling.coordinator.runtime.messaging.mailbox import (
    QUIET_MAX,
    Mailbox,
)


@pytest.fixture
def box() -> Mailbox[int]:
    return Mailbox()


def test_items_come_in_order_quiet_ones_among_them(box: Mailbox[int]) -> None:
    box.put_quietly(1)
    box.put(2)
    box.put_quietly(3)
    assert box.take(60.0, 10) == [1, 2, 3]
    assert box.take(0.0, 10) == []


def test_quiet_item_is_there_when_the_wait_is_over(box: Mailbox[int]) -> None:
    box.put_quietly(1)
    assert box.take(0.0, 10) == [1]


def test_many_quiet_items_wake(box: Mailbox[int]) -> None:
    for number in range(QUIET_MAX):
        box.put_quietly(number)
    assert box.take(60.0, QUIET_MAX) == list(range(QUIET_MAX))


def test_what_is_left_over_wakes_at_once(box: Mailbox[int]) -> None:
    for number in range(5):
        box.put(number)
    assert box.take(60.0, 3) == [0, 1, 2]
    assert box.take(60.0, 3) == [3, 4]


def test_nothing_is_lost_between_threads(box: Mailbox[int]) -> None:
    count, writers = 2000, 4

    def write(first: int) -> None:
        for number in range(first, count * writers, writers):
            (box.put_quietly if number % 3 else box.put)(number)

    threads = [threading.Thread(target=write, args=(each,)) for each in range(writers)]
    for thread in threads:
        thread.start()
    taken: list[int] = []
    while len(taken) < count * writers:
        taken += box.take(0.05, 100)
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(count * writers))
    for first in range(writers):
        own = [number for number in taken if number % writers == first]
        assert own == sorted(own)

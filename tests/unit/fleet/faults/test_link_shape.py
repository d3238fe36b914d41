"""Links that are late, narrow or lossy: when what went over them arrives."""

import pytest

from starling.fleet.faults.board_faults import board_faults
from starling.fleet.faults.link_shape import (
    LinkOrders,
    LinkQueue,
    LinkShape,
    link_orders,
)


def test_link_without_a_shape_delivers_at_once() -> None:
    link = LinkQueue()

    assert [link.send(1000, at_s, LinkShape(), 0) for at_s in (1.0, 1.0, 2.5)] == [
        1.0,
        1.0,
        2.5,
    ]


def test_delay_is_the_same_for_all_that_is_sent_meanwhile() -> None:
    link = LinkQueue()

    assert [link.send(9, at_s, LinkShape(0.5), 0) for at_s in (1.0, 1.1)] == [1.5, 1.6]


def test_narrow_link_sends_one_after_the_other() -> None:
    link, shape = LinkQueue(), LinkShape(bit_s=8000.0)

    # 1,000 bytes take a second.
    assert [link.send(1000, 0.0, shape, 0) for _ in range(3)] == [1.0, 2.0, 3.0]
    assert link.send(1000, 10.0, shape, 0) == 11.0


def test_lost_segment_comes_later_and_holds_up_what_is_behind_it() -> None:
    link, shape = LinkQueue(), LinkShape(lost=0.5)

    found = [link.send(9, 0.0, shape, losses) for losses in (0, 2, 0)]

    assert found == pytest.approx([0.0, 0.6, 0.6])


def test_lost_segment_is_paid_for_again_on_a_narrow_link() -> None:
    link = LinkQueue()

    assert link.send(1000, 0.0, LinkShape(bit_s=8000.0, lost=0.5), 1) == 2.2


def test_orders_name_only_links_with_a_shape() -> None:
    faults = board_faults(
        "link of board 1 delays 100ms from 1s to 9s; link of board 1 delays 50ms from "
        "2s to 9s; links of boards 1-2 carry 64 kbit/s from 3s to 9s; link of board 2 "
        "carries 8 kbit/s from 3s to 5s; link of board 3 drops 100 % from 1s; board 4 "
        "pauses from 1s",
        4,
    )

    assert link_orders(faults, 0.5) == LinkOrders()
    assert link_orders(faults, 2.0) == LinkOrders(((1, LinkShape(0.1)),))
    assert link_orders(faults, 4.0) == LinkOrders(
        ((1, LinkShape(0.1, 64_000.0)), (2, LinkShape(0.0, 8000.0)))
    )
    assert dict(link_orders(faults, 6.0).shapes)[2] == LinkShape(0.0, 64_000.0)
    assert link_orders(faults, 9.0) == LinkOrders()


def test_cut_takes_no_part_in_what_else_a_link_loses() -> None:
    faults = board_faults(
        "link of board 1 drops 100 % from 0s to 5s; link of board 1 drops 30 % from "
        "0s to 9s",
        1,
    )
    lossy = LinkOrders(((1, LinkShape(lost=0.3)),))

    # Orders are not given anew when a cut ends.
    assert [link_orders(faults, at_s) for at_s in (1.0, 6.0)] == [lossy, lossy]

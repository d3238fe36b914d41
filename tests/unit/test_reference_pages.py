"""Pages that are written from tables say what the tables say."""

import pytest

from starling.protocol.errors import Reason
from starling.protocol.refusals import REFUSALS
from tests.reference_pages import DOCS, PAGES


@pytest.mark.parametrize("name", PAGES)
def test_page_is_what_the_tables_give(name: str) -> None:
    assert (DOCS / name).read_text("utf-8") == PAGES[name]()


def test_every_reason_has_its_row_in_the_order_of_the_wire() -> None:
    assert list(REFUSALS) == sorted(Reason)
    assert all(row.reason is reason for reason, row in REFUSALS.items())


def test_reasons_are_told_apart_by_meaning_and_remedy() -> None:
    assert len({(row.meaning, row.remedy) for row in REFUSALS.values()}) == len(Reason)


def test_only_what_may_change_by_itself_is_tried_again() -> None:
    again = {row.reason for row in REFUSALS.values() if row.retry_after_s}
    assert again == {
        Reason.BUSY,
        Reason.CLOSED,
        Reason.INCOMPLETE,
        Reason.NO_LEASE,
        Reason.NOT_ENROLLED,
        Reason.PAUSED,
        Reason.QUARANTINED,
        Reason.UNKNOWN_TASK,
    }

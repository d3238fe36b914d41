"""Ten thousand boards are found, sorted and paged."""

import re

import pytest

from starling.console.chain_facts import (
    BlockFacts,
    ChainFacts,
    RegisteredBoard,
    TransactionFacts,
)
from starling.console.pages.boards import (
    FILTER_CHARS_MAX,
    ROWS_A_PAGE,
    BoardQuery,
    board,
    boards,
    query,
)
from starling.console.pages.layout import PageFrame
from tests.unit.console.status_documents import HOSTILE, document, frame
from tests.unit.console.status_documents import board as row

MANY = 10_000


def named(number: int) -> str:
    return f"{number:026d}"


def registry(count: int) -> ChainFacts:
    listed = {
        named(n): RegisteredBoard(named(n), n + 1, 0, n % 7, 0, 0) for n in range(count)
    }
    return ChainFacts("meadow", boards=listed, caps={0: 8.0})


def many() -> PageFrame:
    made = document()
    made["devices"] = [
        row(named(n), "TRAINING", epsilon=float(n), updates_refused={"STALE": n})
        for n in range(2000)
    ]
    return frame(made)


def shown(page: str) -> list[str]:
    return re.findall(r'href="/boards/([0-9]{26})"', page)


def test_page_of_ten_thousand_boards_has_a_hundred_and_is_small() -> None:
    page = boards(many(), registry(MANY), BoardQuery())

    assert shown(page) == [named(n) for n in range(ROWS_A_PAGE)]
    assert "10,000 boards, page 1 of 100" in page
    assert len(page.encode()) < 60_000
    assert 'href="/boards?page=2">next' in page


def test_last_page_and_one_beyond_it_are_the_last_one() -> None:
    last = boards(many(), registry(MANY), BoardQuery(page=100))

    assert shown(last) == [named(n) for n in range(MANY - ROWS_A_PAGE, MANY)]
    assert boards(many(), registry(MANY), BoardQuery(page=999)) == last


def test_boards_are_found_by_id_and_state() -> None:
    asked = BoardQuery(text="0001999")
    assert shown(boards(many(), registry(MANY), asked)) == [named(1999)]
    unseen = boards(many(), registry(MANY), BoardQuery(state="UNSEEN"))
    assert "8,000 boards, page 1 of 80" in unseen
    nobody = boards(many(), registry(MANY), BoardQuery(text="zz"))
    assert "0 boards, page 1 of 1" in nobody


def test_boards_are_sorted_either_way_and_unknown_figures_last() -> None:
    down = boards(many(), registry(MANY), BoardQuery(sort="epsilon", descending=True))
    up = boards(many(), registry(2000), BoardQuery(sort="refused"))

    assert shown(down)[:2] == [named(1999), named(1998)]
    assert shown(up)[:2] == [named(0), named(1)]
    assert 'order=up">epsilon ▼' in down


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, BoardQuery()),
        ({"q": " ABC ", "state": "LOST"}, BoardQuery("abc", "LOST")),
        ({"state": "<b>", "sort": "__class__", "order": "x"}, BoardQuery()),
        ({"page": "-1"}, BoardQuery()),
        ({"page": "²"}, BoardQuery()),
        ({"page": "9" * 100}, BoardQuery(page=999_999_999)),
        ({"q": "x" * 999}, BoardQuery("x" * FILTER_CHARS_MAX)),
        ({"sort": "up", "order": "down"}, BoardQuery(sort="up", descending=True)),
    ],
)
def test_query_takes_only_what_is_known(
    given: dict[str, str], expected: BoardQuery
) -> None:
    assert query(given) == expected


def test_hostile_filter_and_board_are_text() -> None:
    made = document()
    made["devices"] = [row(HOSTILE, HOSTILE, updates_refused={HOSTILE: 1})]

    page = boards(frame(made), ChainFacts(), BoardQuery())
    one = board(frame(made), ChainFacts(), HOSTILE)
    asked = boards(frame(made), ChainFacts(), BoardQuery(text=HOSTILE))

    assert one is not None
    for text in (page, one, asked):
        assert "<script>alert" not in text


def test_one_board_has_its_life() -> None:
    name = named(3)
    sent = TransactionFacts("update", "ab" * 32, name)
    block = BlockFacts(9, "cd" * 32, 0, "north", ("north",), 0, (sent,))
    listed = {name: RegisteredBoard(name, 4, 12, 7, 0, 2)}
    chain = ChainFacts("meadow", blocks=(block,), boards=listed, caps={0: 8.0})

    page = board(many(), chain, name)

    assert page is not None
    for text in (
        "revoked at height 12",
        "<dt>epsilon paid</dt><dd>3</dd>",
        "<dt>epsilon cap of the tasks</dt><dd>8</dd>",
        "<dt>updates on the chain</dt><dd>7</dd>",
        '>STALE</td><td data-head="updates">3</td>',
        'href="/chain/9"',
        "ab" * 32,
    ):
        assert text in page, text
    assert board(many(), chain, "nobody") is None

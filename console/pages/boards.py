"""Boards: those of the chain's registry and those that were met, and one of them."""

from dataclasses import dataclass

from starling.console.chain_facts import ChainFacts, RegisteredBoard
from starling.console.markup import Html, address, element, joined, table
from starling.console.pages.layout import (
    OperatorFrame,
    PageFrame,
    act,
    admission,
    board_link,
    card,
    figures,
    optional,
    page,
    paid,
    size,
    trouble,
)
from starling.console.status_facts import BoardFacts
from starling.protocol.wire.message_bodies import DevicePhase

ROWS_A_PAGE = 100
FILTER_CHARS_MAX = 64
UNSEEN = "UNSEEN"
"""State of a board that the chain has and this coordinator did not meet lately."""
STATES = (*(phase.name for phase in DevicePhase), UNSEEN)
COLUMNS = ("id", "state", "updates", "refused", "epsilon", "up")
"""Ways to sort."""


@dataclass(frozen=True)
class BoardQuery:
    """Choice of rows.

    Attributes:
      text: That an id must have in it.
      state: One of `STATES`; empty for all.
      sort: One of `COLUMNS`.
      descending: Whether the largest comes first.
      page: From 1.
    """

    text: str = ""
    state: str = ""
    sort: str = "id"
    descending: bool = False
    page: int = 1


def query(given: dict[str, str]) -> BoardQuery:
    """A choice from a query string; what is not known is as if it were not given."""
    state, sort, number = given.get("state", ""), given.get("sort", ""), 1
    if (digits := given.get("page", "")).isascii() and digits.isdigit():
        number = max(1, int(digits[:9]))
    return BoardQuery(
        given.get("q", "")[:FILTER_CHARS_MAX].strip().lower(),
        state if state in STATES else "",
        sort if sort in COLUMNS else "id",
        given.get("order") == "down",
        number,
    )


@dataclass(frozen=True)
class _BoardRow:
    id: str
    state: str
    updates: int
    refused: int
    epsilon: float | None
    up: int
    mark: str


def boards(
    frame: PageFrame, chain: ChainFacts, asked: BoardQuery, newcomers: int = 0
) -> Html:
    """The page of all boards.

    Args:
      frame: Around it.
      chain: With the registry.
      asked: Which rows.
      newcomers: Who came with a token and wait for an operator.
    """
    rows = [row for row in _rows(frame, chain) if _is_chosen(row, asked)]
    # Sorting is stable: equal rows stay in order of id, from page to page.
    rows.sort(key=lambda row: row.id)
    if asked.sort != "id" or asked.descending:
        rows.sort(key=lambda row: _key(row, asked.sort), reverse=asked.descending)
    last = max(1, -(-len(rows) // ROWS_A_PAGE))
    # Rows may be gone since the link was made.
    number = min(asked.page, last)
    shown = rows[(number - 1) * ROWS_A_PAGE : number * ROWS_A_PAGE]
    count = f"{len(rows):,} boards" if len(rows) != 1 else "1 board"
    return page(
        frame,
        "/boards",
        "Boards",
        _filter(asked),
        element("p", f"{count}, page {number} of {last}", class_="faint"),
        table(_heads(asked), [_cells(row) for row in shown], "Boards"),
        _pages(asked, number, last),
        admission(frame.operator, newcomers),
    )


def _rows(frame: PageFrame, chain: ChainFacts) -> list[_BoardRow]:
    met = {} if frame.facts is None else {row.id: row for row in frame.facts.boards}
    return [
        _row(board_id, met.get(board_id), chain.boards.get(board_id))
        for board_id in {**chain.boards, **met}
    ]


def _row(
    board_id: str, met: BoardFacts | None, registered: RegisteredBoard | None
) -> _BoardRow:
    mark = "" if registered is not None else "not registered"
    if registered is not None and registered.jailed:
        mark = f"convicted; jailed until height {registered.jailed}"
    if registered is not None and registered.revoked:
        mark = f"revoked at height {registered.revoked}"
    updates = registered.updates if registered else 0
    if met is None:
        return _BoardRow(board_id, UNSEEN, updates, 0, None, 0, mark)
    refused = sum(met.refused.values())
    updates = max(updates, met.accepted)
    return _BoardRow(
        board_id, met.phase, updates, refused, met.epsilon, met.bytes_up, mark
    )


def _is_chosen(row: _BoardRow, asked: BoardQuery) -> bool:
    return asked.text in row.id and asked.state in ("", row.state)


def _key(row: _BoardRow, column: str) -> tuple[float, str]:
    if column in ("id", "state"):
        return 0.0, row.id if column == "id" else row.state
    value: float | None = getattr(row, column)
    return -1.0 if value is None else float(value), ""


def _cells(row: _BoardRow) -> tuple[str, ...]:
    return (
        board_link(row.id),
        row.state.lower(),
        f"{row.updates:,}",
        f"{row.refused:,}",
        paid(row.epsilon, row.updates, ".3g"),
        size(row.up),
        trouble(row.mark) if row.mark else "",
    )


def _parameters(asked: BoardQuery) -> dict[str, str | int]:
    return {
        "q": asked.text,
        "state": asked.state,
        "sort": "" if asked.sort == "id" else asked.sort,
        "order": "down" if asked.descending else "",
    }


def _heads(asked: BoardQuery) -> tuple[str, ...]:
    heads = []
    for column in COLUMNS:
        same = column == asked.sort
        # Numbers are wanted from the largest down first.
        down = not asked.descending if same else column not in ("id", "state")
        kept = _parameters(asked) | {"sort": column, "order": "down" if down else "up"}
        arrow = (" ▼" if asked.descending else " ▲") if same else ""
        text = "sent" if column == "up" else column
        heads.append(element("a", text + arrow, href=address("/boards", **kept)))
    return (*heads, "remark")


def _filter(asked: BoardQuery) -> Html:
    options = [
        element("option", state.lower(), value=state, selected=state == asked.state)
        for state in STATES
    ]
    every = element("option", "every state", value="")
    return element(
        "form",
        element("label", "Id contains ", _search(asked)),
        element("label", "State ", element("select", every, *options, name="state")),
        element("button", "Show"),
        action="/boards",
        method="get",
        role="search",
    )


def _search(asked: BoardQuery) -> Html:
    return element(
        "input", type="search", name="q", value=asked.text, maxlength=FILTER_CHARS_MAX
    )


def _pages(asked: BoardQuery, number: int, last: int) -> Html:
    wanted = (
        ("first", 1, number > 1),
        ("previous", number - 1, number > 1),
        ("next", number + 1, number < last),
        ("last", last, number < last),
    )
    links = [
        element("a", text, href=address("/boards", **_parameters(asked), page=to))
        for text, to, is_there in wanted
        if is_there
    ]
    return element("nav", *links, class_="pages", aria_label="Pages of boards")


def board(frame: PageFrame, chain: ChainFacts, board_id: str) -> Html | None:
    """One board's page; None if nobody knows it."""
    listed = frame.facts.boards if frame.facts else ()
    met = next((row for row in listed if row.id == board_id), None)
    registered = chain.boards.get(board_id)
    if met is None and registered is None:
        return None
    row = _row(board_id, met, registered)
    parts = [element("p", trouble(row.mark))] if row.mark else []
    cap = max(chain.caps.values(), default=None)
    known: list[tuple[str, str | int]] = [
        ("state", row.state.lower()),
        ("updates on the chain", f"{row.updates:,}"),
        ("epsilon paid", paid(row.epsilon, row.updates, ".4g")),
        ("epsilon cap of the tasks", optional(cap, ".4g")),
        ("sent", size(row.up)),
        ("received", size(met.bytes_down if met else 0)),
        ("messages ignored", f"{met.ignored if met else 0:,}"),
    ]
    if registered is not None:
        known.append(("registered at height", f"{registered.registered:,}"))
        known.append(("keys changed", f"{registered.rotations:,}"))
    refused = sorted(met.refused.items()) if met else []
    rows: list[tuple[str | int | None, ...]] = [
        (reason, f"{count:,}") for reason, count in refused
    ]
    refusals = (
        table(("reason", "updates"), rows, "Refusals of this board")
        if rows
        else element("p", "None.")
    )
    return page(
        frame,
        "/boards",
        "Board",
        element("p", element("code", board_id)),
        *parts,
        card("Now", figures(known)),
        card("Refusals", refusals),
        _recent(chain, board_id),
        _exclusion(frame.operator, board_id, registered),
    )


def _exclusion(
    operator: OperatorFrame | None, board_id: str, registered: RegisteredBoard | None
) -> Html:
    """The form that excludes a board, for an operator."""
    if operator is None or registered is None or registered.revoked:
        return Html("")
    sure = element("input", type="checkbox", name="sure", value="1", required=True)
    form = act(
        operator,
        "/act/revoke",
        element("label", sure, " for good: it cannot be admitted again"),
        element("button", "Exclude the board"),
        board=board_id,
    )
    return card("Exclude", form)


def _recent(chain: ChainFacts, board_id: str) -> Html:
    rows: list[tuple[str | int | None, ...]] = [
        (
            element("a", f"{block.height:,}", href=f"/chain/{block.height}"),
            sent.kind,
            joined(element("code", sent.id)),
        )
        for block in chain.blocks
        for sent in block.transactions or ()
        if sent.sender == board_id
    ]
    if not rows:
        return card("In the last blocks", element("p", "Nothing."))
    heads = ("height", "kind", "transaction")
    return card("In the last blocks", table(heads, rows, "Transactions of this board"))

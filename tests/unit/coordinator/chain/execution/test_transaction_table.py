"""The table of transactions: complete, exported, sent by somebody, and documented."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from starling.coordinator.chain.execution.transaction_table import (
    TRANSACTIONS,
    Transaction,
)
from starling.coordinator.chain.verification import plain_values
from starling.protocol.wire.envelope import MessageKind
from tests.unit.coordinator.fixtures.small_chain import SmallChain
from tests.unit.coordinator.fixtures.small_genesis import board_key
from tests.vectors.protocol_structures import STRUCTURES

ROOT = Path(__file__).parents[5]
CHAIN = (ROOT / "docs" / "chain.md").read_text("utf-8")
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text("utf-8")
PROGRAMS = ("agent", "coordinator", "protocol")
"""Packages whose modules send transactions; a virtual fleet stands in for operators."""

every = pytest.mark.parametrize(
    "row", TRANSACTIONS.values(), ids=lambda row: row.kind.name
)


def test_transactions_are_the_kinds_below_64() -> None:
    assert {kind for kind in MessageKind if kind < 64} == set(TRANSACTIONS)


@every
def test_export_of_each_kind_names_the_fields_of_its_body(row: Transaction) -> None:
    sample = next(each for each in STRUCTURES if each.codec is row.codec)
    envelope = SmallChain().sign(board_key(0), row.kind, row.codec.pack(sample.example))
    assert plain_values.body(envelope) == plain_values.plain(sample.example)


@cache
def _trees() -> dict[str, ast.Module]:
    """Syntax tree of each module of the programs, by its name below `starling`."""
    files = (file for name in PROGRAMS for file in (ROOT / name).rglob("*.py"))
    return {
        ".".join(file.relative_to(ROOT).with_suffix("").parts): ast.parse(
            file.read_text("utf-8")
        )
        for file in files
    }


def _values_of(node: ast.AST) -> list[ast.expr]:
    """Arguments of a call, or values of a tuple that is returned."""
    match node:
        case ast.Call(func=ast.Name(id="Transaction")):
            return []
        case ast.Call(args=values) | ast.Return(value=ast.Tuple(elts=values)):
            return values
        case _:
            return []


@cache
def _signed() -> dict[str, set[str]]:
    """Modules that hand a kind to a call, or return it with a body: they send it."""
    found: dict[str, set[str]] = {}
    for name, tree in _trees().items():
        for value in (each for node in ast.walk(tree) for each in _values_of(node)):
            match value:
                case ast.Attribute(value=ast.Name(id="MessageKind"), attr=kind):
                    found.setdefault(kind, set()).add(name)
                case _:
                    pass
    return found


@cache
def _imported() -> set[str]:
    """Modules that another one of the programs imports, or takes a name from."""
    found = set()
    for tree in _trees().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                origin = node.module.removeprefix("starling.")
                found.add(origin)
                found.update(f"{origin}.{alias.name}" for alias in node.names)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                # Commands import a verb's module by its name.
                found.add(node.value.removeprefix("starling."))
    return found


@every
def test_each_kind_is_signed_by_the_modules_that_the_table_names(
    row: Transaction,
) -> None:
    found = _signed().get(row.kind.name, set())
    assert found == set(row.senders)
    assert found
    assert found <= _imported()


def _cells(text: str, heading: str) -> list[list[str]]:
    """Rows of the first table at or below a line that begins with `heading`."""
    table = re.search(r"(?:^\|.*\n)+", text[text.index(f"\n{heading}") + 1 :], re.M)
    assert table is not None
    rows = [line.strip("| ").split(" | ") for line in table[0].splitlines()]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def test_page_of_the_chain_has_each_kind_and_its_signer_in_order() -> None:
    rows = [(row[0], row[1]) for row in _cells(CHAIN, "## Transactions")]
    assert rows == [(each.kind.name, each.signer) for each in TRANSACTIONS.values()]


def test_page_of_the_protocol_has_each_kind_with_its_number() -> None:
    told = [
        (name, int(number))
        for kinds, numbers, *_, last in _cells(PROTOCOL, "| kind | number | from")
        if last == "yes"
        for name, number in zip(kinds.split(", "), numbers.split(", "), strict=True)
    ]
    assert told == [(each.kind.name, each.kind.value) for each in TRANSACTIONS.values()]


@every
def test_anchor_of_each_kind_is_a_section_that_names_it(
    row: Transaction,
) -> None:
    sections = {
        re.sub(r"[^a-z0-9 ]", "", title.lower()).replace(" ", "-"): body
        for title, body in re.findall(
            r"^##+ (.*)\n((?:(?!##).*\n?)*)", CHAIN, flags=re.M
        )
    }
    assert re.search(rf"\b{row.kind.name}\b", sections[row.anchor])

"""State tables: each record has one, under a prefix of its own, and is documented."""

import importlib
import pkgutil
import re
from pathlib import Path
from typing import Any

import pytest

from starling.coordinator import chain
from starling.coordinator.chain.state import board_records, task_records
from starling.coordinator.chain.state.overlay import StateOverlay
from starling.coordinator.chain.state.state_table import (
    NUMBER,
    Table,
    alone,
    by_number,
    by_task_and_identity,
    by_task_and_number,
    by_task_version_and_identity,
    by_task_version_and_page,
)
from starling.coordinator.chain.tasks import rewards, scores
from starling.protocol.chain import board_statement, light_client
from starling.protocol.crypto.state_tree import StateTree
from starling.protocol.errors import ProofError

PAGE = Path(__file__).parents[5] / "docs" / "chain.md"
COUNTS = Table(b"count/", by_number, NUMBER)
NAME = bytes(range(32))


def tables() -> dict[bytes, Table[..., Any]]:
    """Every table of the chain's modules, by prefix."""
    found: dict[int, Table[..., Any]] = {}
    for info in pkgutil.walk_packages(chain.__path__, f"{chain.__name__}."):
        for value in vars(importlib.import_module(info.name)).values():
            if isinstance(value, Table):
                found[id(value)] = value
    prefixes = [table.prefix for table in found.values()]
    assert len(prefixes) == len(set(prefixes))
    return {table.prefix: table for table in found.values()}


def test_table_writes_reads_proves_and_drops_a_record() -> None:
    draft = StateOverlay(StateTree())
    assert COUNTS.get(draft, 7) is None
    assert not COUNTS.has(draft, 7)
    COUNTS.put(draft, 300, 7)
    tree = StateTree().update(draft.changes)
    assert COUNTS.get(tree, 7) == 300
    assert COUNTS.has(tree, 7)
    proof = COUNTS.prove(tree, 7)
    assert (proof.key, proof.value) == (b"count/7", NUMBER.pack(300))
    COUNTS.drop(draft, 7)
    assert COUNTS.get(draft, 7) is None
    with pytest.raises(ProofError):
        COUNTS.prove(tree, 8)


@pytest.mark.parametrize(
    ("made", "rest"),
    [
        (alone(), b""),
        (by_number(12), b"12"),
        (by_task_and_number(1, 2), b"1/2"),
        (by_task_and_identity(1, b"\x00/"), b"1/\x00/"),
        (by_task_version_and_page(1, 2, 3), b"1/2/3"),
        (by_task_version_and_identity(1, 2, b"\xff"), b"1/2/\xff"),
    ],
)
def test_rest_of_a_key_names_its_parts_in_order(made: bytes, rest: bytes) -> None:
    assert made == rest


def test_keys_that_boards_prove_are_those_of_the_tables() -> None:
    assert board_records.BOARDS.key(NAME) == board_statement.board_key(NAME)
    assert task_records.PROGRESS.key(3) == board_statement.head_key(3)
    assert task_records.TASKS.key(3) == light_client.task_key(3)
    assert task_records.VERSIONS.key(3, 9) == light_client.version_key(3, 9)
    assert scores.MEDIANS.key(3, 9) == light_client.scores_key(3, 9)
    assert rewards.PAYMENT_PAGES.key(3, 9, 1) == light_client.payments_key(3, 9, 1)


def test_page_of_the_chain_names_every_table_and_no_other() -> None:
    section = PAGE.read_text("utf-8").split("\n## State\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    cells = [line.split("|")[1] for line in rows[2:]]
    named = [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]
    prefixes = [re.sub(r"<.*", "", name).encode() for name in named]
    assert sorted(prefixes) == sorted(tables())

"""No field travels for nobody: each is read in a package that receives it."""

import ast
import dataclasses
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from starling.protocol.chain.update_scores import Score, Scores
from starling.protocol.wire.message_bodies import DeviceState
from tests.vectors.protocol_structures import STRUCTURES

ROOT = Path(__file__).parents[2]
RECEIVERS = {
    "CHECK_IN": ("coordinator", "protocol"),
    "CHUNK_REQUEST": ("coordinator", "protocol"),
    "DEVICE_STATE": ("coordinator", "protocol", "fleet"),
    "CONTRIBUTION": ("coordinator", "protocol"),
    "FORFEIT": ("coordinator", "protocol"),
    "ROTATE": ("coordinator", "protocol"),
    "LEASE": ("agent", "coordinator", "protocol"),
    "ACCEPTED": ("agent", "protocol"),
    "REFUSED": ("agent", "protocol"),
    "STATEMENT": ("agent", "protocol"),
}
"""Packages that read what a board or a coordinator sends; else those below."""
PROGRAMS = ("agent", "coordinator", "protocol", "compiler", "engine")
WITHOUT_READER = {
    (DeviceState, "boot"),
    (Scores, "medians"),
}
"""For people who look at a broker, and at a proof of `chain prove --score`."""


@cache
def _trees(package: str) -> list[ast.Module]:
    files = sorted((ROOT / package).rglob("*.py"))
    return [ast.parse(file.read_text("utf-8")) for file in files]


@cache
def _read(package: str) -> set[str]:
    """Attributes that a package reads, by name."""
    return {
        node.attr
        for tree in _trees(package)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }


@cache
def _matched(package: str) -> set[tuple[str, int | str]]:
    """Fields that patterns of a package take, by class and place or name."""
    found: set[tuple[str, int | str]] = set()
    for node in (each for tree in _trees(package) for each in ast.walk(tree)):
        if isinstance(node, ast.MatchClass):
            name = ast.unparse(node.cls).rpartition(".")[2]
            found.update((name, place) for place in range(len(node.patterns)))
            found.update((name, field) for field in node.kwd_attrs)
    return found


def _fields() -> Iterator[tuple[str, type, int, str]]:
    for structure in STRUCTURES:
        assert dataclasses.is_dataclass(structure.example)
        cls = type(structure.example)
        for place, field in enumerate(dataclasses.fields(structure.example)):
            if not field.name.startswith("_"):
                yield structure.name, cls, place, field.name


def _is_read(name: str, cls: type, place: int, field: str) -> bool:
    return any(
        field in _read(package)
        or not {(cls.__name__, place), (cls.__name__, field)}.isdisjoint(
            _matched(package)
        )
        for package in RECEIVERS.get(name, PROGRAMS)
    )


@pytest.mark.parametrize(
    ("name", "cls", "place", "field"),
    [pytest.param(*each, id=f"{each[0]}.{each[3]}") for each in _fields()],
)
def test_field_is_read_by_whom_it_is_sent_to(
    name: str, cls: type, place: int, field: str
) -> None:
    assert _is_read(name, cls, place, field) == ((cls, field) not in WITHOUT_READER)


def test_names_of_receivers_are_those_of_structures() -> None:
    assert set(RECEIVERS) <= {structure.name for structure in STRUCTURES}


def test_scores_of_updates_are_read_for_the_reputation_to_come() -> None:
    assert all(
        _is_read("SCORE", Score, place, field.name)
        for place, field in enumerate(dataclasses.fields(Score))
    )

"""Trees against the RFC's own recursive definition, and proofs that do not bend."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starling.protocol.crypto.merkle import (
    EMPTY_ROOT,
    leaf_hash,
    node_hash,
    path,
    root,
    root_from_path,
)
from starling.protocol.errors import ProofError
from starling.protocol.ids import Digest, H

SIZES = range(1, 41)


def entries_of(size: int) -> list[bytes]:
    return [b"entry %d" % i for i in range(size)]


def slow_root(entries: Sequence[bytes]) -> Digest:
    """MTH of RFC 6962 section 2.1, word by word."""
    if not entries:
        return H(b"")
    if len(entries) == 1:
        return H(b"\x00" + entries[0])
    k = power_below(len(entries))
    return H(b"\x01" + slow_root(entries[:k]) + slow_root(entries[k:]))


def slow_path(m: int, entries: Sequence[bytes]) -> list[Digest]:
    """PATH(m, D) of RFC 6962 section 2.1.1, word by word."""
    if len(entries) == 1:
        return []
    k = power_below(len(entries))
    if m < k:
        return [*slow_path(m, entries[:k]), slow_root(entries[k:])]
    return [*slow_path(m - k, entries[k:]), slow_root(entries[:k])]


def power_below(n: int) -> int:
    """The largest power of two below n."""
    k = 1
    while 2 * k < n:
        k *= 2
    return k


@pytest.mark.parametrize("size", [0, *SIZES])
def test_root_is_the_one_of_the_definition(size: int) -> None:
    assert root(entries_of(size)) == slow_root(entries_of(size))


@pytest.mark.parametrize("size", SIZES)
def test_paths_are_those_of_the_definition_and_lead_to_the_root(size: int) -> None:
    entries = entries_of(size)
    expected = root(entries)

    for index in range(size):
        found = path(entries, index)
        assert list(found) == slow_path(index, entries)
        assert root_from_path(leaf_hash(entries[index]), index, size, found) == expected


@pytest.mark.parametrize("size", SIZES)
def test_path_at_every_wrong_place_does_not_lead_to_the_root(size: int) -> None:
    entries = entries_of(size)
    expected = root(entries)

    for index in range(size):
        found = path(entries, index)
        for wrong in range(size):
            if wrong != index:
                leaf = leaf_hash(entries[index])
                assert reached(leaf, wrong, size, found) != expected, (index, wrong)
                other = leaf_hash(entries[wrong])
                assert reached(other, index, size, found) != expected, (index, wrong)


def reached(leaf: Digest, index: int, size: int, steps: Sequence[bytes]) -> bytes:
    """Where a path leads; nowhere if it does not fit."""
    try:
        return root_from_path(leaf, index, size, steps)
    except ProofError:
        return b"nowhere"


@pytest.mark.parametrize("size", [2, 3, 7, 8, 33, 40])
def test_path_tampered_with_does_not_lead_to_the_root(size: int) -> None:
    entries = entries_of(size)
    expected = root(entries)

    for index in range(size):
        leaf, found = leaf_hash(entries[index]), path(entries, index)
        tampered = [
            found[:-1],
            found[1:],
            (*found, H(b"more")),
            (H(b"more"), *found),
            *(
                (*found[:i], Digest(bytes(32)), *found[i + 1 :])
                for i in range(len(found))
            ),
        ]
        for steps in tampered:
            assert reached(leaf, index, size, steps) != expected


@pytest.mark.parametrize(
    ("index", "size"), [(0, 0), (1, 1), (5, 5), (-1, 5), (1 << 40, 1 << 40)]
)
def test_path_of_an_impossible_place_refuses(index: int, size: int) -> None:
    with pytest.raises(ProofError, match="leaf"):
        root_from_path(leaf_hash(b""), index, size, ())


def test_leaf_and_node_of_the_same_bytes_differ() -> None:
    left, right = leaf_hash(b"left"), leaf_hash(b"right")

    assert leaf_hash(left + right) != node_hash(left, right)
    assert root([left + right]) != root([b"left", b"right"])


def test_root_of_nothing_is_the_hash_of_nothing() -> None:
    assert root([]) == EMPTY_ROOT == H(b"")


@given(st.lists(st.binary(max_size=8), min_size=1, max_size=70), st.data())
def test_every_path_of_any_entries_leads_to_the_root(
    entries: list[bytes], data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(entries) - 1))

    reached_root = root_from_path(
        leaf_hash(entries[index]), index, len(entries), path(entries, index)
    )

    assert reached_root == slow_root(entries)

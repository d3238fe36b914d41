"""The state tree against a dictionary, and its proofs under its root."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from starling.protocol.crypto import merkle
from starling.protocol.crypto.state_tree import (
    BUCKETS,
    STATE_PROOF,
    StateProof,
    StateTree,
    bucket_of,
)
from starling.protocol.errors import ProofError
from starling.protocol.ids import Digest, H
from starling.protocol.schema.msgpack_codec import encode

KEYS = [b"key/%d" % i for i in range(700)]
MANY = StateTree().update({key: b"value of " + key for key in KEYS})

keys = st.sampled_from(KEYS[:40])
changes = st.dictionaries(keys, st.none() | st.binary(max_size=9), max_size=12)


def slow_root(entries: dict[bytes, bytes]) -> Digest:
    """The root by its definition, from nothing but the entries."""
    buckets: list[list[bytes]] = [[] for _ in range(BUCKETS)]
    for key, value in sorted(entries.items()):
        buckets[H(b"starling/bucket/1", key)[0]].append(encode([key, value]))
    return merkle.root([merkle.root(bucket) for bucket in buckets])


@settings(max_examples=40)
@given(st.lists(changes, max_size=6))
def test_tree_after_any_writes_agrees_with_a_dictionary(
    batches: list[dict[bytes, bytes | None]],
) -> None:
    tree, model = StateTree(), dict[bytes, bytes]()

    for batch in batches:
        tree = tree.update(batch)
        model.update({key: value for key, value in batch.items() if value is not None})
        for key, value in batch.items():
            if value is None:
                model.pop(key, None)
        assert tree.root() == slow_root(model)

    assert dict(tree.items()) == model
    assert [tree.get(key) for key in KEYS[:40]] == [model.get(k) for k in KEYS[:40]]


@settings(max_examples=40)
@given(st.lists(changes, min_size=1, max_size=6), st.booleans())
def test_update_leaves_every_older_tree_as_it_was(
    batches: list[dict[bytes, bytes | None]], hashed_early: bool
) -> None:
    trees = [StateTree()]
    seen: list[tuple[dict[bytes, bytes], Digest]] = []

    for batch in batches:
        older = trees[-1]
        entries = dict(older.items())
        seen.append((entries, older.root() if hashed_early else slow_root(entries)))
        trees.append(older.update(batch))
        trees[-1].root()

    for tree, (entries, root) in zip(trees, seen, strict=False):
        assert dict(tree.items()) == entries
        assert tree.root() == root


def test_root_does_not_depend_on_the_order_of_writes() -> None:
    one = StateTree().update(dict.fromkeys(KEYS, b"1"))
    two = StateTree()
    for key in reversed(KEYS):
        two = two.update({key: b"0"}).update({key: b"1"})

    assert one.root() == two.root()
    assert one == two


def test_root_after_removal_is_as_if_never_written() -> None:
    tree = StateTree().update({b"a": b"1", b"b": b"2"})

    assert tree.update({b"a": None, b"b": None}).root() == StateTree().root()
    assert tree.update({b"missing": None}).root() == tree.root()


def test_items_of_a_prefix_are_sorted() -> None:
    found = [key for key, _ in MANY.items(b"key/1")]

    assert found == sorted(key for key in KEYS if key.startswith(b"key/1"))


@pytest.mark.parametrize("key", KEYS[::23])
def test_proof_of_a_key_leads_to_the_root(key: bytes) -> None:
    proof = MANY.prove(key)

    assert (proof.key, proof.value) == (key, MANY.get(key))
    assert STATE_PROOF.unpack(STATE_PROOF.pack(proof)).root() == MANY.root()


def test_proof_of_a_lone_key_leads_to_the_root() -> None:
    tree = StateTree().update({b"only": b""})

    assert tree.prove(b"only").root() == tree.root()


def test_proof_of_an_absent_key_refuses() -> None:
    with pytest.raises(ProofError, match="no such key"):
        MANY.prove(b"absent")


PROOF = MANY.prove(KEYS[5])
NEIGHBOUR = next(
    key for key in KEYS if bucket_of(key) == bucket_of(KEYS[5]) and key != KEYS[5]
)
TAMPERED = {
    "key": replace(PROOF, key=NEIGHBOUR),
    "key of another bucket": replace(PROOF, key=b"elsewhere"),
    "value": replace(PROOF, value=b"other"),
    "key and value shifted": replace(PROOF, key=PROOF.key + b"v", value=b"alue"),
    "index": replace(PROOF, index=(PROOF.index + 1) % PROOF.size),
    "index beyond": replace(PROOF, index=PROOF.size),
    "size": replace(PROOF, size=PROOF.size * 1000),
    "no size": replace(PROOF, size=0),
    "no path": replace(PROOF, path=()),
    "path cut": replace(PROOF, path=PROOF.path[1:]),
    "path cut above": replace(PROOF, path=PROOF.path[:-1]),
    "path longer": replace(PROOF, path=(*PROOF.path, H(b""))),
    "path altered": replace(PROOF, path=(H(b""), *PROOF.path[1:])),
}


@pytest.mark.parametrize("proof", TAMPERED.values(), ids=TAMPERED)
def test_proof_tampered_with_does_not_lead_to_the_root(proof: StateProof) -> None:
    try:
        root = proof.root()
    except ProofError:
        return

    assert root != MANY.root()


def test_proof_of_an_older_state_does_not_lead_to_the_newer_root() -> None:
    newer = MANY.update({KEYS[5]: b"newer"})

    assert MANY.prove(KEYS[5]).root() == MANY.root() != newer.root()


def test_proof_of_a_bucket_as_an_entry_does_not_hold() -> None:
    # A bucket's root stands as a leaf of the upper tree; it must not pass for a key.
    below = PROOF.path[: len(PROOF.path) - 8]
    forged = replace(PROOF, index=0, size=1, path=PROOF.path[len(below) :])

    assert forged.root() != MANY.root()

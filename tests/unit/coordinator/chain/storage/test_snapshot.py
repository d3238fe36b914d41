"""A snapshot counts only under a certified root, and each bucket by itself."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starling.coordinator.chain.storage.snapshot import (
    MANIFEST,
    SnapshotManifest,
    bucketed,
    pack_bucket,
    unpack_bucket,
)
from starling.protocol.chain.light_client import pin
from starling.protocol.crypto.state_tree import (
    BUCKETS,
    StateTree,
    bucket_of,
    bucket_root,
    root_of_buckets,
)
from starling.protocol.errors import DecodeError, LimitError, ProofError, ProtocolError
from starling.protocol.ids import Digest
from tests.unit.coordinator.fixtures.single_validator import SingleValidator
from tests.unit.coordinator.fixtures.small_chain import SmallChain

STATES = st.dictionaries(st.binary(min_size=1, max_size=20), st.binary(max_size=20))


@given(STATES)
def test_buckets_lead_to_the_root_of_the_tree(state: dict[bytes, bytes]) -> None:
    tree = StateTree().update(dict(state))
    roots = [bucket_root(entries) for entries in bucketed(state)]
    assert root_of_buckets(roots) == tree.root()


@given(STATES)
def test_buckets_come_back_and_make_the_state(state: dict[bytes, bytes]) -> None:
    found: dict[bytes, bytes] = {}
    for number, entries in enumerate(bucketed(state)):
        packed, root = pack_bucket(entries), bucket_root(entries)
        found.update(unpack_bucket(packed, number, root))
    assert found == state


def _bucket() -> tuple[int, dict[bytes, bytes]]:
    """Some bucket of two entries."""
    state = {b"key/%d" % number: b"value %d" % number for number in range(1000)}
    buckets = enumerate(bucketed(state))
    return next((n, entries) for n, entries in buckets if len(entries) == 2)


def test_bucket_under_another_number_is_refused() -> None:
    number, entries = _bucket()
    with pytest.raises(ProofError, match="another one"):
        unpack_bucket(pack_bucket(entries), number ^ 1, bucket_root(entries))


def test_bucket_with_any_byte_changed_is_refused() -> None:
    number, entries = _bucket()
    packed, root = pack_bucket(entries), bucket_root(entries)
    for offset in range(len(packed)):
        damaged = bytearray(packed)
        damaged[offset] ^= 1
        with pytest.raises(ProtocolError):
            unpack_bucket(bytes(damaged), number, root)


@pytest.mark.parametrize("length", [0, 1, 5, -1], ids=str)
def test_bucket_cut_short_is_refused(length: int) -> None:
    number, entries = _bucket()
    with pytest.raises((DecodeError, LimitError)):
        unpack_bucket(pack_bucket(entries)[:length], number, bucket_root(entries))


def test_bucket_in_another_order_is_refused() -> None:
    number, entries = _bucket()
    first, second = sorted(entries)
    packed = pack_bucket(entries)
    a, b = pack_bucket({first: entries[first]}), pack_bucket({second: entries[second]})
    swapped = packed[:2] + b[2:] + a[2:]
    assert len(swapped) == len(packed)
    with pytest.raises(ProtocolError):
        unpack_bucket(swapped, number, bucket_root(entries))


def _manifest() -> tuple[SmallChain, SnapshotManifest]:
    world = SmallChain(validators=1)
    running = SingleValidator(world.genesis, world.validators[0])
    running.submit(world.register(0))
    running.tick(0.0)
    header, certificate = running.state.header, running.state.certificate
    assert header is not None
    assert certificate is not None
    state = dict(running.state.tree.items())
    roots = tuple(bucket_root(entries) for entries in bucketed(state))
    return world, SnapshotManifest(header, certificate, roots)


def test_manifest_of_a_certified_state_is_believed() -> None:
    world, manifest = _manifest()
    manifest.check(pin(world.genesis))
    assert MANIFEST.unpack(MANIFEST.pack(manifest)) == manifest


def _another_bucket(manifest: SnapshotManifest) -> SnapshotManifest:
    number = bucket_of(b"boards")
    roots = list(manifest.buckets)
    roots[number] = Digest(bytes(32))
    return replace(manifest, buckets=tuple(roots))


def _another_root(manifest: SnapshotManifest) -> SnapshotManifest:
    header = replace(manifest.header, state_root=Digest(bytes(32)))
    return replace(manifest, header=header)


def _no_votes(manifest: SnapshotManifest) -> SnapshotManifest:
    nothing = (bytes(64),) * len(manifest.certificate.signatures)
    voteless = replace(manifest.certificate, signatures=nothing)
    return replace(manifest, certificate=voteless)


@pytest.mark.parametrize(
    "change", [_another_bucket, _another_root, _no_votes], ids=lambda f: f.__name__
)
def test_manifest_that_is_not_certified_is_refused(change: object) -> None:
    world, manifest = _manifest()
    with pytest.raises(ProtocolError):
        change(manifest).check(pin(world.genesis))  # type: ignore[operator]  # a table's entry


def test_manifest_with_other_than_all_buckets_is_refused() -> None:
    _, manifest = _manifest()
    with pytest.raises(LimitError):
        MANIFEST.pack(replace(manifest, buckets=manifest.buckets[: BUCKETS - 1]))

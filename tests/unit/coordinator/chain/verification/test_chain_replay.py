"""A chain that holds is verified; whatever byte changes is found and named."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from starling.coordinator.chain.storage import block_rows
from starling.coordinator.chain.storage.block_rows import BlockRow
from starling.coordinator.chain.storage.chain_store import TransactionLocation
from starling.coordinator.chain.verification import audit, chain_replay
from starling.coordinator.chain.verification.audit import AuditResult
from starling.coordinator.chain.verification.block_damage import BlockDamage
from starling.protocol.chain.blocks import CERTIFICATE, HEADER
from starling.protocol.chain.genesis import Genesis
from starling.protocol.crypto.state_tree import StateTree
from tests.unit.coordinator.fixtures.single_validator import SingleValidator
from tests.unit.coordinator.fixtures.small_chain import SmallChain


@dataclass
class Copy:
    """A chain's file as an audit sees it; its rows may be damaged."""

    genesis: Genesis
    row_list: list[BlockRow]
    tree: StateTree
    index: dict[bytes, TransactionLocation]

    def rows(self, first: int = 1) -> Iterator[BlockRow]:
        return (row for row in self.row_list if row.height >= first)

    def state(self) -> StateTree:
        return self.tree

    def first_body(self) -> int:
        return 1

    def snapshots(self) -> tuple[int, ...]:
        return ()

    def manifest(self, height: int) -> None:
        raise AssertionError(height)

    def buckets(self, height: int, first: int, bytes_max: int) -> tuple[bytes, ...]:
        raise AssertionError(height, first, bytes_max)

    def validators(self, digest: bytes) -> None:
        raise AssertionError(digest)

    def transaction_index(self) -> Iterator[tuple[bytes, TransactionLocation]]:
        return iter(self.index.items())


def chain() -> Copy:
    """Three blocks, of which the second makes a version final."""
    world = SmallChain()
    running = SingleValidator(world.genesis, world.validators[0])
    updates = [world.update(number) for number in range(4)]
    batches = [
        [world.publish(), *(world.register(number) for number in range(4))],
        [*updates, world.attest(1)],
        [world.update(0, 1)],
    ]
    for number, batch in enumerate(batches):
        running.submit(*batch, now_s=float(number))
        running.tick(float(number))
    row_list, index = [], {}
    for stored in running.blocks():
        height = stored.block.header.height
        row_list.append(
            BlockRow(
                height,
                HEADER.pack(stored.block.header),
                block_rows.pack_body(stored.block.transactions),
                CERTIFICATE.pack(stored.certificate),
            )
        )
        for place, result in enumerate(stored.results):
            index[bytes(result.identity)] = TransactionLocation(height, place)
    return Copy(world.genesis, row_list, running.state.tree, index)


def run(copy: Copy) -> AuditResult:
    heights: list[int] = []
    found = audit.audit(copy, heights.append)
    assert heights == list(range(1, found.tip.height + 1))
    return found


def flipped(row: BlockRow, offset: int, mask: int) -> BlockRow:
    """The row with one byte changed, by its offset in the whole row."""
    parts = [bytearray(part) for part in (row.header, row.body, row.certificate)]
    for part in parts:
        if offset < len(part):
            part[offset] ^= mask
            break
        offset -= len(part)
    return BlockRow(row.height, *(bytes(part) for part in parts))


def test_sound_chain_is_verified() -> None:
    copy = chain()
    found = run(copy)
    assert found.fault is None
    assert found.tip.height == 3
    assert found.transactions == 11
    assert found.tip.tree.root() == copy.tree.root()


def test_empty_chain_is_verified() -> None:
    copy = chain()
    empty = chain_replay.start(copy.genesis).tree
    found = run(replace(copy, row_list=[], tree=empty, index={}))
    assert (found.fault, found.tip.height) == (None, 0)


SECOND = chain().row_list[1]
LENGTH = len(SECOND.header) + len(SECOND.body)
STEP = 29


@pytest.mark.parametrize("mask", [0x01, 0xFF], ids=["one-bit", "all-bits"])
@pytest.mark.parametrize("offset", range(0, LENGTH, STEP))
def test_flipped_byte_of_header_or_body_is_named(offset: int, mask: int) -> None:
    copy = chain()
    copy.row_list[1] = flipped(copy.row_list[1], offset, mask)
    fault = run(copy).fault
    assert fault is not None
    assert (fault.height, fault.offset, fault.exact) == (2, offset, True)


@pytest.mark.parametrize(
    ("part", "field"),
    [(0.02, "certificate"), (0.2, "certificate.block_id"), (0.7, "certificate.signa")],
)
def test_flipped_byte_of_the_certificate_is_named(part: float, field: str) -> None:
    copy = chain()
    size = len(copy.row_list[1].certificate)
    offset = LENGTH + int(part * size)
    copy.row_list[1] = flipped(copy.row_list[1], offset, 0x10)
    fault = run(copy).fault
    assert fault is not None
    assert (fault.height, fault.offset, fault.exact) == (2, offset, True)
    assert fault.field.startswith(field)


def _swap_header(copy: Copy) -> None:
    copy.row_list[1] = replace(copy.row_list[1], header=copy.row_list[2].header)


def _lose_block(copy: Copy) -> None:
    del copy.row_list[1]


def _cut_body(copy: Copy) -> None:
    copy.row_list[1] = replace(copy.row_list[1], body=copy.row_list[1].body[:-40])


def _lose_transaction(copy: Copy) -> None:
    row = copy.row_list[1]
    entries = block_rows.unpack_body(row.body)
    copy.row_list[1] = replace(row, body=block_rows.pack_body(entries[:-1]))


def _no_certificate(copy: Copy) -> None:
    copy.row_list[1] = replace(copy.row_list[1], certificate=b"")


def _change_state(copy: Copy) -> None:
    copy.tree = copy.tree.update({b"boards": b"\x09"})


def _lose_index(copy: Copy) -> None:
    del copy.index[min(copy.index)]


def _index_too_much(copy: Copy) -> None:
    copy.index[bytes(32)] = TransactionLocation(1, 0)


def _misplace(copy: Copy) -> None:
    copy.index[max(copy.index)] = TransactionLocation(1, 77)


@pytest.mark.parametrize(
    ("damage", "height", "field"),
    [
        pytest.param(_swap_header, 2, "certificate", id="another-blocks-header"),
        pytest.param(_lose_block, 3, "height", id="lost-block"),
        pytest.param(_cut_body, 2, "transactions", id="cut-body"),
        pytest.param(_lose_transaction, 2, "transactions", id="lost-transaction"),
        pytest.param(_no_certificate, 2, "certificate", id="no-certificate"),
        pytest.param(_change_state, 3, "state", id="changed-state"),
        pytest.param(_lose_index, 3, "transactions index", id="lost-index"),
        pytest.param(_index_too_much, 3, "transactions index", id="index-of-nothing"),
        pytest.param(_misplace, 3, "transactions index", id="another-place"),
    ],
)
def test_larger_damage_is_named_by_field(
    damage: Callable[[Copy], None], height: int, field: str
) -> None:
    copy = chain()
    damage(copy)
    fault = run(copy).fault
    assert isinstance(fault, BlockDamage)
    assert not fault.exact
    assert fault.height == height
    assert fault.field.startswith(field)
    assert fault.detail


def test_rows_of_another_genesis_are_refused() -> None:
    copy = chain()
    other = replace(copy.genesis, created_ms=copy.genesis.created_ms + 1)
    fault = run(replace(copy, genesis=other)).fault
    assert fault is not None
    assert fault.height == 1

from dataclasses import replace

import pytest

from starling.coordinator.boards import finality_proofs
from starling.coordinator.boards.finality_proofs import BlockProofs
from starling.coordinator.chain.node.node import StoreBlock
from starling.protocol.chain.light_client import FINAL, pin
from starling.protocol.crypto import merkle
from starling.protocol.errors import ProofError
from starling.protocol.wire.envelope import ENVELOPE
from tests.unit.coordinator.fixtures.single_coordinator import (
    GENESIS,
    SingleCoordinator,
    board,
)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 5, 8, 13])
def test_audit_paths_any_size_equal_the_paths_one_by_one(size: int) -> None:
    entries = [bytes([number]) for number in range(size)]

    paths = finality_proofs.AuditPaths(entries)

    assert list(paths) == [merkle.path(entries, index) for index in range(size)]


def test_block_proofs_packed_equal_the_structure_s_own_encoding() -> None:
    world = SingleCoordinator()
    boards = [board(number) for number in range(1, 4)]
    world.open(boards)
    for each in boards:
        world.contribute(each, [1.0, 0, 0, 0])
    (stored,) = [e for e in world.tick() if isinstance(e, StoreBlock)]
    block, certificate = stored.block, stored.certificate

    packed = BlockProofs.of(block, certificate)

    paths = finality_proofs.AuditPaths(block.transactions)
    assert len(block.transactions) == 3
    for index, transaction in enumerate(block.transactions):
        envelope = ENVELOPE.unpack(transaction)
        proof = finality_proofs.final(envelope, block.header, certificate, index, paths)
        assert packed.packed(index) == FINAL.pack(proof)
        proof.check(pin(GENESIS))
        with pytest.raises(ProofError):
            replace(proof, index=(index + 1) % 3).check(pin(GENESIS))

"""The proof of a fork outlives restarts; a damaged one is no leave to go on."""

from pathlib import Path

import pytest

from starling.coordinator.chain.gossip_messages import FORK, ForkProof
from starling.coordinator.runtime.storage.fork_proof_file import (
    FORK_FILE,
    read_fork,
    write_fork,
)
from starling.protocol.chain.blocks import Certificate
from starling.protocol.errors import StorageError
from starling.protocol.ids import BlockHash, H


def one(name: bytes) -> Certificate:
    return Certificate(3, 0, BlockHash(H(name)), 1, (bytes(64),), (0,))


PROOF = ForkProof(one(b"a"), one(b"b"), None, (one(b"a"),))


def test_proof_is_read_as_it_was_written_and_replaced(tmp_path: Path) -> None:
    assert read_fork(tmp_path) is None
    write_fork(tmp_path, FORK.pack(ForkProof(one(b"a"), one(b"c"), None, ())))
    write_fork(tmp_path, FORK.pack(PROOF))
    assert read_fork(tmp_path) == PROOF


@pytest.mark.parametrize("content", [b"", b"\xc0", FORK.pack(PROOF)[:-1]])
def test_damaged_proof_stops_the_start(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FORK_FILE).write_bytes(content)
    with pytest.raises(StorageError, match="proof of a fork"):
        read_fork(tmp_path)

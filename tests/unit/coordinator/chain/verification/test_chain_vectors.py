"""The committed chain is what the code makes, and what it verifies."""

import json

from starling.coordinator.chain.storage import block_rows
from starling.coordinator.chain.storage.block_rows import BlockRow
from starling.coordinator.chain.verification import chain_replay
from starling.coordinator.chain.verification.chain_replay import CheckedBlock
from starling.protocol.chain.genesis import GENESIS
from starling.protocol.crypto.state_tree import StateTree
from tests.vectors.make_ledger_vectors import FILE, render


def test_chain_made_again_is_the_committed_one() -> None:
    assert render() == FILE.read_text()


def test_committed_chain_is_verified_to_its_state() -> None:
    vectors = json.loads(FILE.read_text())
    genesis = GENESIS.unpack(bytes.fromhex(vectors["genesis"]))
    stored = [
        BlockRow(
            height,
            bytes.fromhex(block["header"]),
            block_rows.pack_body(
                [bytes.fromhex(entry) for entry in block["transactions"]]
            ),
            bytes.fromhex(block["certificate"]),
        )
        for height, block in enumerate(vectors["blocks"], 1)
    ]
    checked = list(chain_replay.check_rows(genesis, stored))
    assert all(isinstance(found, CheckedBlock) for found in checked)
    last = checked[-1]
    assert isinstance(last, CheckedBlock)
    assert last.tip.tree.root().hex() == vectors["state_root"]
    entries = {
        bytes.fromhex(key): bytes.fromhex(value)
        for key, value in vectors["state"].items()
    }
    assert StateTree().update(dict(entries)).root().hex() == vectors["state_root"]

"""The committed chain is what the code makes, and what it verifies."""

import json

from coordinator.ledger import rows, verify
from coordinator.ledger.rows import Row
from coordinator.ledger.verify import Checked
from protocol.genesis import GENESIS
from protocol.statetree import StateTree
from tests.vectors.make_ledger_vectors import FILE, render


def test_chain_made_again_is_the_committed_one() -> None:
    assert render() == FILE.read_text()


def test_committed_chain_is_verified_to_its_state() -> None:
    vectors = json.loads(FILE.read_text())
    genesis = GENESIS.unpack(bytes.fromhex(vectors["genesis"]))
    stored = [
        Row(
            height,
            bytes.fromhex(block["header"]),
            rows.pack_body([bytes.fromhex(entry) for entry in block["transactions"]]),
            bytes.fromhex(block["certificate"]),
        )
        for height, block in enumerate(vectors["blocks"], 1)
    ]
    checked = list(verify.check_rows(genesis, stored))
    assert all(isinstance(found, Checked) for found in checked)
    last = checked[-1]
    assert isinstance(last, Checked)
    assert last.tip.tree.root().hex() == vectors["state_root"]
    entries = {
        bytes.fromhex(key): bytes.fromhex(value)
        for key, value in vectors["state"].items()
    }
    assert StateTree().update(dict(entries)).root().hex() == vectors["state_root"]

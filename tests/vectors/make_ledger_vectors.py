"""Writes ledger_blocks.json: a whole small chain, the contract for a second one.

`python -m tests.vectors.make_ledger_vectors` from the repository's root. Bytes are
hexadecimal. A change of this file is a change of the chain's rules or bytes.
"""

import json
from pathlib import Path
from typing import Any

from starling.protocol.chain.blocks import CERTIFICATE, HEADER
from starling.protocol.chain.genesis import GENESIS
from tests.unit.coordinator.fixtures.single_validator import SingleValidator
from tests.unit.coordinator.fixtures.small_chain import SmallChain

FILE = Path(__file__).parent / "ledger_blocks.json"


def blocks() -> SingleValidator:
    """Admission, a version made of four updates, one that waits, and a heartbeat."""
    world = SmallChain()
    running = SingleValidator(world.genesis, world.validators[0])
    batches = [
        [world.publish(), *(world.register(number) for number in range(5))],
        [world.update(number) for number in range(4)],
        [world.attest(1), world.update(0, 1), world.update(4, 0), world.revoke(3)],
    ]
    for number, batch in enumerate(batches):
        running.submit(*batch, now_s=float(number))
        running.tick(float(number))
    running.tick(2.0 + world.genesis.heartbeat_s)
    return running


def vectors() -> dict[str, Any]:
    """The chain, and every entry of the state after its last block."""
    running = blocks()
    tree = running.state.tree
    return {
        "genesis": GENESIS.pack(running.settings.genesis).hex(),
        "chain_id": running.settings.chain_id.hex(),
        "blocks": [
            {
                "block_id": stored.block.header.block_id().hex(),
                "header": HEADER.pack(stored.block.header).hex(),
                "transactions": [entry.hex() for entry in stored.block.transactions],
                "identities": [result.identity.hex() for result in stored.results],
                "certificate": CERTIFICATE.pack(stored.certificate).hex(),
            }
            for stored in running.blocks()
        ],
        "journal": [payload.hex() for payload in running.journal],
        "state": {key.hex(): value.hex() for key, value in tree.items()},
        "state_root": tree.root().hex(),
    }


def render() -> str:
    """The text of the file."""
    return json.dumps(vectors(), indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(render())

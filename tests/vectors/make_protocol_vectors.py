"""Writes protocol_*.json, the contract for a second implementation.

`python -m tests.vectors.make_protocol_vectors` from the repository's root. Bytes are
hexadecimal. A change of these files is a change of the wire.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from starling.protocol.chain import blocks
from starling.protocol.crypto import merkle
from starling.protocol.crypto.sealed_blob import SEALED, open_sealed
from starling.protocol.crypto.state_tree import StateTree, bucket_of
from starling.protocol.ids import H, device_name
from starling.protocol.learning import vector_codecs
from starling.protocol.learning.codec_terms import CODEC_NAMES, codec_number
from starling.protocol.learning.task import version_digest
from starling.protocol.learning.vector_codecs import CODECS
from starling.protocol.privacy.randomised_response import keep_threshold
from starling.protocol.wire import topics
from tests.vectors import protocol_samples as samples
from tests.vectors.protocol_structures import STRUCTURES

FOLDER = Path(__file__).parent
ROTATED = ("rotated4", "rotated2", "rotated1")


def plain(value: object) -> object:
    """A value as JSON shows it: structures by field, bytes as hexadecimal."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, str):
        return value
    assert isinstance(value, int)
    return int(value)


def structures() -> dict[str, Any]:
    """Every structure: its fields and its bytes."""
    return {
        name: {"fields": plain(example), "packed": codec.pack(example).hex()}
        for name, codec, example in STRUCTURES
    }


def names_and_hashes() -> dict[str, Any]:
    """Hashes, ids and topics."""
    fleet = topics.Topics("demo")
    device = device_name(samples.BOARD.identity)
    return {
        "hash": {text: H(text.encode()).hex() for text in ("", "abc")},
        "device": {
            "public_key": samples.BOARD.public.hex(),
            "id": samples.BOARD.identity.hex(),
            "name": device,
        },
        "topics": {
            "device_state": fleet.device_state(device),
            "up": fleet.up(device),
            "say": fleet.say(device),
            "down": fleet.down(device),
            "model": fleet.model(device),
            "manifest": fleet.manifest(0),
            "coordinator_state": fleet.coordinator_state(device),
            "gossip": fleet.gossip(device),
            "private": fleet.private(device, device),
        },
    }


def signatures() -> dict[str, Any]:
    """What is signed, from seed to signature."""
    update, vote, proposal = samples.UPDATE, samples.PREVOTE, samples.PROPOSAL
    chain_id = samples.CHAIN_ID
    return {
        "chain_id": chain_id.hex(),
        "envelope": {
            "seed": samples.BOARD.seed.hex(),
            "signed_bytes": update.signed_bytes(chain_id).hex(),
            "signature": update.signature.hex(),
            "identity": update.identity(chain_id).hex(),
        },
        "prevote": {
            "seed": samples.VALIDATOR_KEYS[1].seed.hex(),
            "signed_bytes": vote.signed_bytes(chain_id).hex(),
            "signature": vote.signature.hex(),
        },
        "precommit_nil": blocks.vote_bytes(
            chain_id, blocks.VoteType.PRECOMMIT, 12, 0, None, 1_700_000_060_100
        ).hex(),
        "proposal": {
            "seed": samples.VALIDATOR_KEYS[2].seed.hex(),
            "signed_bytes": proposal.signed_bytes(chain_id).hex(),
            "signature": proposal.signature.hex(),
        },
        "block_id": samples.HEADER.block_id().hex(),
        "validator_set_digest": samples.VALIDATORS.digest().hex(),
        "version_digest": version_digest(samples.MODEL).hex(),
    }


def sealing() -> dict[str, Any]:
    """A blob from entropy to bytes."""
    key = samples.OPENING_KEYS[0]
    content_key, _ = open_sealed(SEALED.unpack(samples.BLOB), key, samples.BOARD.public)
    return {
        "entropy": samples.ENTROPY.hex(),
        "sender": samples.BOARD.public.hex(),
        "recipient_seeds": [key.seed.hex() for key in samples.OPENING_KEYS],
        "recipients": [key.public.hex() for key in samples.OPENING_KEYS],
        "plaintext": samples.PLAINTEXT.hex(),
        "ephemeral": samples.SEALED.ephemeral.hex(),
        "blob": samples.BLOB.hex(),
        "blob_digest": samples.SEALED.digest().hex(),
        "content_key": content_key.hex(),
        "commitment": samples.COMMITMENT.hex(),
    }


def label_draws() -> list[dict[str, int]]:
    """Below which draw of 64 bits a board keeps a label, by epsilon and classes."""
    return [
        {
            "epsilon_micro": epsilon_micro,
            "classes": classes,
            "kept_below": keep_threshold(epsilon_micro, classes),
        }
        for epsilon_micro in (1, 500_000, 1_000_000, 2_000_000, 8_000_000, 40_000_000)
        for classes in (2, 10, 65_536)
    ]


def trees() -> dict[str, Any]:
    """Merkle roots and paths, and the state tree."""
    entries = [b"", b"\x00", b"\x10", b"\x20\x21", b"0123456789abcdef", b"f", b"g"]
    state = {b"version/0/1": b"one", b"board/a": b"", b"task/0": b"\x93"}
    tree = StateTree().update(dict(state))
    return {
        "entries": plain(entries),
        "roots": [merkle.root(entries[:n]).hex() for n in range(len(entries) + 1)],
        "paths_of_seven": [plain(merkle.path(entries, i)) for i in range(7)],
        "state": {
            key.decode(): {"value": value.hex(), "bucket": bucket_of(key)}
            for key, value in state.items()
        },
        "state_root": tree.root().hex(),
        "empty_state_root": StateTree().root().hex(),
    }


def block_floating_point() -> dict[str, Any]:
    """All codecs on values that use every corner of them."""
    values = (
        [0, 1, -1, 127, -127, 128, 255, -1000, 999_999]
        + 260 * [-3]
        + [(1 << 40) - (1 << 24)]
    )
    vector = vector_codecs.GridVector(np.array(values, np.int64), -26)
    random = H(b"draws")

    def draw(count: int) -> bytes:
        return (random * (count // len(random) + 1))[:count]

    block8 = vector_codecs.encode_block8(vector, draw)
    # Deflaters differ in the bytes they choose; a stored block is the same from all.
    size = len(block8).to_bytes(2, "little")
    stored = b"\x01" + size + bytes(byte ^ 0xFF for byte in size) + block8
    payloads = {
        "float32": vector_codecs.encode_float32(vector, draw),
        "block8": block8,
        "packed8": stored,
        **{name: CODECS[codec_number(name)].encode(vector, draw) for name in ROTATED},
    }
    return {
        "values": values,
        "exponent": vector.exponent,
        "draws": "H('draws') repeated; 8 bytes a coordinate, little-endian; of rotated"
        " codecs 16 for the seed before, 4 a block behind, each from the first on",
        "payloads": {name: payload.hex() for name, payload in payloads.items()},
        "decoded": {
            name: plain(CODECS[number].decode(payloads[name], len(values)).tolist())
            for number, name in enumerate(CODEC_NAMES)
        },
    }


FILES = {
    "protocol_structures.json": structures,
    "protocol_names.json": names_and_hashes,
    "protocol_signatures.json": signatures,
    "protocol_sealing.json": sealing,
    "protocol_trees.json": trees,
    "protocol_labels.json": label_draws,
    "protocol_vectors.json": block_floating_point,
}


def render(name: str) -> str:
    """The text of one file."""
    return json.dumps(FILES[name](), indent=1) + "\n"


if __name__ == "__main__":
    for file in FILES:
        (FOLDER / file).write_text(render(file))

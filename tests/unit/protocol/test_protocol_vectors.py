"""The committed vectors are what the code does, to the byte."""

import json
from typing import Any

import pytest

from starling.protocol.crypto.keys import OpeningKey, SigningKey
from starling.protocol.crypto.sealed_blob import SEALED, commitment, open_sealed
from starling.protocol.ids import H
from starling.protocol.wire.envelope import ENVELOPE
from tests.vectors import make_protocol_vectors as maker
from tests.vectors.protocol_structures import STRUCTURES


def read(name: str) -> Any:  # noqa: ANN401 - JSON
    return json.loads((maker.FOLDER / name).read_text())


@pytest.mark.parametrize("name", maker.FILES)
def test_vectors_made_again_are_the_committed_ones(name: str) -> None:
    assert maker.render(name) == (maker.FOLDER / name).read_text()


@pytest.mark.parametrize("name", [each.name for each in STRUCTURES])
def test_structure_vector_unpacks_to_its_fields(name: str) -> None:
    vector = read("protocol_structures.json")[name]
    codec = next(each.codec for each in STRUCTURES if each.name == name)

    value = codec.unpack(bytes.fromhex(vector["packed"]))

    assert maker.plain(value) == vector["fields"]


@pytest.mark.parametrize("subject", ["envelope", "prevote", "proposal"])
def test_signature_vector_follows_from_seed_and_bytes(subject: str) -> None:
    vector = read("protocol_signatures.json")[subject]
    key = SigningKey(bytes.fromhex(vector["seed"]))
    message = bytes.fromhex(vector["signed_bytes"])

    assert key.sign(message).hex() == vector["signature"]


def test_envelope_vector_is_signed_over_what_the_document_says() -> None:
    vector = read("protocol_signatures.json")
    envelope = ENVELOPE.unpack(
        bytes.fromhex(read("protocol_structures.json")["ENVELOPE"]["packed"])
    )

    spelled = b"".join(
        (
            b"starling/envelope/1",
            bytes.fromhex(vector["chain_id"]),
            b"\x94\x01\x04\xc4\x20" + envelope.sender + b"\x04",
            H(envelope.body),
        )
    )

    assert spelled.hex() == vector["envelope"]["signed_bytes"]
    assert H(spelled).hex() == vector["envelope"]["identity"]


@pytest.mark.parametrize("recipient", range(4))
def test_sealing_vector_opens_for_each_recipient(recipient: int) -> None:
    vector = {
        key: bytes.fromhex(value)
        for key, value in read("protocol_sealing.json").items()
        if isinstance(value, str)
    }
    seeds = read("protocol_sealing.json")["recipient_seeds"]

    content_key, plaintext = open_sealed(
        SEALED.unpack(vector["blob"]),
        OpeningKey(bytes.fromhex(seeds[recipient])),
        vector["sender"],
    )

    assert (content_key, plaintext) == (vector["content_key"], vector["plaintext"])
    assert commitment(content_key, plaintext) == vector["commitment"]

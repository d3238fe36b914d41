"""SCRAM proofs: the published example, and what must not pass."""

import base64
import hashlib
import hmac

import pytest

from starling.protocol.crypto import scram
from starling.protocol.errors import SignatureError

SECRET = bytes(range(20))


def test_proofs_are_those_of_the_published_example(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # RFC 7677 section 3, whose SaltedPassword stands where our secret does.
    salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    salted = hashlib.pbkdf2_hmac("sha256", b"pencil", salt, 4096)
    nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    message = (
        f"n=user,r=rOprNGfwEbeRWgbNEkqO,r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,"
        f"c=biws,r={nonce}"
    ).encode()
    monkeypatch.setattr(scram, "SECRET_BYTES", 32)

    proof = scram.client_proof(salted, message)
    keys = scram.scram_keys(salted)

    assert base64.b64encode(proof) == b"dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    signature = scram.server_signature(keys, message)
    expected = b"6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    assert base64.b64encode(signature) == expected
    scram.check_client_proof(keys, message, proof)


@pytest.mark.parametrize(
    ("message", "proof"),
    [
        (b"said", bytes(32)),
        (b"said", scram.client_proof(b"x" * 20, b"said")),
        (b"other", scram.client_proof(SECRET, b"said")),
        (b"said", scram.client_proof(SECRET, b"said")[:-1]),
        (b"said", b""),
    ],
    ids=["zeros", "another secret", "another transcript", "cut", "empty"],
)
def test_proof_of_anything_else_is_refused(message: bytes, proof: bytes) -> None:
    with pytest.raises(SignatureError):
        scram.check_client_proof(scram.scram_keys(SECRET), message, proof)


def test_stored_keys_make_no_proof_that_passes() -> None:
    keys = scram.scram_keys(SECRET)
    forged = [
        hmac.digest(key, b"said", "sha256")
        for key in (keys.stored_key, keys.server_key)
    ]

    for proof in forged:
        with pytest.raises(SignatureError):
            scram.check_client_proof(keys, b"said", proof)


def test_representation_shows_no_key() -> None:
    keys = scram.scram_keys(SECRET)

    assert repr(keys) == "ScramKeys()"

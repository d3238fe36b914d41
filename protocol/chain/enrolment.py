"""Enrolment: two JSON documents, carried by hand, that admit a board to a fleet.

The board makes its keys and writes an `EnrolmentRequest`. An operator admits it and
hands back an `Admission`: the genesis that the board pins, where the broker is, and
the certificate with which the broker knows it. Neither document holds a secret, but an
admission decides whom the board trusts, so its way back must not be open to others.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass

from starling.protocol.chain.genesis import GENESIS, GENESIS_BYTES_MAX, Genesis
from starling.protocol.chain.light_client import TRUSTED, TrustedState, pin
from starling.protocol.crypto.keys import SigningKey, verify
from starling.protocol.errors import DecodeError, LimitError
from starling.protocol.ids import (
    KEY_BYTES,
    SIGNATURE_BYTES,
    DeviceId,
    PublicKey,
    device_from_name,
    device_id,
    device_name,
)
from starling.protocol.schema.json_document import check_fields, read_json

DOCUMENT_BYTES_MAX = 128 * 1024
PEM_CHARS_MAX = 16 * 1024
HOST_CHARS_MAX = 253
PORT_MAX = 65535
REQUEST_FORMAT = "starling/enrolment-request/1"
ADMISSION_FORMAT = "starling/admission/1"
_TAG = b"starling/enrolment/1"
_REQUEST_KEYS = ("format", "device", "public_key", "tls_public_key", "signature")
_ADMISSION_KEYS = (
    "format",
    "device",
    "genesis",
    "trusted",
    "broker_host",
    "broker_port",
    "ca_pem",
    "certificate_pem",
)


@dataclass(frozen=True)
class EnrolmentRequest:
    """A board asks to be admitted and proves that it holds its key.

    Attributes:
      public_key: Its first Ed25519 key, which gives it its id.
      tls_public_key: Ed25519 key of its TLS client certificate; another one, so that
        the transport never signs with the key that signs updates.
      signature: By `public_key` over both.
    """

    public_key: PublicKey
    tls_public_key: bytes
    signature: bytes

    @property
    def device(self) -> DeviceId:
        """The board's id."""
        return device_id(self.public_key)

    def check(self) -> None:
        """Checks that the board holds the secret of `public_key`.

        Raises:
          SignatureError: If it did not sign this request.
        """
        verify(
            self.public_key,
            _signed(self.public_key, self.tls_public_key),
            self.signature,
        )

    def to_json(self) -> str:
        """The request as a JSON document."""
        return _dump(
            {
                "format": REQUEST_FORMAT,
                "device": device_name(self.device),
                "public_key": self.public_key.hex(),
                "tls_public_key": self.tls_public_key.hex(),
                "signature": self.signature.hex(),
            }
        )


def request_enrolment(key: SigningKey, tls_public_key: bytes) -> EnrolmentRequest:
    """Makes a board's request.

    Args:
      key: The board's first key.
      tls_public_key: (32,) bytes, the public key of its TLS certificate.
    """
    signature = key.sign(_signed(key.public, tls_public_key))
    return EnrolmentRequest(key.public, tls_public_key, signature)


def request_from_json(text: bytes | str) -> EnrolmentRequest:
    """Reads a request and checks its signature.

    Raises:
      LimitError: If the document is too long.
      DecodeError: Naming the field that is missing, unknown or malformed.
      SignatureError: If the board did not sign it.
    """
    document = _document(text, REQUEST_FORMAT, _REQUEST_KEYS)
    request = EnrolmentRequest(
        PublicKey(_hex(document, "public_key", KEY_BYTES)),
        _hex(document, "tls_public_key", KEY_BYTES),
        _hex(document, "signature", SIGNATURE_BYTES),
    )
    # The name is for people, and could show another board than the key admits.
    if document["device"] != device_name(request.device):
        raise DecodeError("device: is not the id of public_key")
    request.check()
    return request


@dataclass(frozen=True)
class Admission:
    """Everything that an admitted board needs in order to take part.

    Attributes:
      device: Whom it admits.
      genesis: The chain that the board pins.
      broker_host: Name or address of the MQTT broker.
      broker_port: In [1, 65535].
      ca_pem: The certificate authority that the broker's certificate must come from.
      certificate_pem: The board's TLS client certificate; its subject is the device
        name.
      trusted: Whom to trust by now, if the chain's validators are no longer those of
        the genesis: too many changes since would be missed by a manifest.
    """

    device: DeviceId
    genesis: Genesis
    broker_host: str
    broker_port: int
    ca_pem: str
    certificate_pem: str
    trusted: TrustedState | None = None

    @property
    def pinned(self) -> TrustedState:
        """Trusted state that the board starts from."""
        return self.trusted or pin(self.genesis)

    def to_json(self) -> str:
        """The admission as a JSON document."""
        trusted = b"" if self.trusted is None else TRUSTED.pack(self.trusted)
        return _dump(
            {
                "format": ADMISSION_FORMAT,
                "device": device_name(self.device),
                "genesis": base64.b64encode(GENESIS.pack(self.genesis)).decode(),
                "trusted": base64.b64encode(trusted).decode(),
                "broker_host": self.broker_host,
                "broker_port": self.broker_port,
                "ca_pem": self.ca_pem,
                "certificate_pem": self.certificate_pem,
            }
        )


def admission_from_json(text: bytes | str) -> Admission:
    """Reads an admission.

    Raises:
      LimitError: If the document or a part of it is too long.
      DecodeError: Naming the field that is missing, unknown or malformed.
    """
    document = _document(text, ADMISSION_FORMAT, _ADMISSION_KEYS)
    port = document["broker_port"]
    if type(port) is not int or not 1 <= port <= PORT_MAX:
        raise DecodeError(f"broker_port: expected an integer in [1, {PORT_MAX}]")
    host = _text(document, "broker_host", HOST_CHARS_MAX)
    if not host.isprintable() or " " in host:
        raise DecodeError("broker_host: expected a host name or an address")
    genesis = _genesis(document)
    return Admission(
        device_from_name(_text(document, "device", 64)),
        genesis,
        host,
        port,
        _pem(document, "ca_pem"),
        _pem(document, "certificate_pem"),
        _trusted(document, genesis),
    )


def _signed(public_key: bytes, tls_public_key: bytes) -> bytes:
    return b"".join((_TAG, public_key, tls_public_key))


def _dump(document: Mapping[str, object]) -> str:
    return json.dumps(document, indent=1) + "\n"


def _document(
    text: bytes | str, expected: str, keys: tuple[str, ...]
) -> dict[str, object]:
    if len(text) > DOCUMENT_BYTES_MAX:
        raise LimitError(f"{len(text)} bytes, {DOCUMENT_BYTES_MAX} allowed")
    document = read_json(text, "document")
    if not isinstance(document, dict) or document.get("format") != expected:
        raise DecodeError(f"format: expected {expected!r}")
    check_fields(document, "document", keys)
    return document


def _text(document: Mapping[str, object], key: str, most: int) -> str:
    value = document[key]
    if not isinstance(value, str) or not 0 < len(value) <= most:
        raise DecodeError(f"{key}: expected 1 to {most} letters")
    return value


def _hex(document: Mapping[str, object], key: str, count: int) -> bytes:
    text = _text(document, key, 2 * count)
    try:
        value = bytes.fromhex(text)
    except ValueError as error:
        raise DecodeError(f"{key}: not hexadecimal") from error
    # One spelling alone, so that equal documents are equal as bytes.
    if len(value) != count or value.hex() != text:
        raise DecodeError(f"{key}: expected {count} bytes in lower-case hexadecimal")
    return value


def _base64(document: Mapping[str, object], key: str, bytes_max: int) -> bytes:
    written = _text(document, key, 2 * bytes_max)
    try:
        return base64.b64decode(written, None, True)
    except (binascii.Error, ValueError) as error:
        raise DecodeError(f"{key}: not base64") from error


def _genesis(document: Mapping[str, object]) -> Genesis:
    try:
        packed = _base64(document, "genesis", GENESIS_BYTES_MAX)
        return GENESIS.unpack(packed)
    except (DecodeError, LimitError) as error:
        raise type(error)(f"genesis: {error}", error.reason) from error


def _trusted(document: Mapping[str, object], genesis: Genesis) -> TrustedState | None:
    if document["trusted"] == "":
        return None
    try:
        trusted = TRUSTED.unpack(_base64(document, "trusted", TRUSTED.bytes_max))
    except (DecodeError, LimitError) as error:
        raise type(error)(f"trusted: {error}", error.reason) from error
    # The board would pin one chain and follow another.
    if trusted.chain_id != genesis.chain_id():
        raise DecodeError("trusted: of another chain than the genesis")
    return trusted


def _pem(document: Mapping[str, object], key: str) -> str:
    text = _text(document, key, PEM_CHARS_MAX)
    begins = text.startswith("-----BEGIN CERTIFICATE-----\n")
    ends = text.rstrip("\n").endswith("-----END CERTIFICATE-----")
    if not (begins and ends and text.isascii()):
        raise DecodeError(f"{key}: expected a certificate in PEM form")
    return text

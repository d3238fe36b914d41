"""X.509 certificates of a fleet's authority, read without a library: boards have none.

Who connects leaves the checks to TLS. Here a certificate is read for its end, and one
that came in a message for whose it is, and whether the authority signed it.

Source: RFC 5280, section 4.1, the encodings of X.690, and RFC 8410 for Ed25519.
"""

import base64
import binascii
import re
import textwrap
from dataclasses import dataclass
from datetime import datetime

from starling.protocol.crypto.keys import verify
from starling.protocol.errors import DecodeError, SignatureError
from starling.protocol.ids import SIGNATURE_BYTES, PublicKey

_SEQUENCE, _SET, _VERSION = 0x30, 0x31, 0xA0
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18
_BIT_STRING, _UTF8, _PRINTABLE = 0x03, 0x0C, 0x13
_MOMENT = re.compile(r"[0-9]{14}Z")
_ED25519 = bytes.fromhex("06032b6570")
_SIGNED = bytes.fromhex("3005") + _ED25519 + bytes.fromhex("034100")
"""Before the 64 bytes of a signature: its algorithm and kind, which are not signed."""
_COMMON_NAME = bytes.fromhex("0603550403")
_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
_PEM_COLUMNS = 64
DAY_S = 86_400.0
CERTIFICATE_DAYS = 825
"""Life of a certificate that the authority issues; its own is longer."""
HALF_LIFE_DAYS = CERTIFICATE_DAYS / 2
"""From which on it is renewed: there is as long again to notice that it is not."""


@dataclass(frozen=True)
class TlsCertificate:
    """Fields of a certificate, which nobody has verified yet.

    Attributes:
      user: Common name of its subject.
      public_key: Ed25519.
      end_s: Unix time.
      body: What the issuer signed, as DER.
      signature: Of the issuer.
    """

    user: str
    public_key: PublicKey
    end_s: float
    body: bytes
    signature: bytes

    def require_issuer(self, authority: "TlsCertificate") -> None:
        """Refuses a certificate that an authority did not sign.

        Raises:
          SignatureError: If it did not.
        """
        try:
            verify(authority.public_key, self.body, self.signature)
        except SignatureError as error:
            raise SignatureError(
                f"the certificate of {self.user!r} is not of {authority.user!r}"
            ) from error


def read_certificate(der: bytes) -> TlsCertificate:
    """Takes a certificate with an Ed25519 key apart.

    Args:
      der: From whoever sent it.

    Raises:
      DecodeError: If it is none.
    """
    try:
        return _certificate(der)
    except (IndexError, ValueError) as error:
        raise DecodeError(f"not a certificate: {error}") from error


def from_pem(pem: str) -> bytes:
    """The first certificate in a PEM text, as DER.

    Raises:
      DecodeError: If it holds none.
    """
    _, begin, rest = pem.partition(_BEGIN)
    text, end, _ = rest.partition(_END)
    if not (begin and end):
        raise DecodeError("no PEM certificate")
    try:
        # Line breaks go first, since strict decoding refuses them with all else that is
        # no base64.
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise DecodeError(f"not a certificate: {error}") from error


def to_pem(der: bytes) -> str:
    """A certificate as a PEM text (RFC 7468)."""
    lines = textwrap.wrap(base64.b64encode(der).decode(), _PEM_COLUMNS)
    return "\n".join((_BEGIN, *lines, _END, ""))


def end_s(pem: str) -> float:
    """The end of the first certificate in a PEM text, in Unix time.

    Raises:
      DecodeError: If it holds none that can be read.
    """
    try:
        _, _, fields = _parts(from_pem(pem))
        return _end_s(fields[_VALIDITY])
    except (IndexError, ValueError) as error:
        raise DecodeError(f"not a certificate: {error}") from error


def days_left(pem: str, now_s: float) -> float:
    """Days until the certificate ends, below 0 if it has. Raises as `end_s`."""
    return (end_s(pem) - now_s) / DAY_S


_VALIDITY, _SUBJECT, _KEY = 3, 4, 5
"""Places of the fields of a body, from the serial number on."""


def _parts(der: bytes) -> tuple[bytes, bytes, list[bytes]]:
    """Body and signature of a certificate, and the fields of the body."""
    tag, certificate, rest = _element(der)
    if tag != _SEQUENCE or rest:
        raise ValueError("no sequence, or something behind it")
    _, inner, behind = _element(certificate)
    # The bytes as they came: a signature is over the issuer's own encoding.
    body = certificate[: len(certificate) - len(behind)]
    # Exact to the last byte, so that nothing unsigned can ride behind the signature.
    if not behind.startswith(_SIGNED) or len(behind) != len(_SIGNED) + SIGNATURE_BYTES:
        raise ValueError("no Ed25519 signature where it belongs")
    fields = []
    while inner:
        tag, _, rest = _element(inner)
        # The version is optional, and all places are counted without it.
        if tag != _VERSION:
            fields.append(inner[: len(inner) - len(rest)])
        inner = rest
    return body, behind[len(_SIGNED) :], fields


def _certificate(der: bytes) -> TlsCertificate:
    body, signature, fields = _parts(der)
    _, key, _ = _element(fields[_KEY])
    _, algorithm, key = _element(key)
    tag, bits, _ = _element(key)
    if algorithm != _ED25519 or tag != _BIT_STRING:
        raise ValueError("not an Ed25519 key")
    return TlsCertificate(
        _common_name(fields[_SUBJECT]),
        # The first byte of a bit string says how many of its last bits are not used.
        PublicKey(bits[1:]),
        _end_s(fields[_VALIDITY]),
        body,
        signature,
    )


def _common_name(subject: bytes) -> str:
    """The name of a subject that has nothing else."""
    _, names, _ = _element(subject)
    tag, name, others = _element(names)
    _, pair, more = _element(name)
    # One name alone: a second one could be what another reader takes for the user.
    if tag != _SET or others or more or not pair.startswith(_COMMON_NAME):
        raise ValueError("its subject is not one common name")
    tag, text, _ = _element(pair[len(_COMMON_NAME) :])
    if tag not in {_UTF8, _PRINTABLE}:
        raise ValueError("its subject's name is no text")
    return text.decode()


def _end_s(validity: bytes) -> float:
    tag, moments, _ = _element(validity)
    if tag != _SEQUENCE:
        raise ValueError("no validity where it belongs")
    _, _, rest = _element(moments)
    tag, moment, _ = _element(rest)
    return _moment_s(tag, moment.decode("ascii"))


def _element(content: bytes) -> tuple[int, bytes, bytes]:
    """Tag and value of the first element, and what comes after it."""
    tag, length, start = content[0], content[1], 2
    if length >= 0x80:
        start += length & 0x7F
        length = int.from_bytes(content[2:start], "big")
    # Lengths come from a stranger, and slices of Python would be short without a word.
    if start + length > len(content):
        raise ValueError("cut off")
    return tag, content[start : start + length], content[start + length :]


def _moment_s(tag: int, text: str) -> float:
    if tag == _UTC_TIME:
        # Two digits of a year: 50 to 99 are of the last century.
        text = ("19" if text >= "50" else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("no time where it belongs")
    # The one form that section 4.1.2.5 allows. strptime takes shorter ones, and loads a
    # calendar that a board then keeps in memory.
    if not _MOMENT.fullmatch(text):
        raise ValueError("no time")
    return datetime.fromisoformat(f"{text[:8]}T{text[8:]}").timestamp()

"""End of an X.509 certificate, read without a library: boards have none for it.

Only what stands before the end of validity is walked over; nothing is verified here,
which TLS does at each connection.

Source: RFC 5280, section 4.1, and the encodings of X.690.
"""

import base64
import binascii
from datetime import UTC, datetime

from starling.protocol.errors import DecodeError

_SEQUENCE, _UTC_TIME, _GENERALIZED_TIME, _VERSION = 0x30, 0x17, 0x18, 0xA0
_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
DAY_S = 86_400.0


def end_s(pem: str) -> float:
    """The end of the first certificate in a PEM text, in Unix time.

    Raises:
      DecodeError: If it holds none that can be read.
    """
    _, begin, rest = pem.partition(_BEGIN)
    text, end, _ = rest.partition(_END)
    if not (begin and end):
        raise DecodeError("no PEM certificate")
    try:
        return _end_s(base64.b64decode("".join(text.split()), validate=True))
    except (binascii.Error, IndexError, ValueError) as error:
        raise DecodeError(f"not a certificate: {error}") from error


def days_left(pem: str, now_s: float) -> float:
    """Days until the certificate ends, below 0 if it has. Raises as `end_s`."""
    return (end_s(pem) - now_s) / DAY_S


def _end_s(der: bytes) -> float:
    _, certificate, _ = _element(der)
    _, body, _ = _element(certificate)
    tag, _, rest = _element(body)
    if tag == _VERSION:
        _, _, rest = _element(rest)
    # After the serial number: algorithm, issuer, and then the validity.
    for _ in range(2):
        _, _, rest = _element(rest)
    tag, validity, _ = _element(rest)
    if tag != _SEQUENCE:
        raise ValueError("no validity where it belongs")
    _, _, rest = _element(validity)
    tag, moment, _ = _element(rest)
    return _moment_s(tag, moment.decode("ascii"))


def _element(content: bytes) -> tuple[int, bytes, bytes]:
    """Tag and value of the first element, and what comes after it."""
    tag, length, start = content[0], content[1], 2
    if length >= 0x80:
        start += length & 0x7F
        length = int.from_bytes(content[2:start], "big")
    if start + length > len(content):
        raise ValueError("cut off")
    return tag, content[start : start + length], content[start + length :]


def _moment_s(tag: int, text: str) -> float:
    if tag == _UTC_TIME:
        # Two digits of a year: 50 to 99 are of the last century.
        text = ("19" if text >= "50" else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("no time where it belongs")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()

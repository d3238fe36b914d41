"""Messages by which a client of a broker has its certificate issued anew, for one key.

    client                                        registrar
    renewal    certificate, signature       ->
               <-                           renewed  state, certificate, detail

Whoever holds the key of a certificate that the broker's authority signed is given
another one for the same name and key: nothing else can be asked for. The signature says
so where a bridge carries the topic of somebody else. An answer proves itself, since a
client takes only a certificate of the authority that it pins, for its own key and name.

Source: re-enrolment of EST, RFC 7030 section 4.2.2, which is proven by the certificate
that is to be replaced.
"""

import hashlib
from enum import IntEnum
from typing import Annotated

from starling.protocol.crypto.keys import SigningKey, verify
from starling.protocol.errors import DecodeError
from starling.protocol.ids import SIGNATURE_BYTES, PublicKey
from starling.protocol.schema.msgpack_codec import (
    Structure,
    binary,
    exactly,
    structure,
    text,
    uint,
)
from starling.protocol.wire.enrolment_messages import DETAIL_BYTES_MAX

RENEWAL_VERSION = 1
CERTIFICATE_BYTES_MAX = 2048
"""DER; those of a fleet's authority have about 400."""
_TAG = b"starling/certificate-renewal/1"


class CertificateRenewal(Structure, frozen=True):
    """A client asks for another certificate.

    Attributes:
      version: `RENEWAL_VERSION`.
      certificate: The one that it has, DER.
      signature: Of its key, over authority and certificate.
    """

    version: Annotated[int, uint(RENEWAL_VERSION, RENEWAL_VERSION)]
    certificate: Annotated[bytes, binary(CERTIFICATE_BYTES_MAX, 1)]
    signature: Annotated[bytes, exactly(SIGNATURE_BYTES)]


RENEWAL = structure(CertificateRenewal, CERTIFICATE_BYTES_MAX + 128)


class RenewalState(IntEnum):
    """Decision about a renewal, so far."""

    WAITS = 0
    RENEWED = 1
    REFUSED = 2


class RenewalAnswer(Structure, frozen=True):
    """The registrar's answer.

    Attributes:
      state: `RenewalState`; what waits is answered once more when it is decided.
      certificate: The new one, DER; empty in the other states.
      detail: Of the other states, for people.
    """

    state: Annotated[int, uint(max(RenewalState))]
    certificate: Annotated[bytes, binary(CERTIFICATE_BYTES_MAX)]
    detail: Annotated[str, text(DETAIL_BYTES_MAX)]

    def __post_init__(self) -> None:
        """Checks that an answer which renews, and no other, has a certificate."""
        if (self.state == RenewalState.RENEWED) != bool(self.certificate):
            raise DecodeError("an answer that renews, and no other, has a certificate")


RENEWED = structure(RenewalAnswer, CERTIFICATE_BYTES_MAX + DETAIL_BYTES_MAX + 64)


def sign_renewal(
    key: SigningKey, authority: bytes, certificate: bytes
) -> CertificateRenewal:
    """A client's request.

    Args:
      key: Of its TLS certificate.
      authority: Certificate of the authority that it pins, DER.
      certificate: Its own, DER.
    """
    signature = key.sign(_signed(authority, certificate))
    return CertificateRenewal(RENEWAL_VERSION, certificate, signature)


def check_renewal(
    public: PublicKey, authority: bytes, renewal: CertificateRenewal
) -> None:
    """Checks that a request's maker holds a key.

    Raises:
      SignatureError: If it does not, or means another authority.
    """
    verify(public, _signed(authority, renewal.certificate), renewal.signature)


def _signed(authority: bytes, certificate: bytes) -> bytes:
    digests = (hashlib.sha256(each).digest() for each in (authority, certificate))
    return _TAG + b"".join(digests)

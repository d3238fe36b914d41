"""An enrolment token: one line that leads a newcomer to a broker, and proves it there.

    starling://HOST:PORT/FLEET/FINGERPRINT/ID-SECRET
    starling-founding://...

The second form is for those who found a chain together, before there is one.
The fingerprint is the SHA-256 of the authority's certificate. The broker shows the
certificate itself, and whoever holds the token knows whether it is the right one, as
with kubeadm's `--discovery-token-ca-cert-hash`.
"""

import base64
import binascii
import re
from dataclasses import dataclass, field

from starling.protocol.crypto.scram import SECRET_BYTES
from starling.protocol.errors import DecodeError
from starling.protocol.wire.enrolment_messages import FINGERPRINT_BYTES, TOKEN_ID_BYTES
from starling.protocol.wire.topics import check_fleet_name

TOKEN_CHARS_MAX = 512
PORT_MAX = 65535
_LINE = re.compile(
    r"starling(?P<founding>-founding)?://(?P<host>\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9._-]{1,253})"
    r":(?P<port>[0-9]{1,5})/(?P<fleet>[a-z0-9-]{1,32})"
    r"/(?P<authority>[a-z2-7]{52})/(?P<token>[a-z2-7]{13})-(?P<secret>[a-z2-7]{32})"
)


@dataclass(frozen=True)
class EnrolmentToken:
    """A token as its holder has it.

    Attributes:
      host: Name or address of the broker.
      port: Of its enrolment listener.
      fleet: The fleet's name.
      authority: (32,) bytes, SHA-256 of the authority's certificate.
      identity: (8,) bytes; not secret.
      secret: (20,) random bytes.
      founding: Whether it is for a party that founds a chain with others.
    """

    host: str
    port: int
    fleet: str
    authority: bytes
    identity: bytes
    secret: bytes = field(repr=False)
    founding: bool = False

    def to_line(self) -> str:
        """The line that the newcomer is given; a secret."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        authority, token, secret = map(
            letters, (self.authority, self.identity, self.secret)
        )
        scheme = "starling-founding" if self.founding else "starling"
        place = f"{scheme}://{host}:{self.port}/{self.fleet}"
        return f"{place}/{authority}/{token}-{secret}"


def token_from_line(line: str) -> EnrolmentToken:
    """Reads a token.

    Raises:
      DecodeError: If it is none; the message does not hold the line, which is secret.
    """
    # The length first, so that no pattern is matched against a long line.
    found = _LINE.fullmatch(line.strip()) if len(line) <= TOKEN_CHARS_MAX else None
    if found is None or not 1 <= int(found["port"]) <= PORT_MAX:
        raise DecodeError(
            "is no enrolment token: take the whole line that `starling enrol token` "
            "or `coordinator init --parties` printed, "
            "starling://HOST:PORT/FLEET/FINGERPRINT/ID-SECRET"
        )
    return EnrolmentToken(
        found["host"].strip("[]"),
        int(found["port"]),
        check_fleet_name(found["fleet"]),
        _bytes(found["authority"], FINGERPRINT_BYTES),
        _bytes(found["token"], TOKEN_ID_BYTES),
        _bytes(found["secret"], SECRET_BYTES),
        found["founding"] is not None,
    )


def letters(content: bytes) -> str:
    """Bytes as lower-case base32 without padding."""
    return base64.b32encode(content).decode().rstrip("=").lower()


def _bytes(text: str, count: int) -> bytes:
    try:
        content = base64.b32decode(text.upper() + "=" * (-len(text) % 8))
    except binascii.Error as error:
        raise DecodeError("is no enrolment token: a letter is wrong") from error
    # The last letter has bits that decode to nothing: one spelling alone is taken.
    if len(content) != count or letters(content) != text:
        raise DecodeError("is no enrolment token: a letter is wrong")
    return content

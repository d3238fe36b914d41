"""A client's certificate at a broker: renewed over the link, and named once it ended.

From half its life on the link asks for another one, of the same name for the same key,
and takes what the pinned authority signed. The file is replaced in one step, and the
key stays: a power cut leaves the old certificate or the new one, and each is good.

A server that refuses a client's certificate under TLS 1.3 does so after the handshake:
the client sees a connection that ends.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from starling.broker.certificate_reader import (
    DAY_S,
    HALF_LIFE_DAYS,
    days_left,
    from_pem,
    read_certificate,
    to_pem,
)
from starling.broker.link_events import MqttMessage, RenewalTopics, ServerTls, TlsFiles
from starling.broker.runtime.tls_key import read_tls_key
from starling.durable.files import read_limited, write_atomic
from starling.protocol.errors import FederationError, ProtocolError
from starling.protocol.wire.renewal_messages import (
    RENEWAL,
    RENEWED,
    RenewalState,
    sign_renewal,
)

ASK_EVERY_S = 6 * 3600.0
"""A request has some 500 bytes, which is nothing beside 400 days."""
_PEM_BYTES_MAX = 1 << 16
_PUBLIC_MODE = 0o644
log = logging.getLogger("starling.broker")


@dataclass(frozen=True)
class _Held:
    """Our certificate and that of the authority, as DER."""

    certificate: bytes
    authority: bytes


class RenewedCertificate:
    """The certificate of one link, which is renewed over it; it sends nothing itself.

    Only the link's thread calls it.
    """

    def __init__(self, files: TlsFiles, topics: RenewalTopics) -> None:
        """Has not looked at the files yet.

        Args:
          files: Of the client.
          topics: Where it asks and is answered.
        """
        self._files = files
        self.topics = topics
        self._ask_at_s = float("-inf")

    def request(self, monotonic_s: float, now_s: float) -> MqttMessage | None:
        """Message to be published now; None if it is not time, or cannot be.

        Args:
          monotonic_s: For the time between two looks.
          now_s: Unix time.
        """
        if monotonic_s < self._ask_at_s:
            return None
        # Also if nothing was due: files are not read in every turn of the link.
        self._ask_at_s = monotonic_s + ASK_EVERY_S
        try:
            held = self._held()
            left = (read_certificate(held.certificate).end_s - now_s) / DAY_S
            if left > HALF_LIFE_DAYS:
                return None
            # Read for the request alone, so that the secret is not held for months.
            key = read_tls_key(self._files.key)
        except FederationError as error:
            log.warning("the certificate is not renewed: %s", error)
            return None
        payload = RENEWAL.pack(sign_renewal(key, held.authority, held.certificate))
        return MqttMessage(self.topics.ask, payload)

    def receive(self, payload: bytes, now_s: float) -> bool:
        """Takes an answer; True if there is another certificate in the file now.

        Args:
          payload: As it came, from whoever may write there.
          now_s: Unix time.
        """
        try:
            answer = RENEWED.unpack(payload)
            if answer.state != RenewalState.RENEWED:
                left = days_left(to_pem(self._held().certificate), now_s)
                log.warning(
                    "the certificate for the broker ends in %.0f days and is not "
                    "renewed: %s",
                    left,
                    answer.detail,
                )
                return False
            return self._take(answer.certificate)
        except FederationError as error:
            log.warning("a certificate that came is not taken: %s", error)
            return False

    def _take(self, der: bytes) -> bool:
        """Keeps a certificate that does what ours does, and for longer."""
        held = self._held()
        before, after = read_certificate(held.certificate), read_certificate(der)
        # Whoever may write to the topic could send a certificate; the pinned
        # authority's signature is what counts.
        after.require_issuer(read_certificate(held.authority))
        if (after.user, after.public_key) != (before.user, before.public_key):
            raise ProtocolError(f"it is of {after.user!r}, or for another key")
        if after.end_s <= before.end_s:
            # A second answer to one request.
            return False
        write_atomic(self._files.certificate, to_pem(der).encode(), _PUBLIC_MODE)
        log.info("the certificate for the broker is renewed")
        return True

    def _held(self) -> _Held:
        return _Held(_der(self._files.certificate), _der(self._files.authority))


def ended_certificate(
    files: TlsFiles | ServerTls | None, reason: str, now_s: float
) -> str:
    """The ended certificate that a failed connection is due to.

    Args:
      files: The client's.
      reason: As TLS or MQTT gave it.
      now_s: Unix time.

    Returns:
      Whose certificate ended, and since when; empty if none did.
    """
    if files is None:
        return ""
    looked = [(files.authority, "the broker's authority")]
    if isinstance(files, TlsFiles):
        looked.insert(0, (files.certificate, "our certificate"))
    for path, whose in looked:
        left = _days_left(path, now_s)
        if left is not None and left < 0:
            return f"{whose} ended {-left:.0f} days ago: {path}"
    return ""


def _days_left(path: Path, now_s: float) -> float | None:
    try:
        return days_left(_pem(path), now_s)
    except FederationError:
        return None


def _der(path: Path) -> bytes:
    return from_pem(_pem(path))


def _pem(path: Path) -> str:
    return read_limited(path, _PEM_BYTES_MAX).decode("ascii", "replace")

"""Renewal at the registrar: requests in, certificates out.

A client has an allowance of requests, and what is beyond it is ignored before it is
read, so that no client keeps the others waiting. The broker has authenticated whose
topic a request came on. Each request is then checked for length and form, for a
certificate of our authority that is the asker's own, and for the signature of its key,
and only then is anything read or issued. What is issued has the name and the key of
what was there before, so that nobody gains more by it than time.

While the authority's key is kept elsewhere, requests wait, and are answered once it is
back. Who waits is written down for `starling broker check`.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable

from starling.broker.broker_settings import CHECKER, REGISTRAR
from starling.broker.certificate_reader import (
    DAY_S,
    HALF_LIFE_DAYS,
    TlsCertificate,
    from_pem,
    read_certificate,
)
from starling.broker.link_events import MqttMessage
from starling.broker.runtime.broker_certificates import RenewalRecord
from starling.broker.runtime.broker_home import BrokerHome
from starling.coordinator.runtime.enrolment.request_handler import printable
from starling.coordinator.wire.rate_limit import TokenBuckets, spend
from starling.durable.files import read_limited
from starling.protocol.chain.board_statement import BoardRecord
from starling.protocol.errors import (
    FederationError,
    ProtocolError,
    Reason,
    SignatureError,
)
from starling.protocol.ids import DeviceId, device_from_name
from starling.protocol.wire.renewal_messages import (
    RENEWAL,
    RENEWED,
    CertificateRenewal,
    RenewalAnswer,
    RenewalState,
    check_renewal,
)
from starling.protocol.wire.token_bucket import RateLimits
from starling.protocol.wire.topics import Topics

log = logging.getLogger("starling.coordinator")

ALLOWANCE = RateLimits(1 / 15, 4.0, RENEWAL.bytes_max / 15, 4.0 * RENEWAL.bytes_max)
"""Of one client: it asks once a connection, and then every six hours."""
WAITING_MAX = 4096
ISSUED_AT_ONCE = 32
"""Fewer than a link takes at a time."""
_PEM_BYTES_MAX = 1 << 16


class RenewalHandler:
    """Renews certificates of one broker's clients.

    Attributes:
      refused: Requests that were refused, by reason.
    """

    def __init__(
        self,
        broker: BrokerHome,
        board: Callable[[DeviceId], BoardRecord | None],
        now_s: Callable[[], float] = time.time,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Reads who waits.

        Args:
          broker: With the authority.
          board: The chain's record of a board; None if it knows none.
          now_s: Unix time.
          monotonic_s: For clients' allowances.
        """
        self._board = board
        self._certificates = broker.certificates
        self._settings = broker.require_settings
        self._topics = Topics(broker.require_settings().fleet)
        self._now_s = now_s
        self._monotonic_s = monotonic_s
        self._guard = threading.Lock()
        self._allowances = TokenBuckets()
        self._ignored: Counter[str] = Counter()
        self._noted = self._certificates.renewals()
        self._waiting = dict(self._noted.waiting)
        self.refused: Counter[str] = Counter()

    def admits(self, topic: str, size: int) -> bool:
        """True if the client may be heard now; else the request is counted."""
        try:
            _, user, _ = self._topics.parse(topic)
        except ProtocolError:
            # Nothing is answered to it.
            return True
        now_s = self._monotonic_s()
        # By the user that the broker authenticated, since a payload may claim any name.
        paid = spend(self._allowances, user.encode(), size, ALLOWANCE, now_s)
        if paid is not None:
            self._allowances = paid
            return True
        # Once a client: a flood of requests must be no flood of lines.
        if not self._ignored[user]:
            log.warning("%s asks for its certificate too often, and is ignored", user)
        self._ignored[user] += 1
        return False

    def receive(self, topic: str, payload: bytes) -> list[MqttMessage]:
        """Takes one request.

        Returns:
          The answer; none to what is no request.
        """
        try:
            _, user, _ = self._topics.parse(topic)
        except ProtocolError as error:
            self.refused[error.reason.name] += 1
            return []
        try:
            with self._guard:
                answer = self._decided(user, RENEWAL.unpack(payload))
            return [self._answer(user, answer)]
        except ProtocolError as error:
            self.refused[error.reason.name] += 1
            log.info("the certificate of %s is not renewed: %s", user, error)
            return [self._answer(user, _no(RenewalState.REFUSED, str(error)))]

    def process_pending(self) -> list[MqttMessage]:
        """Issues what waits, once the authority's key is here.

        Raises:
          ConfigError: If the key or the broker's folder cannot be used.
          StorageError: If the disk refuses.
        """
        if not self._waiting or not self._certificates.has_key():
            return []
        told: list[MqttMessage] = []
        with self._guard:
            for user, der in list(self._waiting.items())[:ISSUED_AT_ONCE]:
                try:
                    # Again, since it may have been revoked while it waited for the key.
                    self._require_welcome(user)
                    answer = self._issued(read_certificate(der))
                except ProtocolError as error:
                    answer = _no(RenewalState.REFUSED, str(error))
                except FederationError:
                    if not told:
                        raise
                    # First what was issued before; the next call says what is wrong.
                    break
                del self._waiting[user]
                told.append(self._answer(user, answer))
        return told

    def write_status(self) -> None:
        """Writes down who waits, and who asks too often, for people.

        Raises:
          StorageError: If the disk refuses.
        """
        with self._guard:
            record = RenewalRecord(dict(self._waiting), dict(self._ignored))
        # A flood must not write to a flash card for each look.
        if record != self._noted:
            self._certificates.put_renewals(record)
            self._noted = record

    def _decided(self, user: str, renewal: CertificateRenewal) -> RenewalAnswer:
        authority = self._authority()
        certificate = read_certificate(renewal.certificate)
        # Before anything that it says of itself is used.
        certificate.require_issuer(read_certificate(authority))
        if certificate.user != user:
            raise SignatureError("the certificate is of another client")
        check_renewal(certificate.public_key, authority, renewal)
        left = (certificate.end_s - self._now_s()) / DAY_S
        if left > HALF_LIFE_DAYS:
            text = f"it has {left:.0f} days left, and is renewed from half its life on"
            raise ProtocolError(text, Reason.NOT_AUTHORISED)
        self._require_welcome(user)
        try:
            if self._certificates.has_key():
                return self._issued(certificate)
        except FederationError as error:
            log.warning("the certificate of %s is not renewed: %s", user, error)
        return self._waits(certificate, renewal.certificate)

    def _waits(self, certificate: TlsCertificate, der: bytes) -> RenewalAnswer:
        # Beyond it clients ask again in any case; only the list for people is short of
        # them.
        if len(self._waiting) < WAITING_MAX:
            self._waiting[certificate.user] = der
        text = "the authority's key is not at the broker; its operator is to put it"
        return _no(RenewalState.WAITS, f"{text} back before the certificate ends")

    def _issued(self, certificate: TlsCertificate) -> RenewalAnswer:
        user, key = certificate.user, certificate.public_key
        pem = self._certificates.authority().issue(user, key)
        log.info("the certificate of %s is renewed", user)
        return RenewalAnswer(RenewalState.RENEWED, from_pem(pem.decode()), "")

    def _require_welcome(self, user: str) -> None:
        """Refuses who lost its rights, at the broker or on the chain.

        Raises:
          ProtocolError: If it did, or is neither a board nor a coordinator.
        """
        settings = self._settings()
        if user in settings.expelled:
            raise ProtocolError("expelled from the broker", Reason.NOT_AUTHORISED)
        known = (*settings.coordinators, *settings.peers, CHECKER, REGISTRAR)
        if user in known:
            return
        record = self._board(device_from_name(user))
        if record is None:
            raise ProtocolError("the chain knows no such board", Reason.NOT_ENROLLED)
        if record.revoked:
            raise ProtocolError("revoked on the chain", Reason.NOT_ENROLLED)

    def _authority(self) -> bytes:
        path = self._certificates.authority_certificate
        return from_pem(read_limited(path, _PEM_BYTES_MAX).decode("ascii", "replace"))

    def _answer(self, user: str, answer: RenewalAnswer) -> MqttMessage:
        return MqttMessage(self._topics.renewed(user), RENEWED.pack(answer))


def _no(state: RenewalState, detail: str) -> RenewalAnswer:
    return RenewalAnswer(state, b"", printable(detail))

"""A handler of renewals with a broker's home and the boards of a chain."""

import time
from dataclasses import dataclass, field

from starling.broker.certificate_reader import (
    TlsCertificate,
    from_pem,
    read_certificate,
)
from starling.broker.health_checks import Verdict
from starling.broker.link_events import MqttMessage
from starling.broker.runtime.broker_certificates import renewal_check
from starling.broker.runtime.broker_home import BrokerHome
from starling.coordinator.runtime.enrolment.renewal_handler import RenewalHandler
from starling.protocol.chain.board_statement import BoardRecord
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.ids import DeviceId, device_id, device_name
from starling.protocol.wire.renewal_messages import (
    RENEWAL,
    RENEWED,
    RenewalAnswer,
    sign_renewal,
)
from starling.protocol.wire.topics import Topics

TOPICS = Topics("meadow")
KEY = SigningKey(b"k" * 32)
DEVICE = device_id(SigningKey(b"b" * 32).public)
BOARD = device_name(DEVICE)


@dataclass
class Office:
    """A handler with what is around it.

    Attributes:
      broker: With the authority.
      boards: Of the chain.
      monotonic_s: The handler's clock.
      handler: Under test.
    """

    broker: BrokerHome
    boards: dict[DeviceId, BoardRecord] = field(default_factory=dict)
    monotonic_s: float = 0.0

    def __post_init__(self) -> None:
        self.open()

    def open(self) -> None:
        """As after a start of the coordinator."""
        self.handler = RenewalHandler(
            self.broker, self.boards.get, time.time, lambda: self.monotonic_s
        )

    def issued(self, user: str, days: int = 5) -> bytes:
        """Certificate of a client, as it is so many days before its end."""
        authority = self.broker.certificates.authority()
        return from_pem(authority.issue(user, KEY.public, days).decode())

    @property
    def authority(self) -> bytes:
        return from_pem(self.broker.authority_certificate.read_text())

    def request(self, certificate: bytes, key: SigningKey = KEY) -> bytes:
        return RENEWAL.pack(sign_renewal(key, self.authority, certificate))

    def ask(self, user: str, payload: bytes) -> RenewalAnswer:
        return answer(user, self.handler.receive(TOPICS.renewal(user), payload))


def answer(user: str, told: list[MqttMessage]) -> RenewalAnswer:
    (message,) = told
    assert message.topic == TOPICS.renewed(user)
    return RENEWED.unpack(message.payload)


def enrolled(*, revoked: bool = False) -> BoardRecord:
    return BoardRecord(KEY.public, DeviceId(bytes(16)), 1, int(revoked), 0, 0)


def taken(office: Office, reply: RenewalAnswer) -> TlsCertificate:
    found = read_certificate(reply.certificate)
    found.require_issuer(read_certificate(office.authority))
    return found


def check(office: Office) -> tuple[Verdict, str]:
    settings = office.broker.require_settings()
    row = renewal_check(office.broker.certificates, settings, time.time())
    return row.verdict, row.found

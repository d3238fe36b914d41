"""Settings, messages and events of a link."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from starling.broker.backoff import BackoffPolicy
from starling.protocol.wire.topics import Topics
from starling.protocol.wire.trace_context import TRACEPARENT

PACKET_BYTES_MAX = 131_072
"""Largest MQTT packet in either direction; every known broker takes so much."""
NO_SUBSCRIBER = 0x10
"""Reason of a `Delivered`: the broker has the message, but nobody listens."""
REFUSED_FROM = 0x80
"""Reasons of a `Delivered` from here on are refusals; 0x87 is 'not authorised'."""
_HEADER_BYTES_MAX = 5
_EXPIRY_BYTES = 5
_USER_PROPERTY_BYTES = 5
"""A byte that tells what follows, and the lengths of name and value."""


@dataclass(frozen=True)
class TlsFiles:
    """PEM files of a client; read again at each connection, so they can be renewed.

    Attributes:
      authority: Certificate of the authority that signed the broker's.
      certificate: The client's own; its common name becomes the broker's user name.
      key: The client's secret key; readable by its owner alone.
    """

    authority: Path
    certificate: Path
    key: Path


@dataclass(frozen=True)
class ServerTls:
    """File of a client that has no certificate of its own.

    Attributes:
      authority: PEM of the certificate of the authority that signed the broker's.
    """

    authority: Path


@dataclass(frozen=True)
class PasswordLogin:
    """Name and password of a client without a certificate.

    Attributes:
      user: The broker's user name.
      password: Secret.
    """

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class MqttMessage:
    """One message to publish, always at QoS 1.

    Attributes:
      topic: Without wildcards.
      payload: Bytes.
      retain: Whether the broker keeps it for later subscribers.
      expiry_s: Seconds, at least 1, after which the broker drops it undelivered; None
        never. (Mosquitto takes 0 for never, so it is not allowed.)
      traceparent: User property of that name; empty for none. See
        `protocol.wire.trace_context`.
    """

    topic: str
    payload: bytes
    retain: bool = False
    expiry_s: int | None = None
    traceparent: str = ""

    def __post_init__(self) -> None:
        """Checks the bound that the broker would read differently."""
        assert self.expiry_s is None or self.expiry_s >= 1


def no_rest() -> float:
    """Rest of a link that reads all the time."""
    return 0.0


@dataclass(frozen=True)
class RenewalTopics:
    """Topics of a link whose certificate is renewed over it.

    Attributes:
      ask: Where it publishes its request.
      answer: Where it is answered.
    """

    ask: str
    answer: str


def renewal_topics(topics: Topics, user: str) -> RenewalTopics:
    """Topics of a client that the broker knows by a name."""
    return RenewalTopics(topics.renewal(user), topics.renewed(user))


@dataclass(frozen=True)
class LinkSettings:
    """Address and identity of a connection.

    Attributes:
      host: Name or address; must stand in the broker's certificate.
      port: TCP port.
      client_id: The broker replaces it by the authenticated user name.
      tls: None for a plain listener on the same machine.
      keepalive_s: Silence after which a ping is sent; a dead peer shows after twice it.
      session_expiry_s: How long the broker keeps messages for an absent client.
      receive_maximum: Messages that the broker may send unacknowledged; they bound the
        memory of whoever queues events: times `packet_bytes_max`.
      window: Publishes in flight; the server's Receive Maximum may lower it.
      packet_bytes_max: Largest packet in either direction.
      connect_timeout_s: For TCP, TLS and the broker's answer, each.
      will: What the broker publishes if we vanish; None for nothing.
      subscriptions: Topic filters, renewed at each connection.
      backoff: Delays between connections.
      rest_s: Asked after each turn, in the link's thread: how long reading may rest.
        To be woken and to decrypt costs more than to hear a message that is dropped;
        what came meanwhile is read in one go. Publishing does not rest.
      login: For a listener that asks for no certificate; None to stay nameless.
      renewal: Where the link has its certificate renewed; None for one that is renewed
        otherwise, or never.
    """

    host: str
    port: int
    client_id: str
    tls: TlsFiles | ServerTls | None = None
    keepalive_s: int = 30
    session_expiry_s: int = 3600
    receive_maximum: int = 64
    window: int = 64
    packet_bytes_max: int = PACKET_BYTES_MAX
    connect_timeout_s: float = 5.0
    will: MqttMessage | None = None
    subscriptions: tuple[str, ...] = ()
    backoff: BackoffPolicy = field(default_factory=BackoffPolicy)
    rest_s: Callable[[], float] = no_rest
    login: PasswordLogin | None = None
    renewal: RenewalTopics | None = None

    @property
    def address(self) -> str:
        """Host and port of the broker, for people."""
        return f"{self.host}:{self.port}"


TAKEN_OVER = "another client uses this identity"
"""Said in the reason of a lost connection."""


class AckToken(NamedTuple):
    """Names a message that was received, for its acknowledgement.

    Attributes:
      connection: Which of the link's connections it came over.
      packet: The broker's packet id in that connection; 0 needs no acknowledgement.
    """

    connection: int
    packet: int


@dataclass(frozen=True)
class LinkConnected:
    """The broker accepted us and all subscriptions.

    Messages of a resumed session may arrive before this event.

    Attributes:
      packet_bytes_max: Largest packet that may be published.
      session_present: Whether the broker kept our session.
      window: How many publishes may be in flight.
    """

    packet_bytes_max: int
    session_present: bool
    window: int


@dataclass(frozen=True)
class LinkDisconnected:
    """There is no connection, or an attempt failed; open publishes are void.

    Attributes:
      reason: For people.
      retry_in_s: When the next attempt begins; None if there will be none.
    """

    reason: str
    retry_in_s: float | None


@dataclass(frozen=True, slots=True)
class MessageArrived:
    """A message; the broker sends it again until its token is acknowledged.

    Attributes:
      topic: Where it was published.
      payload: Bytes.
      token: For `Link.acknowledge`.
      traceparent: As `PublishPacket` has it.
    """

    topic: str
    payload: bytes
    token: AckToken
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class Delivered:
    """The broker answered a publish.

    Attributes:
      publish_id: From `Link.publish`.
      reason_code: 0 done, `NO_SUBSCRIBER`, or a refusal from `REFUSED_FROM` on.
    """

    publish_id: int
    reason_code: int


LinkEvent = LinkConnected | LinkDisconnected | MessageArrived | Delivered


def packet_bytes(message: MqttMessage) -> int:
    """Upper bound of the message's size as an MQTT 5 PUBLISH packet, in bytes."""
    properties = 1 + (0 if message.expiry_s is None else _EXPIRY_BYTES)
    if message.traceparent:
        # Both are ASCII, so characters are bytes.
        names = len(TRACEPARENT) + len(message.traceparent)
        properties += _USER_PROPERTY_BYTES + names
    topic = 2 + len(message.topic.encode())
    return _HEADER_BYTES_MAX + topic + 2 + properties + len(message.payload)

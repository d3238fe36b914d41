"""One connection to the broker, from CONNECT to its end; used by one thread only.

This is the only file that imports paho-mqtt. paho's own thread, queue, retransmission
and reconnecting are not used.
"""

import selectors
import socket
import ssl
import struct
import time
from collections.abc import Callable

from starling.broker.link_events import (
    AckToken,
    Delivered,
    LinkConnected,
    LinkSettings,
    MessageArrived,
    MqttMessage,
)
from starling.broker.module_stand_in import stand_in
from starling.broker.publish_packet import PublishPacket, read_publish
from starling.broker.runtime.tls.connection_failures import explain_failure
from starling.broker.runtime.tls.tls_stream import TlsStream, client_context
from starling.protocol.wire.trace_context import TRACEPARENT

with stand_in("urllib.request", unless="socks"):
    from paho.mqtt import MQTTException
    from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags
    from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode
    from paho.mqtt.subscribeoptions import SubscribeOptions

CONNECT_ERRORS = (OSError, ValueError)
"""What an attempt to connect can raise: network, name resolution, TLS, files."""
SESSION_TAKEN_OVER = 0x8E
READS_MAX = 64
"""Packets read before acknowledgements and publishes get their turn."""
_RECEIVE_MAXIMUM_DEFAULT = 65_535
_PACKET_BYTES_DEFAULT = 268_435_460

# What paho raises on bytes that are no MQTT 5; the broker is trusted with little.
_MALFORMED = (MQTTException, ValueError, LookupError, struct.error)

OnConnected = Callable[[LinkConnected], None]
OnHappened = Callable[[MessageArrived | Delivered], None]


class _Client(Client):
    """paho's client, past which messages go.

    Attributes:
      unwritable: Whether a write failed. paho would close at once, and with the socket
        would go what the broker said before it hung up.
    """

    def __init__(
        self, client_id: str, on_packet: Callable[[PublishPacket], None]
    ) -> None:
        self.unwritable = False
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        self._on_packet = on_packet

    def _handle_publish(self) -> MQTTErrorCode:
        command, rest = self._in_packet["command"], self._in_packet["packet"]
        self._on_packet(read_publish(command, rest))
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _sock_send(self, buf: bytes | bytearray) -> int:
        try:
            return super()._sock_send(buf)
        except BlockingIOError:
            raise
        except OSError:
            self.unwritable = True
            return len(buf)


class MqttConnection:
    """A paho client that lives as long as its socket.

    Attributes:
      serial: Tells the tokens of one connection from those of another.
      reason: Why it ended, for people.
      taken_over: Whether the broker said that another client took the session.
    """

    def __init__(
        self,
        settings: LinkSettings,
        will: MqttMessage | None,
        serial: int,
        on_connected: OnConnected,
        on_happened: OnHappened,
    ) -> None:
        """Connects; blocks for TCP and TLS.

        Raises:
          OSError, ValueError: As in `CONNECT_ERRORS`.
        """
        self.serial = serial
        self.reason = "connection lost"
        self.taken_over = False
        self._settings = settings
        self._on_connected = on_connected
        self._on_happened = on_happened
        self._publish_ids: dict[int, int] = {}
        self._packets_read = 0
        self._accepted: LinkConnected | None = None
        self._is_over = False
        self._accepted_at_s: float | None = None
        self._client = self._build(will)
        self._began_s = time.monotonic()
        self._client.connect(
            settings.host,
            settings.port,
            keepalive=settings.keepalive_s,
            # The broker keeps what came for us while we were away.
            clean_start=False,
            properties=_connect_properties(settings),
        )

    def _build(self, will: MqttMessage | None) -> _Client:
        client = _Client(self._settings.client_id, self._on_packet)
        client.connect_timeout = self._settings.connect_timeout_s
        # The window is counted in Link, before anything reaches paho.
        client.max_inflight_messages_set(0)
        if self._settings.tls is not None:
            client.tls_set_context(client_context(self._settings.tls))
        if self._settings.login is not None:
            login = self._settings.login
            client.username_pw_set(login.user, login.password)
        if will is not None:
            client.will_set(
                will.topic,
                will.payload,
                qos=1,
                retain=will.retain,
                properties=_message_properties(will, PacketTypes.WILLMESSAGE),
            )
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        client.on_disconnect = self._on_disconnect
        client.on_socket_open = _tune
        # With this callback set, paho queues packets and `turn` writes them.
        client.on_socket_register_write = _ignore
        return client

    @property
    def alive(self) -> bool:
        """True while there is a socket, and nothing odd came over it."""
        # paho drops its socket when the connection ends by itself.
        return not self._is_over and self._client.socket() is not None

    def fileno(self) -> int:
        """The socket's descriptor."""
        opened = self._client.socket()
        assert opened is not None
        return opened.fileno()

    def pending(self) -> bool:
        """True if decrypted bytes wait that no selector can see."""
        opened = self._client.socket()
        return isinstance(opened, ssl.SSLSocket) and opened.pending() > 0

    def want_write(self) -> bool:
        """True if packets wait to be written."""
        return self._client.want_write()

    @property
    def resumed(self) -> bool:
        """True if the broker had kept the session from before."""
        return self._accepted is not None and self._accepted.session_present

    def lived_s(self) -> float | None:
        """Seconds since the broker accepted us; None if it never did."""
        if self._accepted_at_s is None:
            return None
        return time.monotonic() - self._accepted_at_s

    def turn(self, ready: int) -> None:
        """Reads what has come, writes what waits, looks after keepalive.

        Args:
          ready: The selector's mask for the socket.
        """
        opened = self._client.socket()
        if ready & selectors.EVENT_READ or self.pending():
            self._read()
        if self.alive and self.want_write():
            self._client.loop_write()
        # The peer hung up: what it said before is read, then we leave too.
        if self.alive and self._client.unwritable:
            self._read()
            if self.alive:
                self._end(self.reason)
        if not self.alive and isinstance(opened, TlsStream) and opened.refused:
            # Under TLS 1.3 a server looks at our certificate after the handshake.
            said = explain_failure(opened.refused, self._settings.host)
            self.reason = "; ".join((self.reason, *filter(None, said)))
        if self.alive:
            self._client.loop_misc()
        waited_s = time.monotonic() - self._began_s
        if self._accepted_at_s is None and waited_s > self._settings.connect_timeout_s:
            self._end("the broker does not answer")

    def publish(self, publish_id: int, message: MqttMessage) -> None:
        """Queues one message; `turn` writes it."""
        info = self._client.publish(
            message.topic,
            message.payload,
            qos=1,
            retain=message.retain,
            properties=_message_properties(message, PacketTypes.PUBLISH),
        )
        # paho counts packet ids anew in each connection, and only to 65,535.
        self._publish_ids[info.mid] = publish_id

    def acknowledge(self, packet: int) -> None:
        """Queues one PUBACK; `turn` writes it."""
        self._client.ack(packet, 1)

    def flush(self) -> None:
        """Writes what waits, as far as the socket takes it."""
        if self.alive and self.want_write():
            self._client.loop_write()

    def disconnect(self) -> None:
        """Says goodbye, so that the last will is not sent, and closes."""
        self.reason = "stopped"
        if self._client.disconnect() == MQTTErrorCode.MQTT_ERR_SUCCESS:
            self.flush()

    def close(self) -> None:
        """Closes the socket without a word, if it is still open."""
        opened = self._client.socket()
        if opened is not None:
            opened.close()

    def _read(self) -> None:
        for _ in range(READS_MAX):
            before = self._packets_read
            try:
                self._client.loop_read()
            except _MALFORMED as error:
                self._end(f"malformed packet from the broker: {error}")
                return
            if not self.alive or self._packets_read == before:
                return

    def _end(self, reason: str) -> None:
        # paho is not asked again: it would take up the packet that it stumbled over.
        self._is_over = True
        self.reason = reason
        self.close()

    def _on_connect(
        self,
        client: Client,
        _userdata: object,
        flags: ConnectFlags,
        code: ReasonCode,
        properties: Properties | None,
    ) -> None:
        self._packets_read += 1
        if code.is_failure:
            self.reason = f"refused by the broker: {code}"
            return
        window = getattr(properties, "ReceiveMaximum", _RECEIVE_MAXIMUM_DEFAULT)
        self._accepted_at_s = time.monotonic()
        self._accepted = LinkConnected(
            getattr(properties, "MaximumPacketSize", _PACKET_BYTES_DEFAULT),
            flags.session_present,
            min(window, self._settings.window),
        )
        if not self._settings.subscriptions:
            self._on_connected(self._accepted)
            return
        # A coordinator's filter for gossip matches its own topic as well.
        options = SubscribeOptions(qos=1, noLocal=True)
        client.subscribe([(name, options) for name in self._settings.subscriptions])

    def _on_subscribe(
        self,
        client: Client,
        _userdata: object,
        _packet: int,
        codes: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        self._packets_read += 1
        # Connected without a subscription, a board would wait for ever.
        refused = [code for code in codes if code.is_failure]
        if refused:
            client.disconnect()
            self.reason = f"subscription refused: {refused[0]}"
            return
        if self._accepted is None:
            raise ValueError("an answer to a subscription before one to the connection")
        self._on_connected(self._accepted)

    def _on_packet(self, packet: PublishPacket) -> None:
        self._packets_read += 1
        token = AckToken(self.serial, packet.packet_id)
        self._on_happened(
            MessageArrived(packet.topic, packet.payload, token, packet.traceparent)
        )

    def _on_publish(
        self,
        _client: Client,
        _userdata: object,
        packet: int,
        code: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._packets_read += 1
        self._on_happened(Delivered(self._publish_ids.pop(packet), code.value))

    def _on_disconnect(
        self,
        _client: Client,
        _userdata: object,
        flags: DisconnectFlags,
        code: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        # paho calls this for every end; only a packet of the broker's says why.
        if flags.is_disconnect_packet_from_server:
            self.taken_over = code.value == SESSION_TAKEN_OVER
            self.reason = f"ended by the broker: {code}"


def _connect_properties(settings: LinkSettings) -> Properties:
    properties = _properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = settings.session_expiry_s
    properties.ReceiveMaximum = settings.receive_maximum
    properties.MaximumPacketSize = settings.packet_bytes_max
    return properties


def _properties(kind: int) -> Properties:
    # paho's constructor has no annotations.
    return Properties(kind)  # type: ignore[no-untyped-call]  # paho's


def _message_properties(message: MqttMessage, kind: int) -> Properties | None:
    if message.expiry_s is None and not message.traceparent:
        return None
    properties = _properties(kind)
    if message.expiry_s is not None:
        properties.MessageExpiryInterval = message.expiry_s
    if message.traceparent:
        properties.UserProperty = (TRACEPARENT, message.traceparent)
    return properties


def _tune(_client: Client, _userdata: object, opened: object) -> None:
    # Small messages must not wait for the acknowledgement of the one before (Nagle).
    assert isinstance(opened, socket.socket)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _ignore(_client: Client, _userdata: object, _socket: object) -> None:
    return

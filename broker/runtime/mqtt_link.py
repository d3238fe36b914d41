"""The MQTT client of boards and coordinators: paho-mqtt with its traps closed.

- One thread talks to paho; every other one hands it work through a queue.
- Each connection has a fresh paho client, so paho never repeats anything by itself. A
  publish without its `Delivered` before the next `LinkDisconnected` is void, and
  whoever has it on disk publishes it again: nothing queues without bound, and a
  message that the broker refuses cannot come back for ever.
- The server's Maximum Packet Size is enforced here, since paho does not look at it.
- Only `acknowledge` tells the broker that a message is safe: after the durable write.
- Reconnecting is ours: full jitter, and slow to forget (`broker.backoff`).
- Its certificate is renewed over it, if it is told where; nobody else hears of that.
"""

import errno
import select
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace

from starling.broker.backoff import Backoff, after_loss
from starling.broker.link_events import (
    TAKEN_OVER,
    AckToken,
    Delivered,
    LinkConnected,
    LinkDisconnected,
    LinkEvent,
    LinkSettings,
    MessageArrived,
    MqttMessage,
    TlsFiles,
    packet_bytes,
)
from starling.broker.runtime.client_certificate import (
    RenewedCertificate,
    ended_certificate,
)
from starling.broker.runtime.mqtt_connection import CONNECT_ERRORS, MqttConnection
from starling.broker.runtime.tls.connection_failures import explain_failure
from starling.durable.files import refusal
from starling.protocol.errors import LimitError, TransportError

__all__ = [
    "AckToken",
    "Delivered",
    "LinkConnected",
    "LinkDisconnected",
    "LinkEvent",
    "LinkSettings",
    "MessageArrived",
    "MqttLink",
    "MqttMessage",
    "TlsFiles",
]

WAKE_S = 1.0
"""How often the thread looks at keepalive when nothing happens."""
_RENEWAL_ID = 0
"""Of a publish that is our own; all others count from 1."""


class MqttLink:
    """A connection to the broker that keeps coming back."""

    def __init__(
        self,
        settings: LinkSettings,
        on_event: Callable[[LinkEvent], None],
        random_float: Callable[[], float],
    ) -> None:
        """Prepares a link; `start` begins to connect.

        Args:
          settings: Where to connect, and as whom.
          on_event: Called in the network thread with each event; must not block, so
            put it into a queue.
          random_float: Draws from [0, 1), for the jitter.
        """
        self._certificate: RenewedCertificate | None = None
        self._is_renewed = False
        if settings.renewal is not None and isinstance(settings.tls, TlsFiles):
            self._certificate = RenewedCertificate(settings.tls, settings.renewal)
            filters = (*settings.subscriptions, settings.renewal.answer)
            settings = replace(settings, subscriptions=filters)
        self._settings = settings
        self._on_event = on_event
        self._random_float = random_float
        self._will = settings.will
        self._guard = threading.Lock()
        self._publishes: deque[tuple[int, MqttMessage]] = deque()
        self._tokens: deque[AckToken] = deque()
        self._in_flight: set[int] = set()
        self._limits: LinkConnected | None = None
        self._publish_id = 0
        self._serial = 0
        self._stop_at_s: float | None = None
        self._wake_reader, self._wake_writer = socket.socketpair()
        # `_wake` is called by others' threads, which must never wait for ours.
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        self._woken = False
        self._thread = threading.Thread(
            target=self._run, name=f"link-{settings.client_id}", daemon=True
        )

    def start(self) -> None:
        """Begins to connect, in a thread of its own.

        Raises:
          TransportError: If the system gives this process no further thread.
        """
        try:
            self._thread.start()
        except RuntimeError as error:
            # Python names no error number here.
            refused = OSError(errno.EAGAIN, str(error))
            raise TransportError(f"no link: {refusal(refused)}") from error

    def stop(self, timeout_s: float = 5.0) -> None:
        """Sends what was published, disconnects cleanly and ends the thread.

        The last will is not sent. Safe to call twice, before `start`, and from
        `on_event`, where it only asks for the end.

        Args:
          timeout_s: How long to wait for the broker's acknowledgements.
        """
        with self._guard:
            # Set under the guard that `publish` holds: nothing is taken in afterwards.
            self._stop_at_s = time.monotonic() + timeout_s
        self._wake()
        if self._thread.ident is None:
            self._close_wake()
            return
        if threading.current_thread() is not self._thread:
            # Connecting may take its own time-out, and the thread is a daemon.
            self._thread.join(timeout_s + self._settings.connect_timeout_s)

    def publish(self, message: MqttMessage) -> int:
        """Hands a message to the broker at QoS 1.

        Returns:
          The id that `Delivered` will name. A `LinkDisconnected` before that means that
          the message may or may not have arrived, and is to be published again.

        Raises:
          LimitError: If the packet is over our limit or the server's; nothing was sent.
          TransportError: If there is no connection, or the window is full: wait for
            `LinkConnected` or `Delivered`.
        """
        size = packet_bytes(message)
        with self._guard:
            limits = self._limits
            most = self._settings.packet_bytes_max
            if limits is not None:
                most = min(most, limits.packet_bytes_max)
            if size > most:
                raise LimitError(f"{message.topic}: packet of {size} bytes, {most} max")
            # Without a connection nothing is queued: whoever has it on disk publishes
            # it at the next.
            if limits is None or self._stop_at_s is not None:
                raise TransportError("not connected to the broker")
            if len(self._in_flight) >= limits.window:
                raise TransportError(f"{limits.window} messages are in flight")
            self._publish_id += 1
            publish_id = self._publish_id
            self._in_flight.add(publish_id)
            self._publishes.append((publish_id, message))
        self._wake()
        return publish_id

    def acknowledge(self, token: AckToken) -> None:
        """Tells the broker that a message is safe; it is not delivered again."""
        self.acknowledge_many((token,))

    def acknowledge_many(self, tokens: Iterable[AckToken]) -> None:
        """Acknowledges several messages, in the order in which they arrived.

        A token of an earlier connection does nothing: the broker delivers that message
        again, or already has.
        """
        self._tokens.extend(tokens)
        self._wake()

    def set_will(self, will: MqttMessage | None) -> None:
        """Sets the last will of the next connection."""
        with self._guard:
            self._will = will

    def _wake(self) -> None:
        # Whoever sets it has queued something before, and the thread clears it before
        # it looks at the queues.
        if self._woken:
            return
        self._woken = True
        try:
            self._wake_writer.send(b"\0")
        except (BlockingIOError, OSError):
            # Full means that a wake-up is under way; closed, that the thread has ended.
            return

    def _run(self) -> None:
        backoff = Backoff()
        try:
            while self._stop_at_s is None:
                connection, reason, lived_s = self._connection()
                told = connection is not None and connection.taken_over
                resumed = connection is not None and connection.resumed
                backoff, delay_s = after_loss(
                    backoff,
                    self._settings.backoff,
                    lived_s,
                    told,
                    self._random_float(),
                    resumed,
                )
                ended = ended_certificate(self._settings.tls, reason, time.time())
                if ended:
                    reason += f"; {ended}"
                if told or backoff.taken_over:
                    reason += f"; {TAKEN_OVER}"
                stopped = self._stop_at_s is not None
                self._on_event(LinkDisconnected(reason, None if stopped else delay_s))
                self._wait(delay_s)
        except Exception as error:
            self._on_event(LinkDisconnected(f"the link failed: {error!r}", None))
            raise
        finally:
            self._close_wake()

    def _close_wake(self) -> None:
        self._wake_reader.close()
        self._wake_writer.close()

    def _wait(self, delay_s: float) -> None:
        until_s = time.monotonic() + delay_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_reader, selectors.EVENT_READ)
            while self._stop_at_s is None:
                left_s = until_s - time.monotonic()
                if left_s <= 0:
                    return
                selector.select(left_s)
                self._drain_wake()

    def _connection(self) -> tuple[MqttConnection | None, str, float | None]:
        """Lives through one connection; how it ended, and how long it lasted."""
        self._serial += 1
        with self._guard:
            will = self._will
        try:
            connection = MqttConnection(
                self._settings, will, self._serial, self._connected, self._happened
            )
        except CONNECT_ERRORS as error:
            meaning, remedy = explain_failure(error, self._settings.host)
            texts = (f"cannot connect: {meaning}", remedy)
            return None, "; ".join(filter(None, texts)), None
        try:
            self._serve(connection)
        finally:
            connection.close()
            with self._guard:
                self._limits = None
                # Both together, before anybody hears of the end: a publish is either
                # void or in the next connection.
                self._in_flight.clear()
                self._publishes.clear()
        return connection, connection.reason, connection.lived_s()

    def _serve(self, connection: MqttConnection) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_reader, selectors.EVENT_READ)
            descriptor = connection.fileno()
            wanted = selectors.EVENT_READ
            selector.register(descriptor, wanted)
            while connection.alive:
                # The descriptor stays open in paho until `close`; see Connection.
                want = selectors.EVENT_READ
                if connection.want_write():
                    want |= selectors.EVENT_WRITE
                if want != wanted:
                    selector.modify(descriptor, want)
                    wanted = want
                # Decrypted bytes show at no descriptor, so that waiting for it could
                # last for ever.
                ready = selector.select(0.0 if connection.pending() else WAKE_S)
                events = {key.fd: mask for key, mask in ready}
                if self._wake_reader.fileno() in events:
                    self._drain_wake()
                connection.turn(events.get(descriptor, 0))
                self._renew()
                self._carry_out(connection)
                if self._leave(connection):
                    return
                self._rest()

    def _rest(self) -> None:
        """Leaves what comes unread for a while, unless there is something to do."""
        rest_s = self._settings.rest_s()
        if rest_s > 0.0:
            select.select([self._wake_reader], [], [], rest_s)

    def _carry_out(self, connection: MqttConnection) -> None:
        while self._tokens and connection.alive:
            token = self._tokens.popleft()
            # Packet ids of an earlier connection may name other messages in this one.
            if token.connection == connection.serial and token.packet:
                connection.acknowledge(token.packet)
        while self._publishes and connection.alive:
            publish_id, message = self._publishes.popleft()
            connection.publish(publish_id, message)
        connection.flush()

    def _renew(self) -> None:
        """Asks for another certificate, if it is time."""
        if self._certificate is None:
            return
        with self._guard:
            limits = self._limits
            if limits is None or len(self._in_flight) >= limits.window:
                return
            asked = self._certificate.request(time.monotonic(), time.time())
            if asked is not None:
                self._in_flight.add(_RENEWAL_ID)
                self._publishes.append((_RENEWAL_ID, asked))

    def _leave(self, connection: MqttConnection) -> bool:
        stop_at_s = self._stop_at_s
        if stop_at_s is None and self._is_renewed:
            self._is_renewed = False
            connection.disconnect()
            connection.reason = "connecting again with the renewed certificate"
            return True
        if stop_at_s is None:
            return False
        # What was published before the stop gets its answer, as long as there is time.
        if self._in_flight and time.monotonic() < stop_at_s and self._limits:
            return False
        connection.disconnect()
        return True

    def _drain_wake(self) -> None:
        try:
            while len(self._wake_reader.recv(4096)) == 4096:
                pass
        except BlockingIOError:
            pass
        # Cleared after reading and before the queues are looked at, so that no wake-up
        # is lost.
        self._woken = False

    def _connected(self, event: LinkConnected) -> None:
        with self._guard:
            self._limits = event
        self._on_event(event)

    def _happened(self, event: MessageArrived | Delivered) -> None:
        if isinstance(event, Delivered):
            with self._guard:
                self._in_flight.discard(event.publish_id)
            if event.publish_id == _RENEWAL_ID:
                return
        elif self._certificate and event.topic == self._certificate.topics.answer:
            # The link acknowledges for itself: nobody else hears of this message.
            self._tokens.append(event.token)
            if self._certificate.receive(event.payload, time.time()):
                self._is_renewed = True
            return
        self._on_event(event)

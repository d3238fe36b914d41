"""The gate before the enrolment listener: how many come in, and for how long.

Mosquitto has one limit for all connections, so that one stranger who holds them all
would keep every newcomer out. The gate takes so many of one address and no more, ends
each after a while, and hands bytes on to the listener as they are, TLS and all.
"""

import asyncio
import ipaddress
import socket
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass

from starling.broker.mosquitto_conf import ENROLMENT_CONNECTIONS_MAX
from starling.durable.files import refusal
from starling.protocol.errors import OperationError
from starling.service.listener import send_at_once

_CHUNK_BYTES = 16_384
_BACKLOG = 128
_CLOSE_S = 1.0
"""For which the last bytes may go out; a peer that never reads takes none."""
_STOP_S = 3.0
_NETWORK_BITS = 64
"""Of an IPv6 address; whoever has one of the network has all of it."""


@dataclass(frozen=True)
class GateLimits:
    """Limits of a gate.

    Attributes:
      each: Connections of one IPv4 address, or one IPv6 network, at one time.
      total: Connections at one time; the registrar's own is none of them.
      life_s: How long one may last; who still waits then connects again.
    """

    each: int = 64
    total: int = ENROLMENT_CONNECTIONS_MAX - 16
    life_s: float = 900.0


class EnrolmentGate:
    """Takes connections in a thread of its own, once it is started."""

    def __init__(
        self, bind: str, port: int, inner_port: int, limits: GateLimits | None = None
    ) -> None:
        """Takes nothing yet.

        Args:
          bind: Address to listen on; `::` for all of IPv6 and of IPv4.
          port: TCP port.
          inner_port: Of the listener, at 127.0.0.1.
          limits: Other ones than usual.
        """
        self._place = bind, port
        self._inner_port = inner_port
        self._limits = limits or GateLimits()
        self._counted: Counter[str] = Counter()
        self._ending = asyncio.Event()
        self._running: tuple[threading.Thread, asyncio.AbstractEventLoop] | None = None

    @property
    def is_running(self) -> bool:
        """True while it listens; False before `start`, or if its thread ended."""
        return self._running is not None and self._running[0].is_alive()

    def start(self) -> None:
        """Begins to listen.

        Raises:
          OperationError: If the port is taken, or there is no thread for it.
        """
        bind, port = self._place
        family = socket.AF_INET6 if ":" in bind else socket.AF_INET
        try:
            opened = socket.create_server(
                self._place,
                family=family,
                backlog=_BACKLOG,
                dualstack_ipv6=bind == "::",
            )
        except OSError as error:
            raise OperationError(f"{bind} port {port}: {refusal(error)}") from error
        send_at_once(opened)
        self._ending = asyncio.Event()
        loop = asyncio.new_event_loop()
        thread = threading.Thread(
            target=self._run, args=(loop, opened), name="enrolment-gate", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:
            opened.close()
            loop.close()
            raise OperationError(f"no enrolment gate: {error}") from error
        self._running = thread, loop

    def stop(self) -> None:
        """Ends all connections; safe to repeat."""
        if self._running is not None:
            thread, loop = self._running
            # The loop is closed if the thread ended by itself.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._ending.set)
            thread.join(_STOP_S)
            self._running = None

    def _run(self, loop: asyncio.AbstractEventLoop, opened: socket.socket) -> None:
        try:
            loop.run_until_complete(self._serve(opened))
        finally:
            opened.close()
            loop.close()

    async def _serve(self, opened: socket.socket) -> None:
        # The limit bounds what one connection holds in memory.
        server = await asyncio.start_server(self._take, sock=opened, limit=_CHUNK_BYTES)
        await self._ending.wait()
        server.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _take(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        peer = writer.get_extra_info("peername")
        origin = _origin(peer[0]) if peer else ""
        limits = self._limits
        # Below Mosquitto's own limit, so that the registrar always finds a place.
        full = self._counted.total() >= limits.total
        if full or self._counted[origin] >= limits.each:
            writer.close()
            return
        self._counted[origin] += 1
        try:
            async with asyncio.timeout(limits.life_s):
                await self._hand_on(reader, writer)
        except (OSError, TimeoutError, asyncio.CancelledError):
            # Either side went away, its time is over, or all ends.
            return
        finally:
            await _close(writer)
            self._counted[origin] -= 1
            # To add an empty counter drops addresses without a connection, of which
            # there may come to be very many.
            self._counted += Counter()

    async def _hand_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(
            "127.0.0.1", self._inner_port, limit=_CHUNK_BYTES
        )
        ways = [
            asyncio.create_task(_copy(reader, inner_writer)),
            asyncio.create_task(_copy(inner_reader, writer)),
        ]
        try:
            # MQTT has no half-closed connections: once one side is gone, so is the
            # other.
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            try:
                await asyncio.gather(*ways, return_exceptions=True)
            finally:
                # Also if all ends, or the time is over, while one side was just gone.
                await _close(inner_writer)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while content := await reader.read(_CHUNK_BYTES):
        writer.write(content)
        # A slow reader slows its writer down, and no bytes pile up here.
        await writer.drain()


async def _close(writer: asyncio.StreamWriter) -> None:
    """Ends a connection; when this returns, its socket is no longer held."""
    writer.close()
    try:
        async with asyncio.timeout(_CLOSE_S):
            await writer.wait_closed()
    except (OSError, TimeoutError, asyncio.CancelledError):
        writer.transport.abort()


def _origin(address: str) -> str:
    """The part of an address that a stranger cannot choose at will."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((int(found), _NETWORK_BITS), strict=False))

"""A client's connection to the console: bounded in time, and closed in stages.

A client is given `HEAD_S` for a request's head; beyond `CLIENTS_MAX` connections a
request is answered with 503. A request that is answered before it was read is read on
for `LINGER_S` after the answer: closed at once, its bytes would reset the connection,
and the client would never see why it was refused.

Source: RFC 9112, section 9.6.
"""

import asyncio
from collections.abc import Callable

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from starling.console.runtime.access import Gate

CLIENTS_MAX = 256
HEAD_S = 10.0
LINGER_S = 2.0
_TOO_SLOW = (
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
)


class StagedTransport(asyncio.Transport):
    """A transport that closes in stages where a part of a request was not read."""

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        is_read: Callable[[], bool],
    ) -> None:
        """Passes everything on but `close`.

        Args:
          transport: To the client.
          loop: That the transport runs in.
          is_read: Tells whether everything that the client sent was read.
        """
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._is_read = is_read
        self._end: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """Sends the end, and closes for good when asked again or `LINGER_S` later."""
        if self._end is not None:
            self._end.cancel()
        if self.is_closing() or self._is_read():
            self._transport.close()
            return
        self._end = self._loop.call_later(LINGER_S, self._transport.close)
        # Not over TLS, where the client learns of the end when it is closed.
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._transport.resume_reading()

    def is_closing(self) -> bool:
        """Says that nothing more is sent, and what arrives is for nobody."""
        return self._end is not None or self._transport.is_closing()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Sends bytes."""
        self._transport.write(data)

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Facts of the connection."""
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        """Reads no more for now."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Reads on."""
        self._transport.resume_reading()


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 with a time limit on a request's head; its refusals are counted."""

    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins to wait for a request."""
        super().connection_made(StagedTransport(transport, self.loop, self._is_read))
        self._head_timer = self.loop.call_later(HEAD_S, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """Waits no more."""
        if self._head_timer is not None:
            self._head_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Begins to wait again if only a part of a next request is there."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        idle = self.cycle is None or self.cycle.response_complete
        waits = self._head_timer is not None and not self._head_timer.cancelled()
        if not idle and self._head_timer is not None:
            self._head_timer.cancel()
        elif idle and not waits:
            self._head_timer = self.loop.call_later(HEAD_S, self._give_up)

    def handle_events(self) -> None:
        """Reads requests; beyond the bound of connections they are turned away."""
        is_full = len(self.connections) >= CLIENTS_MAX
        self.app = self._gate().turn_away if is_full else self._gate()
        super().handle_events()

    def send_400_response(self, msg: str) -> None:
        """Answers what is no request."""
        self._gate().responses[400] += 1
        super().send_400_response(msg)

    def _gate(self) -> Gate:
        gate = self.config.app
        assert isinstance(gate, Gate)
        return gate

    def _give_up(self) -> None:
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:
            if self.conn.trailing_data[0]:
                # A part of a head; who says nothing at all asks for no answer.
                self._gate().responses[408] += 1
                self.transport.write(_TOO_SLOW)
            self.transport.close()

    def _is_read(self) -> bool:
        is_whole = self.conn.their_state not in (h11.SEND_BODY, h11.ERROR)
        return is_whole and not self.conn.trailing_data[0]

"""A TCP proxy on this machine whose connections can be cut and let through again."""

import asyncio
import threading
from contextlib import suppress

READ_BYTES = 65536


class Proxy:
    """Passes bytes on to a port until it is cut; use it in a `with` block.

    Attributes:
      port: Where it listens.
    """

    def __init__(self, target_port: int) -> None:
        """Passes on to a port of this machine."""
        self._target_port = target_port
        self._whole = True
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.port = 0

    def __enter__(self) -> "Proxy":
        """Begins to listen."""
        self._thread.start()
        listening = asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        server = asyncio.run_coroutine_threadsafe(listening, self._loop).result(10)
        self.port = server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        """Ends all connections."""
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def cut(self) -> None:
        """Ends all connections, and lets no new one through."""
        self._whole = False
        self._loop.call_soon_threadsafe(self._end_all)

    def heal(self) -> None:
        """Lets connections through again."""
        self._whole = True

    def _end_all(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if not self._whole:
            writer.transport.abort()
            return
        there = await asyncio.open_connection("127.0.0.1", self._target_port)
        self._open |= {writer, there[1]}
        await asyncio.gather(_copy(reader, there[1]), _copy(there[0], writer))
        self._open -= {writer, there[1]}


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while content := await reader.read(READ_BYTES):
            writer.write(content)
            await writer.drain()
    writer.transport.abort()

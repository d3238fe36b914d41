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
        self._changed = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self.port = 0

    def __enter__(self) -> "Proxy":
        """Begins to listen."""
        self._thread.start()
        self._await_change()
        return self

    def __exit__(self, *_: object) -> None:
        """Ends all connections."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def cut(self) -> None:
        """Ends all connections; new ones are refused."""
        self._turn(False)

    def heal(self) -> None:
        """Lets connections through again."""
        self._turn(True)

    def _turn(self, whole: bool) -> None:
        self._whole = whole
        self._loop.call_soon_threadsafe(self._turned.set)
        self._await_change()

    def _await_change(self) -> None:
        assert self._changed.wait(10)
        self._changed.clear()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._turned = asyncio.Event()
        turning = asyncio.create_task(self._follow())
        await self._stop.wait()
        turning.cancel()
        with suppress(asyncio.CancelledError):
            await turning

    async def _follow(self) -> None:
        """Listens while it is whole."""
        while True:
            tasks: set[asyncio.Task[None]] = set()
            server = await self._listen(tasks) if self._whole else None
            self._turned.clear()
            self._changed.set()
            try:
                await self._turned.wait()
            finally:
                if server is not None:
                    server.close()
                for task in tasks:
                    task.cancel()

    async def _listen(self, tasks: set[asyncio.Task[None]]) -> asyncio.Server:
        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            tasks.add(asyncio.create_task(self._pass_on(reader, writer)))

        server = await asyncio.start_server(accept, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        there = await asyncio.open_connection("127.0.0.1", self._target_port)
        try:
            await asyncio.gather(_copy(reader, there[1]), _copy(there[0], writer))
        finally:
            writer.transport.abort()
            there[1].transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while content := await reader.read(READ_BYTES):
            writer.write(content)
            await writer.drain()
    writer.transport.abort()

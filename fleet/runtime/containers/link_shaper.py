"""Shaper of links between devices and their broker: late, narrow or lossy.

`python -m starling.fleet.runtime.containers.link_shaper ORDERS HOST PORT...` listens at
the ports and passes bytes on to the same ports of HOST, whoever they are from. It sees
one encrypted stream for each device; which device that is, docker's name service says
of an address. Orders are a file that is replaced; without one nothing is shaped, and
bytes go through as they come.
"""

import asyncio
import random
import re
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path

from starling.durable.files import read_if_present
from starling.fleet.faults.link_shape import (
    LOSSES_MAX,
    SEGMENT_BYTES,
    LinkOrders,
    LinkQueue,
    LinkShape,
)
from starling.protocol.errors import DecodeError, ProtocolError, StorageError
from starling.protocol.schema.json_document import (
    check_fields,
    integer,
    items,
    read_json,
)

ORDERS_BYTES_MAX = 256 * 1024
LOOK_EVERY_S = 0.1
WINDOW = 64
"""Segments on their way each way; then the sender waits, as at a full TCP window."""
_DEVICES_MAX = 10_000
_PAIR = 2
_MOST = 1e10
_UNSHAPED = LinkShape()
_DEVICE = re.compile(r"-device-(\d+)(?:\.|$)")
_CONNECT_S = 10.0


def read_orders(content: bytes) -> LinkOrders:
    """Orders from their file.

    Raises:
      DecodeError: If it is of another form, or a shape is out of bounds.
    """
    document = read_json(content, "orders")
    check_fields(document, "orders", ("shapes",))
    rows = items(document["shapes"], "orders.shapes", _DEVICES_MAX)
    return LinkOrders(tuple([_read_shape(row) for row in rows]))


def _read_shape(row: object) -> tuple[int, LinkShape]:
    place = "orders.shapes"
    if not isinstance(row, list) or len(row) != _PAIR:
        raise DecodeError(f"{place}: expected pairs of a device and a shape")
    number = integer(row[0], place, 1, _DEVICES_MAX)
    names = tuple(field.name for field in fields(LinkShape))
    check_fields(row[1], place, names)
    found = [row[1][name] for name in names]
    if any(type(each) not in (int, float) or not 0 <= each <= _MOST for each in found):
        raise DecodeError(f"{place}: device {number}: expected numbers up to {_MOST:g}")
    shape = LinkShape(*map(float, found))
    # A segment that is lost for ever has no time of arrival; docker cuts such links.
    if shape.lost >= 1.0:
        raise DecodeError(f"{place}: device {number}: loses everything")
    return number, shape


def device_number(name: str) -> int:
    """Number of a device from its container's name; 0 for any other name."""
    found = _DEVICE.search(name)
    return int(found[1]) if found else 0


class LinkShaper:
    """Connections of all devices, and what stands between them and the broker."""

    def __init__(self, orders: Path, host: str, seed: int | None = None) -> None:
        """Listens nowhere yet.

        Args:
          orders: The file.
          host: Where bytes are passed on to.
          seed: Of the losses; the system's randomness without one.
        """
        self._orders = orders
        self._host = host
        self._draw = random.Random(seed)  # noqa: S311 - which segment is lost is no secret
        self._shapes: dict[int, LinkShape] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(
        self, ports: Sequence[int], address: str | None = None
    ) -> list[asyncio.Server]:
        """Begins to listen at ports of an address, or of all."""
        self._keep(asyncio.create_task(self._look()))
        return [await self._listen(port, address) for port in ports]

    def shape_of(self, device: int) -> LinkShape:
        """Shape of a device's link now."""
        return self._shapes.get(device, _UNSHAPED)

    async def end(self) -> None:
        """Ends all connections; servers are closed by who has them."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(self, port: int, address: str | None) -> asyncio.Server:
        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._keep(asyncio.create_task(self._pass_on(reader, writer, port)))

        return await asyncio.start_server(accept, address, port)

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _look(self) -> None:
        """Takes over new orders as they come; those that cannot be read are said."""
        before: bytes | None = None
        told = ""
        while True:
            fault = ""
            try:
                content = read_if_present(self._orders, ORDERS_BYTES_MAX)
                if content != before:
                    self._shapes = dict(read_orders(content).shapes) if content else {}
                    before = content
            except (ProtocolError, StorageError) as error:
                fault = f"{self._orders}: {error}; the orders before stay\n"
            if fault and fault != told:
                sys.stderr.write(fault)
            told = fault
            await asyncio.sleep(LOOK_EVERY_S)

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int
    ) -> None:
        peer = writer.get_extra_info("peername")
        there: asyncio.StreamWriter | None = None
        try:
            # By name, since addresses are dealt out anew at each start.
            number = device_number(await _name_of(peer[0]))
            async with asyncio.timeout(_CONNECT_S):
                answers, there = await asyncio.open_connection(self._host, port)
            ways = (
                self._carry(reader, there, number),
                self._carry(answers, writer, number),
            )
            both = [asyncio.create_task(way) for way in ways]
            try:
                # A link that ended one way is of no use the other way.
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in both:
                    way.cancel()
                await asyncio.gather(*both, return_exceptions=True)
        except (OSError, TimeoutError) as error:
            sys.stderr.write(f"no connection to {self._host}:{port}: {error}\n")
        finally:
            for each in (writer, there):
                if each is not None:
                    each.close()
                    with suppress(OSError):
                        await each.wait_closed()

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> None:
        """One direction, until one side has ended it."""
        on_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(WINDOW)
        delivering = asyncio.create_task(_deliver(on_way, writer))
        loop, link = asyncio.get_running_loop(), LinkQueue()
        try:
            with suppress(OSError):
                while segment := await reader.read(SEGMENT_BYTES):
                    shape = self.shape_of(number)
                    due_s = link.send(
                        len(segment), loop.time(), shape, self._losses(shape)
                    )
                    await on_way.put((due_s, segment))
                    if delivering.done():
                        return
            # The end is as late as bytes are, also one without a goodbye.
            due_s = link.send(0, loop.time(), self.shape_of(number), 0)
            await on_way.put((due_s, b""))
            await delivering
        finally:
            delivering.cancel()

    def _losses(self, shape: LinkShape) -> int:
        """Number of times that the next segment is lost in a row."""
        found = 0
        while shape.lost and found < LOSSES_MAX and self._draw.random() < shape.lost:
            found += 1
        return found


async def _deliver(
    on_way: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
) -> None:
    """Writes each segment when it is due; an empty one is the end."""
    loop = asyncio.get_running_loop()
    with suppress(OSError):
        while True:
            due_s, segment = await on_way.get()
            if (early_s := due_s - loop.time()) > 0:
                await asyncio.sleep(early_s)
            if not segment:
                return
            writer.write(segment)
            await writer.drain()


async def _name_of(address: str) -> str:
    """Name that docker has for an address; empty without one."""
    try:
        loop = asyncio.get_running_loop()
        name, _, _ = await loop.run_in_executor(None, socket.gethostbyaddr, address)
    except OSError:
        return ""
    return name


async def shape(orders: Path, host: str, ports: Sequence[int]) -> None:
    """Passes bytes on until it is told to stop."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    running = LinkShaper(orders, host)
    servers = await running.serve(ports)
    await stopped.wait()
    for server in servers:
        server.close()
    await running.end()


def main() -> None:
    """Passes bytes on as the command line says."""
    orders, host, *ports = sys.argv[1:]
    asyncio.run(shape(Path(orders), host, [int(port) for port in ports]))


if __name__ == "__main__":
    main()

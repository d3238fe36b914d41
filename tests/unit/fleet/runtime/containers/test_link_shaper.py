"""Bytes come through the shaper in their order, both ways, held up as ordered."""

import asyncio
import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import pytest

from starling.durable.files import write_atomic
from starling.fleet.faults.link_shape import LinkOrders, LinkQueue, LinkShape
from starling.fleet.runtime.containers import link_shaper
from starling.fleet.runtime.containers.link_shaper import LinkShaper, device_number
from tests.e2e.deadline import DEADLINE_S

HOST = "127.0.0.1"
CONTENT = bytes(range(256)) * 400


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("starling-device-12.starling_boards", 12),
        ("x-device-7-device-3.x_boards", 3),
        ("starling-device-4", 4),
        ("starling-links-1.starling_boards", 0),
        ("", 0),
    ],
)
def test_device_is_known_by_its_containers_name(name: str, number: int) -> None:
    assert device_number(name) == number


async def ended(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends everything back once all of it has come."""
    writer.write(await reader.readexactly(len(CONTENT)))
    await ended(writer)


async def through(orders: Path) -> bytes:
    """Everything that comes back through a shaper."""
    target = await asyncio.start_server(echo, "127.0.0.2", 0)
    port = target.sockets[0].getsockname()[1]
    shaper = LinkShaper(orders, "127.0.0.2", seed=1)
    servers = await shaper.serve([port], HOST)
    try:
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(CONTENT)
        found = await asyncio.wait_for(reader.read(-1), DEADLINE_S)
        await ended(writer)
        return found
    finally:
        await shaper.end()
        for server in (target, *servers):
            server.close()


def board_1(monkeypatch: pytest.MonkeyPatch) -> None:
    async def named(_address: str) -> str:
        return "p-device-1.p_boards"

    monkeypatch.setattr(link_shaper, "_name_of", named)


def test_bytes_come_through_whole_without_orders(tmp_path: Path) -> None:
    assert asyncio.run(through(tmp_path / "none")) == CONTENT


def test_bytes_come_through_whole_and_in_order_on_a_bad_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board_1(monkeypatch)
    seen: list[LinkShape] = []
    send = LinkQueue.send

    def noted(
        self: LinkQueue, size: int, now_s: float, shape: LinkShape, losses: int
    ) -> float:
        seen.append(shape)
        return send(self, size, now_s, shape, losses)

    monkeypatch.setattr(LinkQueue, "send", noted)
    shape = LinkShape(delay_s=0.02, bit_s=40e6, lost=0.01)
    orders = tmp_path / "links"
    orders.write_text(json.dumps(asdict(LinkOrders(((1, shape),)))))

    assert asyncio.run(through(orders)) == CONTENT
    assert shape in seen


def test_end_of_a_connection_is_as_late_as_its_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board_1(monkeypatch)
    shape = LinkShape(delay_s=0.2)

    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        # Without a goodbye: what was not read makes the system send a reset.
        writer.close()

    async def lasted() -> float:
        target = await asyncio.start_server(reset, "127.0.0.2", 0)
        port = target.sockets[0].getsockname()[1]
        shaper = LinkShaper(tmp_path / "none", "127.0.0.2")
        servers = await shaper.serve([port], HOST)
        monkeypatch.setattr(shaper, "shape_of", lambda _: shape)
        try:
            reader, writer = await asyncio.open_connection(HOST, port)
            begun_s = asyncio.get_running_loop().time()
            writer.write(CONTENT)
            with suppress(OSError):
                await asyncio.wait_for(reader.read(-1), DEADLINE_S)
            return asyncio.get_running_loop().time() - begun_s
        finally:
            await ended(writer)
            await shaper.end()
            for server in (target, *servers):
                server.close()

    # No sooner, however loaded the machine is.
    assert asyncio.run(lasted()) >= 2 * shape.delay_s


def test_relay_ends_a_connection_whose_broker_is_away(tmp_path: Path) -> None:
    async def answer() -> bytes:
        free = await asyncio.start_server(echo, "127.0.0.2", 0)
        port = free.sockets[0].getsockname()[1]
        free.close()
        await free.wait_closed()
        shaper = LinkShaper(tmp_path / "none", "127.0.0.2")
        servers = await shaper.serve([port], HOST)
        try:
            reader, writer = await asyncio.open_connection(HOST, port)
            found = await asyncio.wait_for(reader.read(), DEADLINE_S)
            await ended(writer)
            return found
        finally:
            await shaper.end()
            servers[0].close()

    assert asyncio.run(answer()) == b""


@pytest.mark.parametrize(
    "written",
    [
        b"{",
        b"[]",
        b'{"shapes": 1}',
        b'{"shapes": [[1]]}',
        b'{"shapes": [[0, {"delay_s": 0, "bit_s": 0, "lost": 0}]]}',
        b'{"shapes": [[1, {"delay_s": "1", "bit_s": 0, "lost": 0}]]}',
        b'{"shapes": [[1, {"delay_s": -1, "bit_s": 0, "lost": 0}]]}',
        b'{"shapes": [[1, {"delay_s": 0, "bit_s": 0, "lost": 1}]]}',
        b'{"shapes": [[1, {"delay_s": NaN, "bit_s": 0, "lost": 0}]]}',
        b"[" * 100_000,
    ],
    ids=lambda written: written[:40].decode(),
)
def test_orders_of_another_form_are_said_and_those_before_stay(
    written: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(link_shaper, "LOOK_EVERY_S", 0.01)
    orders = tmp_path / "links"
    shape = LinkShape(delay_s=0.5)
    packed = json.dumps(asdict(LinkOrders(((1, shape),)))).encode()

    async def follow() -> None:
        shaper = LinkShaper(orders, HOST)
        servers = await shaper.serve([0], HOST)
        try:
            async with asyncio.timeout(DEADLINE_S):
                write_atomic(orders, packed)
                while shaper.shape_of(1) != shape:  # noqa: ASYNC110 - it has no event
                    await asyncio.sleep(0.01)
                write_atomic(orders, written)
                said = ""
                while "the orders before stay" not in said:
                    await asyncio.sleep(0.01)
                    said += capsys.readouterr().err
                assert shaper.shape_of(1) == shape
                write_atomic(orders, b'{"shapes": []}')
                while shaper.shape_of(1) != LinkShape():  # noqa: ASYNC110 - as above
                    await asyncio.sleep(0.01)
        finally:
            await shaper.end()
            servers[0].close()

    asyncio.run(follow())

"""The gate: one address cannot take all places, and none is taken for ever."""

import asyncio
import os
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from starling.broker.runtime.enrolment_gate import (
    EnrolmentGate,
    GateLimits,
    _origin,
)
from starling.broker.runtime.mosquitto_process import free_port
from starling.protocol.errors import OperationError

HOST = "127.0.0.1"
WAIT_S = 60.0
FLOOD = b"flood"


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with suppress(OSError):
            while content := self.request.recv(1 << 16):
                self.request.sendall(content)
                while content == FLOOD:
                    self.request.sendall(bytes(1 << 16))


class World:
    """A listener that says everything back, or more than that, and gates before it."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        server = socketserver.ThreadingTCPServer((HOST, 0), Echo)
        server.daemon_threads = True
        stack.enter_context(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        stack.callback(server.shutdown)
        self.inner = server.server_address[1]

    def gate(self, limits: GateLimits) -> int:
        port = free_port()
        gate = EnrolmentGate(HOST, port, self.inner, limits)
        gate.start()
        self._stack.callback(gate.stop)
        return port

    def connect(self, port: int, source: str = HOST) -> socket.socket:
        made = socket.create_connection((HOST, port), WAIT_S, (source, 0))
        self._stack.callback(made.close)
        return made


@pytest.fixture
def world() -> Iterator[World]:
    with ExitStack() as stack:
        yield World(stack)


def is_served(connection: socket.socket, content: bytes = b"hello") -> bool:
    try:
        connection.sendall(content)
        heard = b""
        while len(heard) < len(content):
            piece = connection.recv(1 << 16)
            if not piece:
                return False
            heard += piece
    except ConnectionError:
        return False
    return heard == content


def test_bytes_come_and_go_as_they_are(world: World) -> None:
    port = world.gate(GateLimits())

    assert is_served(world.connect(port), bytes(range(256)) * 4096)


def test_one_address_has_so_many_places_and_others_have_theirs(world: World) -> None:
    port = world.gate(GateLimits(each=2, total=4))
    mine = [world.connect(port) for _ in range(2)]
    assert all(is_served(each) for each in mine)

    assert not is_served(world.connect(port))
    others = [world.connect(port, f"127.0.0.{last}") for last in (2, 3)]
    assert all(is_served(each) for each in others)
    # And all together no more than the listener has.
    assert not is_served(world.connect(port, "127.0.0.4"))


def test_place_that_is_given_up_is_another_s(world: World) -> None:
    port = world.gate(GateLimits(each=1))
    first = world.connect(port)
    assert is_served(first)
    first.shutdown(socket.SHUT_RDWR)

    served = False
    while not served:
        served = is_served(world.connect(port))


def test_connection_ends_after_its_time(world: World) -> None:
    idle = world.connect(world.gate(GateLimits(life_s=0.1)))

    assert idle.recv(1) == b""


def is_held(address: tuple[str, int]) -> bool:
    """True if this process has a socket whose peer is at an address."""
    for each in Path("/proc/self/fd").iterdir():
        with suppress(OSError), socket.socket(fileno=os.dup(int(each.name))) as held:
            if held.getpeername() == address:
                return True
    return False


def test_peer_that_never_reads_is_counted_until_its_socket_is_closed(
    world: World,
) -> None:
    port = world.gate(GateLimits(each=1, life_s=0.5))
    deaf = world.connect(port)
    deaf.sendall(FLOOD)
    # Its answers come, and are not read.
    assert deaf.recv(1)
    assert is_held(deaf.getsockname())

    while not is_served(world.connect(port)):
        pass

    assert not is_held(deaf.getsockname())


def test_gate_whose_thread_ended_stops_and_starts_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    gate = EnrolmentGate(HOST, port, world.inner)
    with monkeypatch.context() as patched:

        async def end(_self: EnrolmentGate, _opened: socket.socket) -> None:
            await asyncio.sleep(0)

        patched.setattr(EnrolmentGate, "_serve", end)
        gate.start()
        while gate.is_running:
            pass
    gate.stop()

    gate.start()
    assert is_served(world.connect(port))
    gate.stop()
    gate.stop()


def test_gate_that_ends_while_one_side_was_just_gone_closes_the_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[asyncio.StreamWriter] = []
    connect, gather = asyncio.open_connection, asyncio.gather

    async def recorded(
        host: str, port: int, limit: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await connect(host, port, limit=limit)
        opened.append(writer)
        return reader, writer

    def ended(
        *ways: asyncio.Task[None], return_exceptions: bool
    ) -> asyncio.Future[list[BaseException | None]]:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        assert return_exceptions
        return gather(*ways, return_exceptions=True)

    async def hand_on() -> bool:
        gate = EnrolmentGate(HOST, 0, world.inner)
        gone = asyncio.StreamReader()
        gone.feed_eof()
        _, outside = await connect(HOST, world.inner)
        monkeypatch.setattr(asyncio, "open_connection", recorded)
        monkeypatch.setattr(asyncio, "gather", ended)
        with pytest.raises(asyncio.CancelledError):
            await asyncio.create_task(gate._hand_on(gone, outside))
        outside.transport.abort()
        return opened[0].transport.is_closing()

    assert asyncio.run(hand_on())


def test_listener_that_is_away_ends_the_connection(world: World) -> None:
    port = free_port()
    gate = EnrolmentGate(HOST, port, free_port())
    gate.start()

    assert world.connect(port).recv(1) == b""
    gate.stop()
    gate.stop()


def test_port_that_is_taken_is_named(world: World) -> None:
    port = world.gate(GateLimits())

    with pytest.raises(OperationError, match=f"port {port}"):
        EnrolmentGate(HOST, port, world.inner).start()


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
    ],
)
def test_addresses_of_one_origin(first: str, second: str, same: bool) -> None:
    assert (_origin(first) == _origin(second)) is same

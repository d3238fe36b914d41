"""Connections to the console: refused, slow, too many, and never ended."""

import http.client
import socket
from contextlib import ExitStack, closing

import pytest

from starling.console.runtime.connection import CLIENTS_MAX
from tests.unit.console.conftest import RunningConsole
from tests.unit.console.runtime.console_requests import TIMEOUT_S, ask, raw

CLIENTS = 200
_LONG_FORM = (
    b"POST /sign-in HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: "
)


@pytest.mark.parametrize(
    ("content", "rest", "status"),
    [
        (_LONG_FORM + b"9" * 30 + b"\r\n\r\n", b"a=1", b"400"),
        (_LONG_FORM + b"900000\r\n\r\n", b"a" * 900_000, b"413"),
        (_LONG_FORM + b"900000\r\n\r\n", b"a=1", b"413"),
        (b"nonsense\r\n\r\n", b"more of it", b"400"),
        (b"GET / HTTP/1.1\r\nHost: local", b"host\r\n", b"408"),
    ],
    ids=["unreadable", "large", "never whole", "nonsense", "slow"],
)
def test_refusal_reaches_a_client_that_still_sends(
    console: RunningConsole, content: bytes, rest: bytes, status: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", console.port), TIMEOUT_S) as link:
        link.sendall(content)
        assert link.recv(12, socket.MSG_PEEK | socket.MSG_WAITALL)[-3:] == status
        for piece in range(0, len(rest), 60_000):
            link.sendall(rest[piece : piece + 60_000])

        answer = link.makefile("rb").read()
        link.shutdown(socket.SHUT_WR)

    assert answer.split(b" ")[1] == status


def test_connection_that_is_never_ended_by_its_client_is_ended(
    own_console: RunningConsole,
) -> None:
    with ExitStack() as stack:
        for _ in range(CLIENTS_MAX):
            link = stack.enter_context(
                socket.create_connection(("127.0.0.1", own_console.port), TIMEOUT_S)
            )
            link.sendall(b"nonsense\r\n\r\n")
            assert link.recv(12)

        while ask(own_console, "/")[0] != 200:
            pass


def test_two_hundred_clients_are_answered_while_others_say_nothing(
    console: RunningConsole,
) -> None:
    with ExitStack() as stack:
        slow = [
            stack.enter_context(
                socket.create_connection(("127.0.0.1", console.port), TIMEOUT_S)
            )
            for _ in range(CLIENTS_MAX - CLIENTS - 10)
        ]
        for link in slow:
            link.sendall(b"GET / HTTP/1.1\r\nHost: local")
        links = [
            stack.enter_context(
                closing(
                    http.client.HTTPConnection("127.0.0.1", console.port, TIMEOUT_S)
                )
            )
            for _ in range(CLIENTS)
        ]
        for client in links:
            client.request("GET", "/")
        statuses = [client.getresponse().status for client in links]

    assert statuses == [200] * CLIENTS


def test_too_many_clients_are_refused_and_then_served_again(
    console: RunningConsole,
) -> None:
    with ExitStack() as stack:
        for _ in range(CLIENTS_MAX):
            stack.enter_context(
                socket.create_connection(("127.0.0.1", console.port), TIMEOUT_S)
            )
        assert ask(console, "/")[0] == 503

    while ask(console, "/")[0] != 200:
        pass


def _answers(console: RunningConsole, code: int) -> int:
    """How often the console says that it answered so."""
    head = f'starling_console_responses_total{{code="{code}"}} '
    lines = ask(console, "/metrics")[1].splitlines()
    return sum(int(row.removeprefix(head)) for row in lines if row.startswith(head))


def test_refusals_before_any_page_are_counted(own_console: RunningConsole) -> None:
    with ExitStack() as stack:
        for _ in range(CLIENTS_MAX):
            stack.enter_context(
                socket.create_connection(("127.0.0.1", own_console.port), TIMEOUT_S)
            )
        assert ask(own_console, "/")[0] == 503
    assert raw(own_console, b"nonsense\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    with socket.create_connection(("127.0.0.1", own_console.port), TIMEOUT_S) as link:
        link.sendall(b"GET / HTTP/1.1\r\nHost: local")
        assert link.makefile("rb").read()

    assert [_answers(own_console, code) for code in (400, 408, 503)] == [1, 1, 1]


def test_slow_head_ends_the_connection(console: RunningConsole) -> None:
    with socket.create_connection(("127.0.0.1", console.port), TIMEOUT_S) as link:
        link.sendall(b"GET / HTTP/1.1\r\nHost: local")

        assert link.makefile("rb").read().startswith(b"HTTP/1.1 408 ")

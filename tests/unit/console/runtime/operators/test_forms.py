"""Forms that are none, or never come, are refused."""

import socket

import pytest

from tests.unit.console.runtime.operator_home import TIMEOUT_S, Operator


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"x=" + b"a" * 500_000, {}, 413),
        (b"a=1&a=2", {}, 400),
        (b"&".join(b"f%d=1" % number for number in range(40)), {}, 400),
        (b"a=\xff\xfe", {}, 400),
        (b"a=%ff", {}, 400),
        (b"{}", {"Content-Type": "application/json"}, 415),
        (b"--x", {"Content-Type": "multipart/form-data; boundary=x"}, 415),
        (b"a=1", {"Transfer-Encoding": "chunked"}, 411),
        (b"a=1", {"Content-Length": "9" * 30}, 400),
    ],
    ids=[
        "large",
        "twice",
        "many",
        "bytes",
        "escape",
        "json",
        "parts",
        "chunks",
        "huge",
    ],
)
def test_form_that_is_none_is_refused(
    ana: Operator, body: bytes, headers: dict[str, str], status: int
) -> None:
    ana.headers = headers

    assert ana.ask("/act/price", "POST", body).status == status
    ana.headers = {}
    assert ana.ask("/").status == 200


def test_form_that_does_not_come_is_given_up(ana: Operator) -> None:
    head = (
        f"POST /act/price HTTP/1.1\r\nHost: localhost:{ana.console.port}\r\n"
        f"Cookie: {ana.cookie}\r\n"
        "Content-Length: 100\r\n\r\ncsrf="
    )
    address = ("127.0.0.1", ana.console.port)
    with socket.create_connection(address, TIMEOUT_S) as link:
        link.sendall(head.encode())

        assert link.recv(100).startswith(b"HTTP/1.1 408 ")

"""Addresses of a page for people, and who reaches them."""

import socket

import pytest

from starling.protocol.errors import ConfigError
from starling.service.listener import is_loopback, listen, parse_address, url


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8080", ("127.0.0.1", 8080)),
        ("0", ("127.0.0.1", 0)),
        ("localhost:80", ("localhost", 80)),
        ("0.0.0.0:65535", ("0.0.0.0", 65535)),  # noqa: S104 - an operator's choice
        ("[::1]:8080", ("::1", 8080)),
    ],
)
def test_address_is_read(text: str, expected: tuple[str, int]) -> None:
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    "text", ["", "x", ":8080", "65536", "-1", "::1:80", "a:b", "²", "[]:1", "9" * 5000]
)
def test_what_is_no_address_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--web.*\[HOST:\]PORT"):
        parse_address(text)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),  # noqa: S104 - is refused as loopback
        ("192.168.0.1", False),
        ("example.org", False),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_port_that_is_taken_is_said() -> None:
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        assert url(first) == f"http://127.0.0.1:{port}/"
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}.*another port"):
            listen("127.0.0.1", port)


@pytest.mark.parametrize("host", ["203.0.113.1", "no such host", "x" * 300])
def test_host_that_is_not_ours_is_said(host: str) -> None:
    with pytest.raises(ConfigError, match="cannot listen"):
        listen(host, 0)


def test_url_of_every_interface_leads_to_this_machine() -> None:
    with socket.create_server(("0.0.0.0", 0)) as opened:  # noqa: S104 - shown as loopback
        assert url(opened).startswith("http://127.0.0.1:")


def test_what_is_taken_sends_at_once() -> None:
    with (
        listen("127.0.0.1", 0) as listener,
        socket.create_connection(listener.getsockname()),
    ):
        taken, _ = listener.accept()
        with taken:
            assert taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1

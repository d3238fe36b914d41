"""The console against every kind of request, over a real socket."""

import os
import signal
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from starling.console.cli import NICE
from starling.console.runtime.access import HEAD_BYTES_MAX
from starling.console.runtime.live_stream import STREAMS_MAX
from starling.protocol.errors import EXIT_DONE
from tests.unit.console.conftest import RunningConsole, Start, write_status
from tests.unit.console.runtime.console_requests import TIMEOUT_S, ask, raw
from tests.unit.console.status_documents import document


def test_console_never_goes_before_a_coordinator(console: RunningConsole) -> None:
    ask(console, "/")

    ours = os.getpriority(os.PRIO_PROCESS, 0)
    assert os.getpriority(os.PRIO_PROCESS, console.child.pid) == min(19, ours + NICE)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/", "<h1>Overview</h1>"),
        ("/boards", "5 boards"),
        ("/boards/" + "b" * 26, "epsilon paid"),
        ("/tasks", "digits"),
        ("/tasks/0", "<h2>Privacy</h2>"),
        ("/chain", "1 register, 1 task"),
        ("/chain/2", "<h1>Block 2</h1>"),
        ("/events", "Nothing since"),
        ("/metrics", "starling_chain_height_blocks 17"),
        ("/assets/style.css", "prefers-color-scheme: dark"),
        ("/assets/live.js", "EventSource"),
        ("/assets/icon.svg", "<svg"),
    ],
)
def test_page_is_served_with_the_headers_that_protect_it(
    console: RunningConsole, path: str, text: str
) -> None:
    status, body, answer = ask(console, path)

    assert status == 200
    assert text in body
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "server" not in answer.headers
    assert ask(console, path, "HEAD")[:2] == (200, "")


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/assets/",
        "/assets/../cli.py",
        "/assets/..%2f..%2fcli.py",
        "/assets/%2e%2e/%2e%2e/etc/passwd",
        "/..%5c..%5cetc",
        "//etc/passwd",
        "/assets/style.css%00.js",
        "/boards/../status.json",
        "/boards/nobody",
        "/boards/%3Cscript%3Ealert(1)%3C%2Fscript%3E",
        "/chain/0",
        "/chain/999999999999999999999999999999",
        "/chain/-1",
        "/tasks/9",
        "/status.json",
        "/keys/signing.key",
    ],
)
def test_path_tricks_find_nothing(console: RunningConsole, path: str) -> None:
    status, body, _ = ask(console, path)

    assert status == 404
    assert "<script>alert" not in body


@pytest.mark.parametrize(
    "method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"]
)
def test_nothing_but_reading_is_allowed(console: RunningConsole, method: str) -> None:
    status, _, answer = ask(console, "/boards", method)

    assert status == 405
    assert answer.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("127.0.0.1:99", 200),
        ("[::1]:99", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example", 421),
        ("192.168.0.1", 421),
        ("", 421),
    ],
)
def test_host_of_somebody_else_is_refused(
    console: RunningConsole, host: str, status: int
) -> None:
    assert ask(console, "/", Host=host)[0] == status


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00", b"400"),
        (b"GET / HTTP/x.y\r\nHost: localhost\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * HEAD_BYTES_MAX, b"400"),
        (b"GET /" + b"x" * 2 * HEAD_BYTES_MAX, b"400"),
        (
            b"GET / HTTP/1.1\r\nHost: localhost\r\nX: "
            + b"x" * HEAD_BYTES_MAX
            + b"\r\n\r\n",
            b"431",
        ),
        (b"GET /" + b"x" * 3000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", b"414"),
        (
            b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n123456789",
            b"413",
        ),
        (
            b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"413",
        ),
        (
            b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n",
            b"413",
        ),
        (
            b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade, close\r\n\r\n",
            b"200",
        ),
    ],
    ids=range(13),
)
def test_malformed_and_oversized_requests_are_refused(
    console: RunningConsole, content: bytes, status: bytes
) -> None:
    assert raw(console, content).split(b" ")[1] == status
    assert ask(console, "/")[0] == 200


def test_pages_that_ask_at_once_share_no_place_among_the_live_ones(
    console: RunningConsole,
) -> None:
    asked = b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with ExitStack() as stack:
        links = [
            stack.enter_context(
                socket.create_connection(("127.0.0.1", console.port), TIMEOUT_S)
            )
            for _ in range(STREAMS_MAX + 5)
        ]
        for link in links:
            link.sendall(asked)
        statuses = [link.recv(12)[-3:] for link in links]

    assert statuses.count(b"200") == STREAMS_MAX


def test_open_page_is_told_of_a_change_and_events_show_it(
    own_console: RunningConsole, home: Path
) -> None:
    with (
        socket.create_connection(("127.0.0.1", own_console.port), TIMEOUT_S) as link,
        link.makefile("rb") as stream,
    ):
        link.sendall(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while b"retry:" not in stream.readline():
            pass
        made = document()
        made["tasks"][0]["head"] = 4
        write_status(home, made)
        while b"event: changed" not in stream.readline():
            pass

    assert "task 0: version 4 is final" in ask(own_console, "/events")[1]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"state": 3}', "\x00"])
def test_status_that_is_none_is_said(start: Start, home: Path, content: str) -> None:
    (home / "status.json").write_text(content)
    console = start("--web", "0")

    status, body, _ = ask(console, "/")

    assert status == 200
    assert 'class="banner"' in body
    assert "starling_up 0" in ask(console, "/metrics")[1]


def test_damaged_chain_is_said_and_the_rest_goes_on(start: Start, home: Path) -> None:
    (home / "state" / "chain.sqlite3").write_bytes(b"\x00" * 10_000)
    console = start("--web", "0")

    status, body, _ = ask(console, "/chain")

    assert status == 503
    assert "The chain cannot be read" in body
    assert ask(console, "/")[0] == 200


def test_home_without_anything_yet_is_served(start: Start, home: Path) -> None:
    (home / "status.json").unlink()
    (home / "state" / "chain.sqlite3").unlink()
    console = start("--web", "0")

    for path in ("/", "/boards", "/tasks", "/chain", "/events"):
        status, body, _ = ask(console, path)
        assert status == 200
        assert "has the coordinator run?" in body


def test_console_stops_at_sigterm_with_pages_open(own_console: RunningConsole) -> None:
    with socket.create_connection(("127.0.0.1", own_console.port), TIMEOUT_S) as link:
        link.sendall(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        link.recv(1)
        own_console.child.send_signal(signal.SIGTERM)

        assert own_console.child.wait(TIMEOUT_S) == EXIT_DONE
    assert "Traceback" not in own_console.log.read_text()


def test_console_writes_nothing_and_needs_no_key(
    own_console: RunningConsole, home: Path
) -> None:
    kept = {path: path.stat().st_mtime_ns for path in home.rglob("*.json")}

    for path in ("/", "/boards", "/chain", "/metrics"):
        assert ask(own_console, path)[0] == 200

    assert {path: path.stat().st_mtime_ns for path in home.rglob("*.json")} == kept
    assert not (home / "keys").exists()

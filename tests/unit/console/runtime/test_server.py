"""The console against every kind of request, over a real socket."""

import http.client
import os
import signal
import socket
import ssl
import stat
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest

from starling.console.cli import NICE
from starling.console.runtime.access import HEAD_BYTES_MAX
from starling.console.runtime.connection import CLIENTS_MAX
from starling.console.runtime.live_stream import STREAMS_MAX
from starling.console.runtime.server import read_token
from starling.protocol.errors import EXIT_DONE, ConfigError
from tests.unit.console.conftest import RunningConsole, Start, write_status
from tests.unit.console.status_documents import document
from tests.unit.service.test_web_access import certified

TIMEOUT_S = 180.0
CLIENTS = 200
TOKEN = "0123456789abcdef" * 2


def ask(
    console: RunningConsole,
    path: str,
    method: str = "GET",
    body: bytes | None = None,
    **headers: str,
) -> tuple[int, str, http.client.HTTPResponse]:
    connection = http.client.HTTPConnection("127.0.0.1", console.port, TIMEOUT_S)
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    with closing(connection):
        connection.request(method, path, body, named)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer


def raw(console: RunningConsole, content: bytes) -> bytes:
    """All that comes back until the connection ends."""
    with socket.create_connection(("127.0.0.1", console.port), TIMEOUT_S) as link:
        link.sendall(content)
        link.shutdown(socket.SHUT_WR)
        found = b""
        try:
            while piece := link.recv(65536):
                found += piece
        except ConnectionResetError:
            pass
        return found


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


def test_slow_head_ends_the_connection(console: RunningConsole) -> None:
    with socket.create_connection(("127.0.0.1", console.port), TIMEOUT_S) as link:
        link.sendall(b"GET / HTTP/1.1\r\nHost: local")

        assert link.makefile("rb").read().startswith(b"HTTP/1.1 408 ")


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


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    file.chmod(0o600)
    return file


def test_token_is_needed_for_everything_and_traded_for_a_cookie(
    start: Start, token_file: Path
) -> None:
    console = start("--web", "0", "--web-token-file", str(token_file))

    assert ask(console, "/")[0] == 303
    assert ask(console, "/metrics")[0] == ask(console, "/live")[0] == 401
    assert ask(console, "/metrics", Authorization=f"Bearer {TOKEN}x")[0] == 401
    assert ask(console, "/metrics", Authorization=f"Bearer {TOKEN}")[0] == 200
    status, body, _ = ask(console, "/sign-in")
    assert (status, "meadow" in body) == (200, False)
    assert ask(console, "/sign-in", "POST", b"token=wrong")[0] == 403
    status, _, answer = ask(console, "/sign-in", "POST", b"token=" + TOKEN.encode())
    cookie = answer.headers["set-cookie"]
    assert status == 303
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    pair = cookie.split(";")[0]
    assert ask(console, "/", Cookie=pair)[0] == 200
    assert ask(console, "/", Cookie=pair[:-1])[0] == 303
    assert ask(console, "/boards", "POST", b"", Cookie=pair)[0] == 405
    assert TOKEN not in console.log.read_text()


def test_console_with_a_certificate_speaks_tls_alone(
    start: Start, tmp_path: Path
) -> None:
    access = certified(tmp_path / "tls")
    console = start("--web", "0.0.0.0:0", *access.words())
    trusted = ssl.create_default_context(cafile=access.certificate)
    link = http.client.HTTPSConnection(
        "127.0.0.1", console.port, timeout=TIMEOUT_S, context=trusted
    )
    with closing(link):
        link.request("POST", "/sign-in", b"token=x")
        answer = link.getresponse()
        assert (answer.status, answer.version) == (403, 11)
        assert "over TLS" not in answer.read().decode()

    assert raw(console, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")[:4] != b"HTTP"


def test_cookie_over_tls_is_sent_over_tls_alone(
    start: Start, token_file: Path, tmp_path: Path
) -> None:
    access = replace(certified(tmp_path / "tls"), token_file=token_file)
    console = start("--web", "0", *access.words())
    trusted = ssl.create_default_context(cafile=access.certificate)
    link = http.client.HTTPSConnection(
        "127.0.0.1", console.port, timeout=TIMEOUT_S, context=trusted
    )
    with closing(link):
        link.request("POST", "/sign-in", b"token=" + TOKEN.encode())
        cookie = link.getresponse().headers["set-cookie"]

    assert "; Secure" in cookie


def test_consoles_of_one_host_have_cookies_of_their_own(
    start: Start, token_file: Path
) -> None:
    first, second = (
        start("--web", "0", "--web-token-file", str(token_file)) for _ in range(2)
    )
    right = b"token=" + TOKEN.encode()

    pairs = [
        ask(console, "/sign-in", "POST", right)[2].headers["set-cookie"].split(";")[0]
        for console in (first, second)
    ]

    assert len({pair.partition("=")[0] for pair in pairs}) == 2
    assert ask(first, "/", Cookie="; ".join(pairs))[0] == 200
    assert ask(second, "/", Cookie="; ".join(pairs))[0] == 200
    assert ask(second, "/", Cookie=pairs[0])[0] == 303


def test_guessing_of_tokens_is_slowed_and_forms_of_others_refused(
    start: Start, token_file: Path
) -> None:
    console = start("--web", "0", "--web-token-file", str(token_file))
    right = b"token=" + TOKEN.encode()

    other = ask(console, "/sign-in", "POST", right, Sec_Fetch_Site="cross-site")
    large = ask(console, "/sign-in", "POST", b"token=" + b"x" * 5000)
    guesses = [ask(console, "/sign-in", "POST", b"token=x")[0] for _ in range(12)]

    assert (other[0], large[0]) == (403, 413)
    assert guesses == [403] * 10 + [429] * 2
    assert ask(console, "/sign-in", "POST", right)[0] == 429


def test_console_for_everybody_says_so(start: Start, token_file: Path) -> None:
    everybody = start("--web", "0.0.0.0:0")
    assert "everybody who reaches it reads the console" in everybody.log.read_text()
    assert ask(everybody, "/", Host="192.168.0.1")[0] == 200
    assert ask(everybody, "/", Host="evil.example")[0] == 421

    signed = start("--web", "0.0.0.0:0", "--web-token-file", str(token_file))
    assert "without TLS" in signed.log.read_text()


@pytest.mark.parametrize(
    ("content", "mode", "wrong"),
    [("short", 0o600, "at least 16 characters"), (TOKEN, 0o644, "chmod 600")],
)
def test_token_that_protects_nothing_is_refused(
    tmp_path: Path, content: str, mode: int, wrong: str
) -> None:
    file = tmp_path / "token"
    file.write_text(content)
    file.chmod(mode)
    assert stat.S_IMODE(file.stat().st_mode) == mode

    with pytest.raises(ConfigError, match=wrong):
        read_token(file)

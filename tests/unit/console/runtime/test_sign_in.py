"""Tokens and cookies: who may read the console, and what guessing costs."""

import http.client
import ssl
import stat
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from starling.console.runtime.server import read_token
from starling.protocol.errors import ConfigError
from tests.unit.console.conftest import Start
from tests.unit.console.runtime.console_requests import TIMEOUT_S, ask, raw
from tests.unit.service.test_web_access import certified

TOKEN = "0123456789abcdef" * 2


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

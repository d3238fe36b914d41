"""The console's gate: bounds, methods, hosts and the token, before any page.

Nothing that a request says changes the coordinator. GET and HEAD are answered; with a
token there is one POST besides, which trades the token for a cookie.

Source: RFC 9110, sections 9 and 15; RFC 6265bis on SameSite; CWE-350 on DNS rebinding.
"""

import hashlib
import hmac
import ipaddress
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import TypeAlias
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from starling.console.markup import Html, element
from starling.console.pages.layout import bare_page

COOKIE = "starling_console"
SIGN_IN = "/sign-in"
TARGET_BYTES_MAX = 2048
FORM_BYTES_MAX = 4096
FAILURES_MAX = 10
"""Wrong tokens within `FAILURES_S`; then nobody signs in for that long."""
FAILURES_S = 60.0
SECURITY_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; "
    "style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_LOCAL_NAMES = frozenset({"localhost"})
_PURPOSE = b"starling console session"
_ASSETS = ("/assets/style.css", "/assets/icon.svg")

Clock: TypeAlias = Callable[[], float]


@dataclass(frozen=True)
class AccessRules:
    """Who may read.

    Attributes:
      loopback: Whether only this machine reaches the console.
      names: Host names that it is called by, besides addresses and localhost.
      token: Needed by everybody; empty for none.
    """

    loopback: bool
    names: frozenset[str] = field(default_factory=frozenset)
    token: bytes = b""

    def cookie(self) -> str:
        """Value of the cookie of who knows the token; it does not tell the token."""
        return hmac.digest(self.token, _PURPOSE, "sha256").hex()

    def takes_host(self, header: str) -> bool:
        """True if a request's Host may be answered.

        A page of somebody else can have its name lead to this machine; then the
        browser says that name. Addresses cannot be made to lead elsewhere.
        """
        host = header.strip().lower()
        if host.startswith("["):
            host = host[1:].partition("]")[0]
        else:
            host = host.partition(":")[0]
        try:
            known = ipaddress.ip_address(host)
        except ValueError:
            return host in _LOCAL_NAMES or host in self.names
        return known.is_loopback or not self.loopback

    def is_token(self, given: bytes) -> bool:
        """True if it is the token; takes as long for every wrong one."""
        ours = hashlib.sha256(self.token).digest()
        return hmac.compare_digest(hashlib.sha256(given).digest(), ours)

    def is_signed_in(self, headers: Headers) -> bool:
        """True if a request has the cookie or, as machines do, the token."""
        if not self.token:
            return True
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self.is_token(given.strip().encode())
        try:
            jar = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return False
        found = jar.get(COOKIE)
        shown = "" if found is None else found.value
        return hmac.compare_digest(shown.encode(), self.cookie().encode())


class Gate:
    """ASGI application around the pages.

    Attributes:
      responses: Number of answers, by status.
    """

    def __init__(
        self, app: ASGIApp, rules: AccessRules, clock: Clock = time.monotonic
    ) -> None:
        """Stands before an application.

        Args:
          app: Answers what is let through.
          rules: Who may read.
          clock: Monotonic, in seconds.
        """
        self.responses: Counter[int] = Counter()
        self._app = app
        self._rules = rules
        self._clock = clock
        self._failures: deque[float] = deque(maxlen=FAILURES_MAX)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["type"] != "http":
            return

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.responses[message["status"]] += 1
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers[name] = value
            await send(message)

        request = Request(scope, receive)
        refused = self._refusal(request)
        if refused is None and self._rules.token and scope["path"] == SIGN_IN:
            refused = await self._sign_in(request)
        if refused is None and not self._rules.is_signed_in(request.headers):
            refused = self._unknown(request)
        await (refused or self._app)(scope, receive, counted)

    def _refusal(self, request: Request) -> Response | None:
        headers, scope = request.headers, request.scope
        target = len(scope["raw_path"]) + len(scope["query_string"])
        if not self._rules.takes_host(headers.get("host", "")):
            return _closing(
                421, "Open the console by its address, or as localhost, not by a name."
            )
        if target > TARGET_BYTES_MAX:
            return _closing(414, f"The address has more than {TARGET_BYTES_MAX} bytes.")
        signs_in = bool(self._rules.token) and request.url.path == SIGN_IN
        if request.method == "POST" and signs_in:
            return None
        if request.method not in ("GET", "HEAD"):
            made = _closing(405, "The console only shows: GET and HEAD.")
            made.headers["allow"] = "GET, HEAD"
            return made
        if "transfer-encoding" in headers or headers.get("content-length", "0") != "0":
            return _closing(413, "A request for a page has no body.")
        return None

    async def _sign_in(self, request: Request) -> Response:
        if request.method != "POST":
            return _form(200, "")
        refused = _form_refusal(request.headers)
        if refused is not None:
            return refused
        now_s = self._clock()
        full = len(self._failures) == FAILURES_MAX
        if full and now_s < self._failures[0] + FAILURES_S:
            made = _form(429, "Too many wrong tokens; wait a minute.")
            made.headers["retry-after"] = f"{FAILURES_S:.0f}"
            return made
        body = (await request.body())[:FORM_BYTES_MAX]
        given = parse_qs(body.decode(errors="replace"), max_num_fields=4)
        if not self._rules.is_token(given.get("token", [""])[0].strip().encode()):
            self._failures.append(now_s)
            return _form(403, "That is not the token.")
        made = Response(status_code=303, headers={"location": "/"})
        made.set_cookie(
            COOKIE, self._rules.cookie(), path="/", httponly=True, samesite="strict"
        )
        return made

    def _unknown(self, request: Request) -> Response | None:
        path = request.scope["path"]
        if path in _ASSETS:
            return None
        if path in ("/metrics", "/live"):
            made: Response = PlainTextResponse("The token is missing.\n", 401)
            made.headers["www-authenticate"] = "Bearer"
            return made
        return Response(status_code=303, headers={"location": SIGN_IN})


def _form_refusal(headers: Headers) -> Response | None:
    length = headers.get("content-length", "")
    if not (length.isascii() and length.isdigit()):
        return _closing(411, "The form says its length.")
    if len(length) > len(str(FORM_BYTES_MAX)) or int(length) > FORM_BYTES_MAX:
        return _closing(413, f"The form has more than {FORM_BYTES_MAX} bytes.")
    if headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return _closing(403, "Sign in from the console's own page.")
    return None


def _closing(status: int, text: str) -> Response:
    """An answer after which the connection ends, with what is left of the request."""
    return PlainTextResponse(text + "\n", status, headers={"connection": "close"})


def _form(status: int, said: str) -> Response:
    field_ = element(
        "input",
        type="password",
        name="token",
        required=True,
        autocomplete="current-password",
    )
    form = element(
        "form",
        element("label", "Token ", field_),
        element("button", "Sign in"),
        action=SIGN_IN,
        method="post",
    )
    told = element("p", said, class_="banner", role="alert") if said else Html("")
    return HTMLResponse(bare_page("Sign in", told, form), status)

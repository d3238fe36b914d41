"""The way in: a token is traded for a cookie, and wrong ones are counted by address.

Source: RFC 6265bis on cookies; NIST SP 800-63B, section 5.2.2 on throttling.
"""

import asyncio
import ipaddress
import logging
import re
import time
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from starlette.datastructures import Headers
from starlette.requests import Request, cookie_parser
from starlette.responses import HTMLResponse, Response

from starling.console.markup import Html, element
from starling.console.pages.layout import bare_page
from starling.console.runtime.access_rules import AccessRules
from starling.console.runtime.forms import RefusedRequest, read_form
from starling.console.runtime.sessions import OperatorSession, Sessions
from starling.protocol.errors import StorageError

log = logging.getLogger("starling.console")

SIGN_IN = "/sign-in"
_READER, _OPERATOR = "starling_console", "starling_operator"
_PORT = re.compile(r":(\d{1,5})$")
FORM_BYTES_MAX = 4096
FAILURES_MAX = 10
"""Wrong tokens of one address within `FAILURES_S`; then it waits for that long."""
FAILURES_S = 60.0
ADDRESSES_MAX = 1024
"""Addresses whose wrong tokens are counted; the oldest is forgotten."""
WAITING_MAX = 8
"""Tries that wait for a hash, one of which runs at a time."""
_SHARED_BITS = 64

Clock: TypeAlias = Callable[[], float]


class SignIn:
    """Signs operators and readers in.

    Attributes:
      failures: Number of wrong tokens.
    """

    def __init__(
        self, rules: AccessRules, sessions: Sessions, clock: Clock = time.monotonic
    ) -> None:
        """Nobody has tried.

        Args:
          rules: Who may read, and whether operators may sign in.
          sessions: Of the operators.
          clock: Monotonic, in seconds.
        """
        self.failures = 0
        self._rules = rules
        self._sessions = sessions
        self._clock = clock
        self._wrong: dict[str, deque[float]] = {}
        self._hashing = asyncio.Lock()
        self._waiting = 0

    def session(self, headers: Headers) -> OperatorSession | None:
        """Session of a request; None if nobody signed in, or no token can be read."""
        try:
            return self._sessions.find(_cookie(headers, _OPERATOR))
        except StorageError as error:
            log.warning("%s", error)
            return None

    def may_read(self, headers: Headers) -> bool:
        """True if a request without a session may see pages."""
        return self._rules.is_reader(headers, _cookie(headers, _READER))

    def sign_out(self, headers: Headers) -> Response:
        """Ends a session."""
        self._sessions.end(_cookie(headers, _OPERATOR))
        made = Response(status_code=303, headers={"location": "/"})
        made.delete_cookie(
            _name(headers, _OPERATOR),
            path="/",
            httponly=True,
            samesite="strict",
            secure=self._rules.tls,
        )
        return made

    async def answer(self, request: Request) -> Response:
        """The form, and what was sent with it.

        Raises:
          RefusedRequest: If what was sent is not in form, or too many try at once.
        """
        if request.method != "POST":
            return self._form(200, "")
        form = await read_form(request, FORM_BYTES_MAX)
        address = _address(request)
        if self._is_shut(address):
            return self._shut()
        given = form.get("token", "").strip()
        if self._rules.token and self._rules.is_token(given.encode()):
            return self._signed_in(request, _READER, self._rules.cookie())
        # An operator's token sent in the clear is one that others have: it is not even
        # tried.
        if not self._rules.operators:
            self._note(address)
            return self._form(403, "That is not the token.")
        if self._waiting >= WAITING_MAX:
            raise RefusedRequest(503, "Too many sign in at once; try again.")
        self._waiting += 1
        try:
            # Argon2id takes 64 MiB each time: one at a time, whatever strangers send.
            async with self._hashing:
                return await self._operator(request, given)
        finally:
            self._waiting -= 1

    async def _operator(self, request: Request, given: str) -> Response:
        address = _address(request)
        # Who waited here meanwhile may have been wrong often enough.
        if self._is_shut(address):
            return self._shut()
        try:
            begun = await asyncio.to_thread(self._sessions.begin, given)
        except StorageError as error:
            log.warning("%s", error)
            return self._form(503, "No token can be read; see the log.")
        if begun is None:
            self._note(address)
            return self._form(403, "That is no token, or no longer one.")
        cookie, session = begun
        log.info("%s signed in (token %s)", session.token.name, session.token.id)
        return self._signed_in(request, _OPERATOR, cookie)

    def _shut(self) -> Response:
        made = self._form(429, "Too many wrong tokens; wait a minute.")
        made.headers["retry-after"] = f"{FAILURES_S:.0f}"
        return made

    def _signed_in(self, request: Request, name: str, value: str) -> Response:
        made = Response(status_code=303, headers={"location": "/"})
        made.set_cookie(
            _name(request.headers, name),
            value,
            path="/",
            httponly=True,
            samesite="strict",
            secure=self._rules.tls,
        )
        return made

    def _is_shut(self, address: str) -> bool:
        wrong = self._wrong.get(address, deque())
        return len(wrong) == FAILURES_MAX and self._clock() < wrong[0] + FAILURES_S

    def _note(self, address: str) -> None:
        self.failures += 1
        # Put in anew, so that the address that tried last is forgotten last.
        wrong = self._wrong.pop(address, deque(maxlen=FAILURES_MAX))
        wrong.append(self._clock())
        self._wrong[address] = wrong
        if len(self._wrong) > ADDRESSES_MAX:
            del self._wrong[next(iter(self._wrong))]

    def _form(self, status: int, said: str) -> Response:
        token = element(
            "input",
            type="password",
            name="token",
            required=True,
            autocomplete="current-password",
            autofocus=True,
        )
        form = element(
            "form",
            element("label", "Token ", token),
            element("button", "Sign in"),
            action=SIGN_IN,
            method="post",
        )
        told = element("p", said, class_="banner", role="alert") if said else Html("")
        hint = (
            "An operator has a token from: starling coordinator token new --name NAME"
            if self._rules.operators
            else "Operators sign in on the coordinator's own machine, or over TLS."
        )
        parts = (told, form, element("p", hint, class_="faint"))
        return HTMLResponse(bare_page("Sign in", *parts), status)


def _address(request: Request) -> str:
    """Client's address; of IPv6 the part that one customer has."""
    host = request.client.host if request.client is not None else ""
    try:
        known = ipaddress.ip_address(host)
    except ValueError:
        return host
    if known.version == 4:
        return str(known)
    return str(ipaddress.ip_network((known, _SHARED_BITS), strict=False))


def _name(headers: Headers, name: str) -> str:
    """A cookie's name, with the port by which the browser knows the console.

    Browsers give a host's cookies to all of its ports, also to another console's.
    """
    port = _PORT.search(headers.get("host", ""))
    return f"{name}_{port[1]}" if port else name


def _cookie(headers: Headers, name: str) -> str:
    # As browsers send them: a malformed one of another program on this host, whose
    # cookies come along, leaves ours readable.
    return cookie_parser(headers.get("cookie", "")).get(_name(headers, name), "")

"""The console's gate: bounds, methods, hosts, tokens and forms, before any page.

GET and HEAD change nothing. What is posted below `/act/` is let through only with an
operator's session and the secret that its own pages carry.

Source: RFC 9110, sections 9 and 15; RFC 6585, section 5; RFC 6265bis on SameSite.
"""

from collections import Counter

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from starling.console.runtime.access_rules import AccessRules
from starling.console.runtime.forms import RefusedRequest, read_form
from starling.console.runtime.sessions import OperatorSession
from starling.console.runtime.sign_in import SIGN_IN, SignIn

TARGET_BYTES_MAX = 2048
HEAD_BYTES_MAX = 16 * 1024
ACTION_BYTES_MAX = 400 * 1024
"""A document of 128 KiB in a form takes up to three times as much."""
ACTIONS = "/act/"
SIGN_OUT = "/act/sign-out"
CSRF = "csrf"
SESSION, FORM = "starling.session", "starling.form"
"""Keys of a request's scope: the session or None, and the fields of its form."""
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
_ASSETS = ("/assets/style.css", "/assets/icon.svg")


class Gate:
    """ASGI application around the pages.

    Attributes:
      responses: Number of answers, by status.
    """

    def __init__(self, app: ASGIApp, rules: AccessRules, sign_in: SignIn) -> None:
        """Stands before an application.

        Args:
          app: Answers what is let through.
          rules: Who may read.
          sign_in: The way in.
        """
        self.responses: Counter[int] = Counter()
        self._app = app
        self._rules = rules
        self._sign_in = sign_in

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        try:
            self._check(request)
            answer = await self._let_in(request)
        except RefusedRequest as refused:
            answer = refused.answer
        await answer(scope, receive, self._counted(send))

    async def turn_away(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request for which there is no room."""
        refused = RefusedRequest(503, "Too many connections are open; try again later.")
        await refused.answer(scope, receive, self._counted(send))

    def _counted(self, send: Send) -> Send:
        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.responses[message["status"]] += 1
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers[name] = value
            await send(message)

        return counted

    def _check(self, request: Request) -> None:
        headers, scope = request.headers, request.scope
        target = len(scope["raw_path"]) + len(scope["query_string"])
        # First: a page of somebody else, led here by its name, learns nothing else (DNS
        # rebinding).
        if not self._rules.takes_host(headers.get("host", "")):
            raise RefusedRequest(
                421, "Open the console by its address, or as localhost, not by a name."
            )
        if target > TARGET_BYTES_MAX:
            text = f"The address has more than {TARGET_BYTES_MAX} bytes."
            raise RefusedRequest(414, text)
        # What comes in one piece is no incomplete head, which uvicorn bounds.
        head = sum(len(name) + len(value) + 4 for name, value in headers.raw)
        if target + head > HEAD_BYTES_MAX:
            text = f"The request's head has more than {HEAD_BYTES_MAX} bytes."
            raise RefusedRequest(431, text)
        path: str = scope["path"]
        if request.method == "POST" and (path == SIGN_IN or path.startswith(ACTIONS)):
            return
        if request.method not in ("GET", "HEAD"):
            refused = RefusedRequest(405, "The console's pages are read: GET and HEAD.")
            refused.answer.headers["allow"] = "GET, HEAD"
            raise refused
        if "transfer-encoding" in headers or headers.get("content-length", "0") != "0":
            raise RefusedRequest(413, "A request for a page has no body.")

    async def _let_in(self, request: Request) -> ASGIApp:
        """Application, or the answer itself, for a request that is in form."""
        scope, headers = request.scope, request.headers
        if scope["path"] == SIGN_IN:
            return await self._sign_in.answer(request)
        session = self._sign_in.session(headers)
        scope[SESSION], scope[FORM] = session, {}
        if request.method == "POST":
            scope[FORM] = await _form(request, session)
            # Behind the check of the form: no other page can sign an operator out.
            out = scope["path"] == SIGN_OUT
            return self._sign_in.sign_out(headers) if out else self._app
        if session is None and not self._sign_in.may_read(headers):
            return _unknown(scope["path"]) or self._app
        return self._app


async def _form(request: Request, session: OperatorSession | None) -> dict[str, str]:
    """Form of an operator's own page."""
    if session is None:
        raise RefusedRequest(403, "Sign in first.")
    form = await read_form(request, ACTION_BYTES_MAX)
    if not session.is_from_us(form.pop(CSRF, "")):
        text = "The form is not of this session; open its page again."
        raise RefusedRequest(403, text)
    return form


def _unknown(path: str) -> Response | None:
    """Answer to somebody who may not read; None for what everybody may."""
    if path in _ASSETS:
        return None
    if path in ("/metrics", "/live"):
        made: Response = PlainTextResponse("The token is missing.\n", 401)
        made.headers["www-authenticate"] = "Bearer"
        return made
    return Response(status_code=303, headers={"location": SIGN_IN})

"""Routes of the console, from the readers to the pages."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import metadata, resources

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from starling.console.chain_facts import ChainFacts
from starling.console.markup import Html, element, link
from starling.console.pages import boards, chain, events, tasks
from starling.console.pages.layout import OperatorFrame, PageFrame, bare_page
from starling.console.pages.overview import overview
from starling.console.prometheus import exposition
from starling.console.runtime.access import SESSION, Gate
from starling.console.runtime.access_rules import AccessRules
from starling.console.runtime.chain_reader import ChainReader
from starling.console.runtime.live_stream import STREAMS_MAX, LiveStreams
from starling.console.runtime.operator_actions import OperatorActions
from starling.console.runtime.sessions import OperatorSession, Sessions
from starling.console.runtime.sign_in import SignIn
from starling.console.runtime.status_reader import StatusReader
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.operations.operator_tokens import tokens_file
from starling.protocol.errors import FederationError
from starling.service.prometheus_text import CONTENT_TYPE

log = logging.getLogger("starling.console")

LOOK_EVERY_S = 0.5
_ASSETS = {
    "style.css": "text/css; charset=utf-8",
    "live.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


class ConsoleApp:
    """The console as an ASGI application.

    Attributes:
      gate: What a server runs.
      streams: Open pages.
    """

    def __init__(
        self,
        status: StatusReader,
        chain_reader: ChainReader,
        rules: AccessRules,
        home: CoordinatorHome,
    ) -> None:
        """Reads nothing yet.

        Args:
          status: Of the coordinator.
          chain_reader: Of the same.
          rules: Who may read.
          home: Of the coordinator; operators act on it.
        """
        self.streams = LiveStreams()
        self._status = status
        self._chain_reader = chain_reader
        self._chain = ChainFacts()
        self._lock = asyncio.Lock()
        self._release = _release()
        pages: tuple[tuple[str, Callable[[Request], object]], ...] = (
            ("/", self._overview),
            ("/boards", self._boards),
            ("/boards/{board_id:str}", self._board),
            ("/tasks", self._tasks),
            ("/tasks/{number:int}", self._task),
            ("/chain", self._chain_page),
            ("/chain/{height:int}", self._block),
            ("/events", self._events),
            ("/metrics", self._metrics),
            ("/live", self._live),
            ("/assets/{name:str}", self._asset),
        )
        routes = [Route(path, answer, methods=["GET"]) for path, answer in pages]
        self._actions = OperatorActions(home, self._frame)
        routes += self._actions.routes()
        handlers = {HTTPException: _failed, FederationError: _broken}
        app = Starlette(routes=routes, exception_handlers=handlers)
        # A redirect would name the host of the request in its answer.
        app.router.redirect_slashes = False
        sessions = Sessions(tokens_file(home), time.time)
        self._sign_in = SignIn(rules, sessions)
        self.gate = Gate(app, rules, self._sign_in)

    def look(self) -> None:
        """Reads the status for the first time, before anybody is served."""
        self._status.look()

    async def watch(self) -> None:
        """Looks at the status again and again, until it is cancelled."""
        while True:
            # In a thread: a status of thousands of boards takes a while to read.
            if await asyncio.to_thread(self._status.look):
                self.streams.notify()
            await asyncio.sleep(LOOK_EVERY_S)

    def _frame(self, request: Request) -> PageFrame:
        facts = self._status.facts()
        session: OperatorSession | None = request.scope[SESSION]
        operator = None
        if session is not None:
            # A page that looks again in the background would lose them.
            is_seen = request.headers.get("sec-fetch-dest", "document") == "document"
            notes = session.take_notes() if is_seen else ()
            operator = OperatorFrame(session.token.name, session.csrf, notes)
        return PageFrame(self._chain.fleet, facts, self._status.trouble, operator)

    async def _read_chain(self) -> ChainFacts:
        # One reader at a time: it keeps what it read, for everybody who asks next.
        async with self._lock:
            self._chain = await asyncio.to_thread(self._chain_reader.facts)
        return self._chain

    async def _overview(self, request: Request) -> Response:
        if not self._chain.fleet:
            with suppress(FederationError):
                await self._read_chain()
        rate = self._status.updates_a_minute()
        waiting = await self._newcomers(request)
        made = await asyncio.to_thread(overview, self._frame(request), rate, waiting)
        return _html(made)

    async def _newcomers(self, request: Request) -> int:
        """Number of those who wait for an operator; 0 for everybody else."""
        if request.scope[SESSION] is None:
            return 0
        return len(await asyncio.to_thread(self._actions.newcomers))

    async def _boards(self, request: Request) -> Response:
        known = await self._read_chain()
        asked = boards.query(dict(request.query_params))
        waiting = await self._newcomers(request)
        made = await asyncio.to_thread(
            boards.boards, self._frame(request), known, asked, waiting
        )
        return _html(made)

    async def _board(self, request: Request) -> Response:
        known = await self._read_chain()
        made = boards.board(
            self._frame(request), known, request.path_params["board_id"]
        )
        return _html(_found(made))

    async def _tasks(self, request: Request) -> Response:
        return _html(tasks.tasks(self._frame(request)))

    async def _task(self, request: Request) -> Response:
        known = await self._read_chain()
        number = request.path_params["number"]
        return _html(_found(tasks.task(self._frame(request), known, number)))

    async def _chain_page(self, request: Request) -> Response:
        known = await self._read_chain()
        return _html(chain.chain_page(self._frame(request), known))

    async def _block(self, request: Request) -> Response:
        known = await self._read_chain()
        height = request.path_params["height"]
        newest = known.blocks[0].height if known.blocks else 0
        # Before the file is opened: a stranger's number costs nothing.
        if not 1 <= height <= newest:
            raise HTTPException(404)
        async with self._lock:
            block = await asyncio.to_thread(self._chain_reader.block, height)
        if block is None:
            raise HTTPException(404)
        return _html(chain.block_page(self._frame(request), known, block))

    async def _events(self, request: Request) -> Response:
        return _html(events.events(self._frame(request), self._status.events.listed()))

    async def _metrics(self, _: Request) -> Response:
        counts = self.gate.responses
        text = exposition(
            self._status.facts(), self._release, counts, self._sign_in.failures
        )
        return Response(text, headers={"content-type": CONTENT_TYPE})

    async def _live(self, request: Request) -> Response:
        if request.method == "HEAD":
            return Response(headers={"content-type": "text/event-stream"})
        if self.streams.count >= STREAMS_MAX:
            raise HTTPException(503)
        return _LiveResponse(self.streams)

    async def _asset(self, request: Request) -> Response:
        kind = _ASSETS.get(name := request.path_params["name"])
        if kind is None:
            raise HTTPException(404)
        content = resources.files("starling.console").joinpath("assets", name)
        return Response(content.read_bytes(), headers={"content-type": kind})


class _LiveResponse(StreamingResponse):
    """A stream that has its place before anything is awaited: no two share one."""

    def __init__(self, streams: LiveStreams) -> None:
        super().__init__(streams.events(), media_type="text/event-stream")
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._streams.place():
            await super().__call__(scope, receive, send)


def _release() -> str:
    try:
        return metadata.version("starling-fl")
    except metadata.PackageNotFoundError:
        return "unknown"


def _html(made: Html) -> Response:
    return HTMLResponse(made)


def _found(made: Html | None) -> Html:
    if made is None:
        raise HTTPException(404)
    return made


async def _failed(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.headers is not None and "location" in error.headers:
        return Response(status_code=error.status_code, headers=error.headers)
    back = element("p", link("/", "Overview"))
    title = f"{error.status_code} {error.detail}"
    return HTMLResponse(bare_page(title, back), error.status_code)


async def _broken(request: Request, error: Exception) -> Response:
    log.warning("%s: %s", request.url.path, error)
    told = element("p", str(error), class_="banner", role="alert")
    back = element("p", link("/", "Overview"))
    return HTMLResponse(bare_page("The chain cannot be read", told, back), 503)

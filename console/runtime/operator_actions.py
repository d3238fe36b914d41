"""Actions of operators who signed in, each by the function that the command line uses.

One action runs at a time, in a thread of its own, and few wait. What happened stands on
the page that the browser is sent to; who did it stands in the log.
"""

import asyncio
import logging
import re
from collections.abc import Callable
from typing import TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from starling.console.pages.layout import OperatorFrame, PageFrame
from starling.console.pages.operator_forms import (
    NewcomerRow,
    TaskForm,
    TaskPrice,
    admission_form,
    price_page,
    task_form,
)
from starling.console.runtime.access import FORM, SESSION
from starling.console.runtime.sessions import OperatorSession
from starling.console.runtime.sign_in import SIGN_IN
from starling.coordinator.runtime.enrolment.enrolment_store import (
    ClaimState,
    EnrolmentStore,
)
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.operations import board_admission, task_publication
from starling.coordinator.runtime.setup.own_broker import own_broker
from starling.coordinator.task_file.task_settings import TaskSettings
from starling.export.model_card import model_card
from starling.export.provenance import ProvenModel
from starling.export.runtime.model_source import (
    ModelSource,
    chosen,
    onnx_of,
    open_source,
)
from starling.protocol.chain.enrolment import request_from_json
from starling.protocol.errors import ConfigError, FederationError
from starling.protocol.ids import H
from starling.protocol.learning.task import TASK
from starling.protocol.model.training_bundle import MANIFEST
from starling.protocol.schema.toml_settings import sample

log = logging.getLogger("starling.console")

WAITING_MAX = 8
BUNDLES = "bundles"
"""Folder of the home whose folders are the bundles that can be published."""
BUNDLES_MAX = 200
ADMISSIONS_MAX = 64
"""Admissions that can be downloaded again; the oldest is forgotten."""
WAIT_S = 30.0
_TASK_FILE = "task.toml"
_NO_FILE_NAME = re.compile(r"[^A-Za-z0-9._-]+")

_Result = TypeVar("_Result")
Frame = Callable[[Request], PageFrame]


class OperatorActions:
    """Routes of what operators do."""

    def __init__(self, home: CoordinatorHome, frame: Frame) -> None:
        """Has done nothing.

        Args:
          home: Of the coordinator.
          frame: Makes a page's frame.
        """
        self._home = home
        self._frame = frame
        self._lock = asyncio.Lock()
        self._waiting = 0
        self._unknown = ""
        self._admissions: dict[str, str] = {}

    def routes(self) -> list[Route]:
        """Pages with forms, and what they post to."""
        pages = (
            ("/admit", self._admission_page),
            ("/publish", self._task_page),
            ("/boards/{board_id:str}/admission", self._admission),
        )
        actions = (
            ("/act/admit", self._admit),
            ("/act/enrol", self._enrol),
            ("/act/revoke", self._revoke),
            ("/act/price", self._price),
            ("/act/publish", self._publish),
            ("/act/resume", self._resume),
            ("/act/export", self._export),
            ("/act/card", self._card),
        )
        return [
            *(Route(path, answer, methods=["GET"]) for path, answer in pages),
            *(Route(path, answer, methods=["POST"]) for path, answer in actions),
        ]

    async def _admission_page(self, request: Request) -> Response:
        frame = self._frame(request)
        admitted, operator = tuple(reversed(self._admissions)), _operator(frame)
        newcomers = await asyncio.to_thread(self.newcomers)
        return HTMLResponse(admission_form(frame, operator, admitted, newcomers))

    async def _task_page(self, request: Request) -> Response:
        frame = self._frame(request)
        text = sample(TaskSettings, {"name": "my task"})
        asked = TaskForm(self._bundles(), "", text)
        return HTMLResponse(task_form(frame, _operator(frame), asked))

    async def _admission(self, request: Request) -> Response:
        _session(request)
        name = request.path_params["board_id"]
        found = self._admissions.get(name)
        if found is None:
            raise HTTPException(404)
        return _download(found.encode(), "application/json", f"admission-{name}.json")

    async def _admit(self, request: Request) -> Response:
        form = _form(request)

        def admit() -> board_admission.AdmittedBoard:
            asked = request_from_json(form.get("request", "").strip())
            return board_admission.admit(self._home, asked, WAIT_S)

        admitted = await self._do(request, "/admit", admit)
        if isinstance(admitted, Response):
            return admitted
        self._admissions[admitted.name] = admitted.admission.to_json()
        # In memory alone: whoever lost one is admitted again, and gets the same rights.
        while len(self._admissions) > ADMISSIONS_MAX:
            self._admissions.pop(next(iter(self._admissions)))
        text = f"{admitted.text()}; it connects to {admitted.broker}"
        return _done(request, text, "/admit")

    async def _enrol(self, request: Request) -> Response:
        form = _form(request)
        accepts = form.get("accept") == "1"

        def decide() -> str:
            store = EnrolmentStore(own_broker(self._home.config().broker).path)
            claim = store.decide(form.get("code", ""), accepts=accepts)
            done = "accepted" if accepts else "rejected"
            return f"{done} {claim.name}, which shows {claim.code}"

        text = await self._do(request, "/admit", decide)
        return text if isinstance(text, Response) else _done(request, text, "/admit")

    def newcomers(self) -> tuple[NewcomerRow, ...]:
        """Waiting newcomers; none where this coordinator has no broker's folder."""
        try:
            store = EnrolmentStore(own_broker(self._home.config().broker).path)
            claims, decided = store.claims(), store.decisions()
        except FederationError as error:
            # Live pages ask again and again.
            if str(error) != self._unknown:
                log.warning("who waits is not known: %s", error)
            self._unknown = str(error)
            return ()
        return tuple(
            NewcomerRow(claim.code, claim.kind.name.lower(), claim.name)
            for claim in claims
            if claim.state is ClaimState.PENDING and claim.stem not in decided
        )

    async def _revoke(self, request: Request) -> Response:
        form = _form(request)
        name = form.get("board", "")
        if form.get("sure") != "1":
            return _failed(
                request, f"{name} is not excluded: nobody was sure", "/boards"
            )

        def revoke() -> str:
            decision = board_admission.revoke(self._home, name, WAIT_S)
            return board_admission.revoked_text(name, decision)

        text = await self._do(request, "/boards", revoke)
        return text if isinstance(text, Response) else _done(request, text, "/boards")

    async def _price(self, request: Request) -> Response:
        drafted = await self._draft(request)
        if isinstance(drafted, Response):
            return drafted
        asked, price = drafted
        frame = self._frame(request)
        return HTMLResponse(price_page(frame, _operator(frame), asked, price))

    async def _publish(self, request: Request) -> Response:
        asked = self._asked(request)
        digest = _form(request).get("digest", "")

        def publish() -> str:
            drafted = self._drafted(asked)
            # What is signed is what was priced: files may have changed since the page
            # was shown.
            if H(TASK.pack(drafted.made.spec)).hex() != digest:
                raise ConfigError(
                    "bundle or settings are not those whose price was shown", key="task"
                )
            decision = task_publication.publish(self._home, drafted, WAIT_S)
            return task_publication.published_text(drafted, decision)

        text = await self._do(request, "/publish", publish)
        return text if isinstance(text, Response) else _done(request, text, "/tasks")

    async def _resume(self, request: Request) -> Response:
        number = _number(request)
        page = f"/tasks/{number}"
        done = await self._do(
            request,
            page,
            lambda: task_publication.resume_task(self._home, number, WAIT_S),
        )
        return done if isinstance(done, Response) else _done(request, done.text, page)

    async def _export(self, request: Request) -> Response:
        def onnx(_: ModelSource, model: ProvenModel) -> bytes:
            return onnx_of(model)

        return await self._version(request, onnx, "onnx", "application/octet-stream")

    async def _card(self, request: Request) -> Response:
        def card(source: ModelSource, model: ProvenModel) -> bytes:
            boards = source.contributors(model.claim.row)
            return model_card(model, boards, None).encode()

        return await self._version(request, card, "md", "text/markdown; charset=utf-8")

    async def _version(
        self,
        request: Request,
        made_of: Callable[[ModelSource, ProvenModel], bytes],
        suffix: str,
        kind: str,
    ) -> Response:
        """A download that is made of a version, whose proof is checked first."""
        number, version = _number(request), _form(request).get("version", "")

        def make() -> tuple[int, bytes]:
            source = open_source(self._home.path, None, None)
            try:
                model = source.proven(chosen(source, number, version))
                return model.claim.row.version, made_of(source, model)
            finally:
                source.close()

        made = await self._do(request, f"/tasks/{number}", make)
        if isinstance(made, Response):
            return made
        found, content = made
        name = f"task{number}-version{found}.{suffix}"
        log.info("%s: %s is downloaded", _who(request), name)
        fleet = self._frame(request).fleet or "starling"
        return _download(content, kind, f"{fleet}-{name}")

    async def _draft(self, request: Request) -> tuple[TaskForm, TaskPrice] | Response:
        asked = self._asked(request)

        def draft() -> TaskPrice:
            drafted = self._drafted(asked)
            digest = H(TASK.pack(drafted.made.spec)).hex()
            return TaskPrice(drafted.name, drafted.lines(), digest)

        try:
            return asked, await self._alone(draft)
        except FederationError as error:
            # What was written down is shown again, with what is wrong with it.
            _session(request).notes.append((False, str(error)))
            frame = self._frame(request)
            page = task_form(frame, _operator(frame), asked)
            return HTMLResponse(page, 422)

    def _drafted(self, asked: TaskForm) -> task_publication.TaskDraft:
        # Names are compared with those that are there: none of them leads elsewhere.
        if asked.bundle not in asked.bundles:
            raise ConfigError("there is no such bundle", key="bundle")
        folder = self._home.path / BUNDLES / asked.bundle
        return task_publication.draft(
            self._home, folder, asked.text, _TASK_FILE, force=asked.force
        )

    def _asked(self, request: Request) -> TaskForm:
        form = _form(request)
        return TaskForm(
            self._bundles(),
            form.get("bundle", ""),
            # Browsers send a text area's lines so, whatever they were.
            form.get("task", "").replace("\r\n", "\n"),
            form.get("force") == "1",
        )

    def _bundles(self) -> tuple[str, ...]:
        try:
            found = [
                path.name
                for path in (self._home.path / BUNDLES).iterdir()
                if (path / MANIFEST).is_file()
            ]
        except OSError:
            return ()
        return tuple(sorted(found)[:BUNDLES_MAX])

    async def _do(
        self, request: Request, page: str, work: Callable[[], _Result]
    ) -> _Result | Response:
        """Result of an action; or the answer, if it could not be done."""
        try:
            return await self._alone(work)
        except FederationError as error:
            return _failed(request, str(error), page)

    async def _alone(self, work: Callable[[], _Result]) -> _Result:
        # Each may wait for a block: the next in line is told at once instead.
        if self._waiting >= WAITING_MAX:
            raise HTTPException(503)
        self._waiting += 1
        try:
            # One at a time: each may wait for a block, and holds a thread meanwhile.
            async with self._lock:
                return await asyncio.to_thread(work)
        finally:
            self._waiting -= 1


def _session(request: Request) -> OperatorSession:
    found: OperatorSession | None = request.scope[SESSION]
    if found is None:
        raise HTTPException(303, headers={"location": SIGN_IN})
    return found


def _operator(frame: PageFrame) -> OperatorFrame:
    if frame.operator is None:
        raise HTTPException(303, headers={"location": SIGN_IN})
    return frame.operator


def _form(request: Request) -> dict[str, str]:
    form: dict[str, str] = request.scope[FORM]
    return form


def _number(request: Request) -> int:
    text = _form(request).get("task", "")
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(1 << 32))):
        raise HTTPException(400)
    return int(text)


def _who(request: Request) -> str:
    token = _session(request).token
    return f"{token.name} (token {token.id})"


def _done(request: Request, text: str, page: str) -> Response:
    log.info("%s: %s", _who(request), text)
    _session(request).notes.append((True, text))
    return Response(status_code=303, headers={"location": page})


def _failed(request: Request, text: str, page: str) -> Response:
    log.warning("%s: %s", _who(request), text)
    _session(request).notes.append((False, text))
    return Response(status_code=303, headers={"location": page})


def _download(content: bytes, kind: str, name: str) -> Response:
    plain = _NO_FILE_NAME.sub("-", name)
    told = f'attachment; filename="{plain}"'
    return Response(
        content, headers={"content-type": kind, "content-disposition": told}
    )

"""Operators in the console do what the command line does."""

import html
import re
import shutil
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from starling.agent.runtime.storage.agent_home import AgentHome
from starling.coordinator.enrolment.registrar import TokenRecord
from starling.coordinator.runtime.enrolment.enrolment_store import (
    ClaimState,
    EnrolmentStore,
    StoredClaim,
)
from starling.coordinator.runtime.home import CoordinatorHome
from starling.fleet import FleetPlan, run_virtual
from starling.protocol.chain.enrolment import admission_from_json
from starling.protocol.crypto.scram import scram_keys
from starling.protocol.learning.task import TASK as TASK_CODEC
from starling.protocol.wire.enrolment_messages import EnrolmentKind
from starling.protocol.wire.enrolment_token import letters
from starling.protocol.wire.envelope import ENVELOPE, MessageKind
from tests.unit.console.conftest import launch
from tests.unit.console.runtime.operator_home import (
    Operator,
    dropped,
    new_token,
    operated_home,
)
from tests.unit.coordinator.fixtures.line_task import TASK


def notes(operator: Operator, page: str = "/") -> str:
    """Notes of the page that an action led to."""
    text = operator.ask(page).text
    found = re.search(r'<div class="notes">(.*?)</div>', text, re.DOTALL)
    return "" if found is None else html.unescape(re.sub("<[^>]+>", "", found[1]))


def test_price_stands_before_the_button_and_what_it_said_is_published(
    ana: Operator, home: CoordinatorHome
) -> None:
    assert 'value="line"' in ana.ask("/publish").text
    shown = ana.post("/act/price", bundle="line", task=TASK)
    page = html.unescape(shown.text)
    assert shown.status == 200
    assert "privacy: none; updates tell about the boards" in page
    assert page.index("privacy: none") < page.index("<button>Publish tiny</button>")
    digest = re.search(r'name="digest" value="([0-9a-f]{64})"', shown.text)
    assert digest is not None
    before = dropped(home)

    other = TASK.replace("leases = 4", "leases = 3")
    done = ana.post("/act/publish", bundle="line", task=other, digest=digest[1])
    assert done.status == 303
    assert "not those whose price was shown" in notes(ana)
    assert dropped(home) == before

    text = TASK.replace("\n", "\r\n")
    done = ana.post("/act/publish", bundle="line", task=text, digest=digest[1])
    assert done.headers["location"] == "/tasks"
    assert "handed in, not decided yet: whether 'tiny' is published" in notes(ana)
    (made,) = set(dropped(home)) - set(before)
    envelope = ENVELOPE.unpack(dropped(home)[made])
    assert envelope.kind == MessageKind.TASK
    assert envelope.sender == home.operator_key().public
    assert TASK_CODEC.unpack(envelope.body).name == "tiny"
    assert "Ana (token" in ana.console.log.read_text()


@pytest.mark.parametrize(
    ("bundle", "task", "wrong"),
    [
        ("../keys", TASK, "there is no such bundle"),
        ("line/../../keys", TASK, "there is no such bundle"),
        ("/etc", TASK, "there is no such bundle"),
        ("line\x00", TASK, "there is no such bundle"),
        ("", TASK, "there is no such bundle"),
        ("line", "", "name"),
        ("line", "buffer = ", "task.toml"),
        ("line", TASK + 'odd = "<script>alert(1)</script>"', "odd"),
        ("line", TASK.replace("buffer = 2", "buffer = 0"), "buffer"),
    ],
    ids=range(9),
)
def test_task_that_cannot_be_is_said_with_what_was_written(
    ana: Operator, bundle: str, task: str, wrong: str
) -> None:
    answer = ana.post("/act/price", bundle=bundle, task=task)

    assert answer.status == 422
    assert wrong in html.unescape(answer.text)
    assert "<script>alert" not in answer.text
    assert html.escape(task) in answer.text


def test_board_is_admitted_by_its_request_and_gets_its_file(
    ana: Operator, home: CoordinatorHome, tmp_path: Path
) -> None:
    board = AgentHome(tmp_path / "board")
    board.begin({})
    request = board.write_request().read_text()

    assert ana.post("/act/admit", request=request).headers["location"] == "/admit"

    page = ana.ask("/admit").text
    assert "it connects to 127.0.0.1:" in page
    found = re.search(r'href="(/boards/[a-z2-7]+/admission)"', page)
    assert found is not None
    file = ana.ask(found[1])
    assert file.headers["content-disposition"].startswith("attachment; filename=")
    admission = admission_from_json(file.content)
    assert admission.device == board.identity()
    assert admission.genesis == home.genesis()


@pytest.mark.parametrize(
    "request_text", ["", "{", "[]", '{"format": "x"}', "[" * 50_000, "\x00"]
)
def test_request_that_is_none_admits_nobody(
    ana: Operator, home: CoordinatorHome, request_text: str
) -> None:
    before = dropped(home)

    assert ana.post("/act/admit", request=request_text).status == 303

    assert 'class="banner"' in ana.ask("/admit").text
    assert dropped(home) == before


@pytest.mark.parametrize(("accept", "done"), [("1", "accepted"), ("0", "rejected")])
def test_newcomer_with_a_token_is_decided_by_its_code(
    ana: Operator, home: CoordinatorHome, accept: str, done: str
) -> None:
    store = EnrolmentStore(Path(home.config().broker.home))
    keys, token, name = scram_keys(bytes(20)), b"token-0" + accept.encode(), done
    store.add_token(TokenRecord(token, EnrolmentKind.BOARD, keys, 2, 1 << 32, True))
    code = f"ABCD-EFG{accept}"
    claim = StoredClaim(
        letters(token),
        EnrolmentKind.BOARD,
        name,
        "{}",
        code,
        "00",
        ClaimState.PENDING,
        "",
        1,
    )
    store.put_claim(claim)
    assert f"<strong>{code}</strong>" in ana.ask("/admit").text
    for page in ("/", "/boards"):
        assert "1 wait with a token: " in ana.ask(page).text

    ana.post("/act/enrol", code="WXYZ-WXYZ", accept=accept)
    assert "nobody who waits shows WXYZ-WXYZ" in notes(ana)
    assert claim.stem not in store.decisions()

    ana.post("/act/enrol", code=code, accept=accept)
    assert f"{done} {name}, which shows {code}" in notes(ana)
    assert store.decisions()[claim.stem] is (accept == "1")


def test_board_is_excluded_only_if_somebody_is_sure(
    ana: Operator, home: CoordinatorHome
) -> None:
    before, name = dropped(home), "a" * 26

    ana.post("/act/revoke", board=name)
    assert "nobody was sure" in notes(ana)
    ana.post("/act/revoke", board="../x", sure="1")
    assert "device" in notes(ana)
    assert dropped(home) == before

    ana.post("/act/revoke", board=name, sure="1")
    (made,) = set(dropped(home)) - set(before)
    assert ENVELOPE.unpack(dropped(home)[made]).kind == MessageKind.REVOKE


@pytest.mark.parametrize(
    ("task", "status"), [("0", 303), ("", 400), ("-1", 400), ("9" * 40, 400)]
)
def test_task_is_not_resumed_without_a_loss(
    ana: Operator, task: str, status: int
) -> None:
    assert ana.post("/act/resume", task=task).status == status
    if status == 303:
        assert "no quorum stated a held-out loss" in notes(ana)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> CoordinatorHome:
    """A home whose chain has versions of a model."""
    folder = tmp_path_factory.mktemp("trained")
    made = operated_home(folder)
    plan = FleetPlan(devices=4, buffer=2, until_version=2, seed=11)
    run_virtual(plan, threads=1, home=folder / "virtual")
    for name in ("genesis", "state/chain.sqlite3"):
        shutil.copy(folder / "virtual" / "coordinator" / name, made.path / name)
    return made


@pytest.mark.parametrize("version", ["best", "latest", "1"])
def test_version_is_downloaded_as_the_command_line_writes_it(
    trained: CoordinatorHome, tmp_path: Path, version: str
) -> None:
    from starling import __main__ as starling

    with ExitStack() as stack:
        ana = Operator(launch(stack, trained.path, "--web", "0"))
        ana.sign_in(new_token(trained, time.time()))
        answer = ana.post("/act/export", task="0", version=version)
        card = ana.post("/act/card", task="0", version=version)
        missing = ana.post("/act/export", task="0", version="../../keys/operator")
        told = notes(ana, "/tasks")

    out = tmp_path / "model.onnx"
    words = ["--home", str(trained.path), "--version", version, "--out", str(out)]
    assert starling.main(["model", "export", *words]) == 0
    words[-1] = str(tmp_path / "MODEL.md")
    assert starling.main(["model", "card", *words]) == 0
    assert card.content == (tmp_path / "MODEL.md").read_bytes()
    assert b"version" in card.content
    assert answer.status == 200
    assert answer.content == out.read_bytes()
    name = answer.headers["content-disposition"]
    assert re.fullmatch(r'attachment; filename="[\w.-]+-task0-version\d\.onnx"', name)
    assert card.headers["content-disposition"] == name.replace(".onnx", ".md")
    assert missing.status == 303
    assert "is not best, latest or N" in told


def test_page_that_looks_again_leaves_the_notes_to_the_one_that_is_opened(
    ana: Operator,
) -> None:
    ana.post("/act/revoke", board="nobody")
    ana.headers = {"Sec-Fetch-Dest": "empty"}
    assert notes(ana) == ""
    ana.headers = {"Sec-Fetch-Dest": "document"}

    assert "nobody was sure" in notes(ana)

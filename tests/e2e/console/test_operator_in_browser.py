"""An operator in a real browser, at a coordinator that runs behind a real broker."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import pytest

from starling.agent.runtime.storage.agent_home import AgentHome
from starling.coordinator.enrolment.registrar import TokenRecord
from starling.coordinator.runtime.enrolment.enrolment_store import (
    ClaimState,
    EnrolmentStore,
    StoredClaim,
)
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.setup.genesis_setup import GenesisOptions, found
from starling.protocol.crypto.scram import scram_keys
from starling.protocol.wire.enrolment_messages import EnrolmentKind
from starling.protocol.wire.enrolment_token import letters
from tests.e2e.conftest import Broker
from tests.e2e.console.webdriver import (
    CHROMEDRIVER,
    CHROMIUM,
    DEADLINE_S,
    Browser,
    browser,
)
from tests.unit.console.runtime.operator_home import new_token
from tests.unit.coordinator.fixtures.line_task import TASK, write_line

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        CHROMIUM is None or CHROMEDRIVER is None,
        reason="no Chromium: apt-get install chromium chromium-driver",
    ),
]
PICTURES = os.environ.get("STARLING_PICTURES")
"""Folder for pictures of the pages, for people to look at."""
WIDE, NARROW = (1280, 900), (360, 800)
LIVE = "document.getElementById('live')?.textContent === 'live'"
TABLES_FIT = (
    "[...document.querySelectorAll('.scroll')]"
    ".every((each) => each.scrollWidth <= each.clientWidth)"
)
HEIGHT = (
    "Number([...document.querySelectorAll('dt')]"
    ".find((each) => each.textContent === 'height').nextSibling.textContent)"
)


def founded(broker: Broker, folder: Path) -> tuple[CoordinatorHome, str]:
    """A coordinator's home with a bundle, and a token for it."""
    home = CoordinatorHome(folder / "coordinator")
    found(home, GenesisOptions("test", broker.home.path, "127.0.0.1", 0, 1))
    write_line(home.path / "bundles" / "line")
    return home, new_token(home, time.time())


@contextmanager
def coordinator(home: CoordinatorHome) -> Iterator[str]:
    """A coordinator with a console; gives the console's address."""
    words = ["coordinator", "run", "--home", str(home.path), "--web", "0"]
    with (home.path.parent / "coordinator.log").open("w") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "starling", *words],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        assert child.stdout is not None
        try:
            line = child.stdout.readline()
            assert line.startswith("console: http://"), line
            yield line.removeprefix("console: ").strip().rstrip("/")
        finally:
            child.send_signal(signal.SIGTERM)
            child.wait(DEADLINE_S)
            child.stdout.close()


def looked_at(window: Browser, name: str) -> None:
    """Checks that nothing is wider than the window; keeps pictures if wanted."""
    for title, size in (("wide", WIDE), ("narrow", NARROW)):
        window.resize(*size)
        wide = "document.documentElement.scrollWidth"
        assert window.run(f"return {wide} <= window.innerWidth"), (name, title)
        if size == NARROW:
            assert window.run(f"return {TABLES_FIT}"), name
        if PICTURES is not None:
            window.picture(Path(PICTURES) / f"{name}-{title}.png")
    window.resize(*WIDE)


def sign_in(window: Browser, url: str, token: str) -> None:
    window.open(f"{url}/sign-in")
    looked_at(window, "sign-in")
    window.type("input[name=token]", f"{token}\n")
    window.until("document.querySelector('.who button') !== null")
    assert "Ana" in window.text()


def admit(window: Browser, url: str, request: str) -> None:
    window.open(f"{url}/admit")
    window.fill("textarea[name=request]", request)
    looked_at(window, "admit")
    window.click("main form button")
    window.until("document.querySelector('.done') !== null")
    assert "admitted" in window.text()
    looked_at(window, "admitted")
    window.click("main a[href$=admission]")


def decide_newcomers(window: Browser, url: str, home: CoordinatorHome) -> None:
    """Accepts one who waits, rejects the other, by their codes and buttons."""
    store = EnrolmentStore(Path(home.config().broker.home))
    token, board = b"token-01", EnrolmentKind.BOARD
    store.add_token(TokenRecord(token, board, scram_keys(bytes(20)), 2, 1 << 32, True))
    names = {"QRST-2345": "a-board-with-quite-a-long-name-0123456789", "ABCD-6789": "b"}
    claims = [
        StoredClaim(
            letters(token),
            board,
            name,
            "{}",
            code,
            f"{number:02}",
            ClaimState.PENDING,
            "",
            1,
        )
        for number, (code, name) in enumerate(names.items())
    ]
    for claim in claims:
        store.put_claim(claim)
    window.open(f"{url}/admit")
    looked_at(window, "newcomers")
    window.resize(*NARROW)
    # What is cut of a table can be scrolled to, but nobody sees that it is there.
    cut = "document.querySelector('.scroll')"
    assert window.run(f"return {cut}.scrollWidth <= {cut}.clientWidth")
    window.resize(*WIDE)
    for code, word, value in (
        ("QRST-2345", "accepted", 1),
        ("ABCD-6789", "rejected", 0),
    ):
        window.run(
            "[...document.querySelectorAll('form[action=\"/act/enrol\"]')].find("
            f"(each) => each.code.value === '{code}').id = 'chosen'"
        )
        window.click(f"#chosen button[value='{value}']")
        window.until("document.querySelector('.done') !== null")
        assert f"{word} {names[code]}, which shows {code}" in window.text()
        left = f"document.querySelector('form input[value=\"{code}\"]')"
        assert window.run(f"return {left} === null")
        looked_at(window, f"newcomer-{word}")
    decided = store.decisions()
    assert [decided[claim.stem] for claim in claims] == [True, False]


def publish(window: Browser, url: str, task: str) -> None:
    window.open(f"{url}/publish")
    window.fill("textarea[name=task]", task)
    looked_at(window, "publish")
    window.click("main form button")
    window.until("document.body.innerText.includes('privacy: none')")
    looked_at(window, "price")
    window.click("main form button")
    window.until("document.querySelector('.done') !== null")
    assert "published 'tiny' at height" in window.text()
    looked_at(window, "published")


def test_operator_signs_in_admits_publishes_and_downloads_while_pages_live(
    broker: Broker, tmp_path: Path
) -> None:
    home, token = founded(broker, tmp_path)
    board = AgentHome(tmp_path / "board")
    board.begin({})
    request = board.write_request().read_text()

    with coordinator(home) as url, browser(tmp_path) as window:
        sign_in(window, url, token)
        decide_newcomers(window, url, home)
        admit(window, url, request)
        publish(window, url, TASK.replace("buffer = 2", "buffer = 1"))

        # The new task, and later a block, come by themselves: by server-sent events.
        window.until("document.querySelector('main a[href=\"/tasks/0\"]') !== null")
        window.open(f"{url}/tasks/0")
        looked_at(window, "task")
        window.run("document.querySelector('select[name=version]').value = '0'")
        window.click("form[action='/act/export'] button")
        model = downloaded(tmp_path, ".onnx")
        admission = json.loads(downloaded(tmp_path, ".json"))
        window.open(f"{url}/")
        window.until(LIVE)
        before = window.run(f"return {HEIGHT}")
        looked_at(window, "overview")
        window.until(f"{HEIGHT} > {before}")
        complaints = window.complaints()
        window.click(".who button")
        window.until("document.querySelector('.who a') !== null")

    onnx.checker.check_model(onnx.load_from_string(model))
    assert admission["format"].startswith("starling")
    assert complaints == []
    log = (tmp_path / "coordinator.log").read_text()
    assert token.split(".")[1] not in log
    assert "Ana (token" in log


def downloaded(folder: Path, ending: str) -> bytes:
    """A file that the browser has written whole."""
    deadline_s = time.monotonic() + DEADLINE_S
    while True:
        there = list((folder / "downloads").glob(f"*{ending}"))
        if there:
            return there[0].read_bytes()
        assert time.monotonic() < deadline_s, "nothing was downloaded"
        time.sleep(0.1)


@pytest.mark.skipif(PICTURES is None, reason="STARLING_PICTURES names no folder")
def test_pictures_of_dark_pages(broker: Broker, tmp_path: Path) -> None:
    home, token = founded(broker, tmp_path)

    with coordinator(home) as url, browser(tmp_path, dark=True) as window:
        sign_in(window, url, token)
        assert window.run("return matchMedia('(prefers-color-scheme: dark)').matches")
        for name in ("", "boards", "tasks", "chain", "publish", "admit"):
            window.open(f"{url}/{name}")
            looked_at(window, f"dark-{name or 'overview'}")

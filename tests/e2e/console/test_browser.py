"""The console in a real browser: its script runs under its own policy."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.console.webdriver import CHROMEDRIVER, CHROMIUM, browser
from tests.unit.console.conftest import launch, set_up, write_status
from tests.unit.console.status_documents import document

pytestmark = pytest.mark.e2e

LABEL = """document.querySelector('[role="status"].faint')?.innerText"""


needs_chromium = pytest.mark.skipif(
    CHROMIUM is None or CHROMEDRIVER is None,
    reason="no Chromium: apt-get install chromium chromium-driver",
)


@needs_chromium
@pytest.mark.parametrize("page", ["/", "/boards", "/tasks/0", "/chain", "/events"])
def test_script_of_a_page_runs_and_its_policy_refuses_nothing(
    tmp_path: Path, page: str
) -> None:
    with ExitStack() as stack:
        console = launch(stack, set_up(tmp_path), "--web", "0")
        window = stack.enter_context(browser(tmp_path))
        window.open(f"http://127.0.0.1:{console.port}{page}")

        # The page comes with "not live", which its script replaces.
        window.until(f"{LABEL} === 'live'")

        assert window.complaints() == []


@needs_chromium
@pytest.mark.parametrize("place", [".scroll", "td a"])
def test_who_moves_by_keyboard_keeps_the_place_when_the_page_is_new(
    tmp_path: Path, place: str
) -> None:
    with ExitStack() as stack:
        home = set_up(tmp_path)
        console = launch(stack, home, "--web", "0")
        window = stack.enter_context(browser(tmp_path))
        window.open(f"http://127.0.0.1:{console.port}/boards")
        window.until(f"{LABEL} === 'live'")
        window.run(
            f"const at = document.querySelector('{place}'); at.focus();"
            "document.querySelector('h1').id = 'old'"
        )

        made = document()
        made["tasks"][0]["head"] = 4
        write_status(home, made)
        window.until("document.querySelector('#old') === null")

        found = f"document.activeElement === document.querySelector('{place}')"
        assert window.run(f"return {found}")

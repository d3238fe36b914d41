"""The console in a real browser: its script runs under its own policy."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.console.webdriver import CHROMEDRIVER, CHROMIUM, browser
from tests.unit.console.conftest import launch, set_up

pytestmark = pytest.mark.e2e

LABEL = """document.querySelector('[role="status"].faint')?.innerText"""


@pytest.mark.skipif(
    CHROMIUM is None or CHROMEDRIVER is None,
    reason="no Chromium: apt-get install chromium chromium-driver",
)
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

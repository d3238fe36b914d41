"""The console in a real browser: its script runs under its own policy."""

import re
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.unit.console.conftest import launch, set_up

pytestmark = pytest.mark.e2e

TIMEOUT_S = 120.0
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")
@pytest.mark.parametrize("page", ["/", "/boards", "/tasks/0", "/chain", "/events"])
def test_script_of_a_page_runs_and_its_policy_refuses_nothing(
    tmp_path: Path, page: str
) -> None:
    assert CHROMIUM is not None
    with ExitStack() as stack:
        console = launch(stack, set_up(tmp_path), "--web", "0")
        words = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu"]
        words += [f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr"]
        words += ["--timeout=5000", "--dump-dom"]
        done = subprocess.run(
            [*words, f"http://127.0.0.1:{console.port}{page}"],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    # The page comes with "not live"; a browser may be seen before the stream is open.
    label = re.search(r'role="status" class="faint">([a-z ]+)</span>', done.stdout)
    assert label is not None, done.stderr
    assert label[1] in ("connecting", "live")
    assert "Content Security Policy" not in done.stderr
    assert "CONSOLE" not in done.stderr

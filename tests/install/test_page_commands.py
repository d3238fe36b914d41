"""Commands in the pages run as they stand there, from a fresh copy of the sources.

A block of commands is fenced as `sh`. Those of a page are one script, in its order. A
block that cannot run here has a comment `<!-- not run: WHY -->` on the line before.
"""

import importlib.util
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from starling.broker.runtime.mosquitto_process import free_port
from tests.e2e.required_mosquitto import require_mosquitto
from tests.install.environments import (
    ROOT,
    borrowed_packages,
    build,
    offline_variables,
    require_hatchling,
)

HOW_TO = sorted(
    str(page.relative_to(ROOT)) for page in (ROOT / "docs" / "how-to").glob("*.md")
)
PAGES = ["README.md", "docs/tutorial.md", *HOW_TO]
WITH_BROKER = {"docs/tutorial.md", *HOW_TO}
# What the how-to pages find: a broker, a coordinator and one board that run.
SMALL_FLEET = ROOT / "tests" / "install" / "small_fleet.sh"
FENCE = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^>]+) -->\n)?"
    r"^```(?P<kind>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
COMMAND = re.compile(r"^(make|pip|python3?|starling|\.venv/)\b", re.MULTILINE)
DEADLINE_S = 900
TUTORIAL_PORT = "48883"
"""That the tutorial names; two runs on one machine would meet there."""
# Each starts a fleet of its own anew; together they take minutes of waiting.
LONG = set(HOW_TO) - {"docs/how-to/add-a-board.md"}
END_WITH_CHILDREN = "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT"


# Their commands need four coordinators; each block says so.
NOT_RUN = {
    "docs/how-to/found-by-token.md",
    "docs/how-to/replace-a-coordinator.md",
}


def blocks(page: str) -> list[re.Match[str]]:
    return list(FENCE.finditer((ROOT / page).read_text("utf-8")))


@pytest.mark.parametrize("page", PAGES)
def test_page_fences_commands_as_sh(page: str) -> None:
    unmarked = [
        block["text"]
        for block in blocks(page)
        if block["kind"] != "sh" and COMMAND.search(block["text"])
    ]

    assert unmarked == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(
            page,
            marks=[
                *([pytest.mark.e2e] if page in WITH_BROKER else []),
                *([pytest.mark.soak] if page in LONG else []),
            ],
        )
        for page in PAGES
        if page not in NOT_RUN
    ],
)
def test_page_commands_run_as_they_stand(page: str, tmp_path: Path) -> None:
    require_hatchling()
    if page in WITH_BROKER:
        require_mosquitto()
    if importlib.util.find_spec("ensurepip") is None:
        pytest.skip("this Python cannot make environments: install python3-venv")
    with tarfile.open(build("sdist", tmp_path)) as archive:
        archive.extractall(tmp_path, filter="data")
    [sources] = (path for path in tmp_path.iterdir() if path.is_dir())
    script = "".join(
        block["text"]
        for block in blocks(page)
        if block["kind"] == "sh" and block["reason"] is None
    )
    assert script
    script = script.replace(TUTORIAL_PORT, str(free_port()))
    if page in HOW_TO:
        script = f"PORT={free_port()}\n{SMALL_FLEET.read_text('utf-8')}\n{script}"

    log = tmp_path / "output"
    with log.open("wb") as output:
        # What a page starts in the background ends with the script, however that ends.
        done = subprocess.run(
            ["bash", "-euxo", "pipefail", "-c", f"{END_WITH_CHILDREN}\n{script}"],
            cwd=sources,
            env=offline_variables(
                borrowed_packages(tmp_path / "borrowed"), Path(sys.executable).parent
            ),
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=DEADLINE_S,
            check=False,
        )

    assert done.returncode == 0, log.read_text(errors="replace")[-8000:]

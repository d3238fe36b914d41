"""A child finds the packages of its parent, and nothing of the folder it starts in."""

import subprocess
import sys
from pathlib import Path

import pytest

from starling.sandbox import child_process
from tests.e2e.deadline import DEADLINE_S


def test_child_imports_our_packages_and_not_those_of_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    (tmp_path / "starling").mkdir()
    (tmp_path / "starling" / "__init__.py").write_text("raise SystemExit(9)")

    done = subprocess.run(
        child_process.command("starling.sandbox.child_process"),
        env=child_process.environment(),
        cwd=tmp_path,
        check=False,
    )

    assert done.returncode == 0


def test_child_gets_no_variable_that_nobody_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SECRET", "of the operator")

    assert "SECRET" not in child_process.environment()


def test_expendable_child_is_the_first_that_memory_takes() -> None:
    waits = (
        "import time\n"
        "while open('/proc/self/oom_score_adj').read() != '1000\\n': time.sleep(.01)\n"
        "print('first')"
    )

    done = child_process.run_expendable([sys.executable, "-c", waits], {}, DEADLINE_S)

    assert (done.returncode, done.stdout) == (0, "first\n")


def test_expendable_child_that_takes_too_long_is_killed() -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        child_process.run_expendable(["/bin/sleep", "9999"], {}, 0.01)

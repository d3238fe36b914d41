"""Alert rules and metrics by Prometheus' own tool, where it is installed."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from starling.console.prometheus import exposition
from tests.unit.console.status_documents import facts

FOLDER = Path(__file__).parents[3] / "packaging" / "prometheus"
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="no promtool: apt-get install prometheus"
)


def promtool(*words: str, given: str = "") -> str:
    assert PROMTOOL is not None
    done = subprocess.run(
        [PROMTOOL, *words],
        cwd=FOLDER,
        input=given,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_promtool
def test_rules_are_rules() -> None:
    assert "SUCCESS" in promtool("check", "rules", "alerts.yml")


@needs_promtool
def test_rules_fire_when_they_should_and_not_before() -> None:
    assert "SUCCESS" in promtool("test", "rules", "alerts_test.yml")


@needs_promtool
def test_metrics_keep_the_conventions_of_names_and_units() -> None:
    assert (
        promtool("check", "metrics", given=exposition(facts(), "1", {200: 1}, 0)) == ""
    )


def test_every_rule_has_a_test_of_its_own() -> None:
    rules = re.findall(r"- alert: (\w+)", (FOLDER / "alerts.yml").read_text())
    tested = re.findall(r"alertname: (\w+)", (FOLDER / "alerts_test.yml").read_text())

    assert len(rules) > 10
    assert set(tested) == set(rules)

"""`starling tune` finds what learns, and says it as flags."""

import json

import pytest

from starling.fleet import tune_cli
from starling.fleet.plan import FleetPlan
from starling.fleet.runtime.tuning_run import chosen
from starling.fleet.successive_halving import TuningCandidate

WORDS = ["--devices", "10", "--buffer", "5", "--until-version", "12", "--waves"]


def test_tune_without_privacy_leaves_a_rate_that_beats_the_slowest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert tune_cli.main([*WORDS, "--privacy", "none", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    trials = document["trials"]
    assert trials[-1] == document["best"]
    assert document["best"]["versions"] == 12
    rate = document["best"]["candidate"]["rate"]
    assert document["flags"] == {"--local-learning-rate": rate}
    first = {t["candidate"]["rate"]: t["loss"] for t in trials if t["versions"] < 12}
    assert first[rate] < first[min(first)]


def test_chosen_plan_has_the_candidate_s_clip_and_rate() -> None:
    found = chosen(FleetPlan(), TuningCandidate(0.5, 3.0), 7)
    assert (found.clip, found.learning_rate, found.until_version) == (0.5, 3.0, 7)
    plain = chosen(FleetPlan(privacy="none"), TuningCandidate(0.0, 0.02), 7)
    assert plain.learning.local_learning_rate == 0.02

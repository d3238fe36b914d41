"""Virtual fleets in which a fifth of the boards attack from the first version on."""

import argparse

from starling.fleet import FleetPlan
from starling.fleet.attacks.attack_schedule import AttackKind
from starling.fleet.fronts.front_catalog import FRONTS, HEAD_MODEL
from starling.fleet.report.run_report import RunOutcome
from starling.protocol.learning.metrics import ClassMetrics

PEACE = "none"
ATTACKS = (PEACE, *(kind.value for kind in AttackKind))
EPSILON = 2.0
BUFFER = 10
_SHARE = 5
"""One of so many boards attacks."""
_SIZES = {"digits": (20, 60, 15), "mnist": (100, 100, 10)}
"""Boards, versions, and releases that the epsilon is planned for."""


def attacked_plan(
    data: str, split: str, privacy: str, attack: str, front: str | None = None
) -> FleetPlan:
    """The fleet, with a linear model, or with a head on a front."""
    boards, versions, releases = _SIZES[data]
    attackers = 0 if attack == PEACE else boards // _SHARE
    return FleetPlan(
        devices=boards,
        buffer=BUFFER,
        data=data,
        split=split,
        model=HEAD_MODEL if front else "softmax",
        front=front,
        privacy=privacy,
        epsilon=EPSILON,
        releases=releases,
        until_version=versions,
        time_limit_s=7200.0,
        fault=f"boards 1-{attackers} {attack} from version 0" if attackers else "",
    )


def attackers_of(plan: FleetPlan) -> int:
    """How many boards attack: the first ones."""
    return plan.devices // _SHARE if plan.fault else 0


def class_metrics(outcome: RunOutcome) -> ClassMetrics:
    """Of the newest model: on test examples if there are any, else on held-out ones."""
    assert outcome.metrics is not None
    ended = outcome.metrics.test or outcome.metrics.held_out
    assert isinstance(ended, ClassMetrics)
    return ended


def fleet_parser(prog: str) -> argparse.ArgumentParser:
    """A parser with what the fleets differ in."""
    made = argparse.ArgumentParser(prog=prog)
    made.add_argument("--data", choices=tuple(_SIZES), default="digits")
    made.add_argument("--splits", nargs="+", default=["iid", "shards:2"])
    made.add_argument(
        "--privacy", nargs="+", choices=("record", "none"), default=["record", "none"]
    )
    made.add_argument(
        "--attacks", nargs="*", choices=ATTACKS, default=list(ATTACKS), metavar="ATTACK"
    )
    made.add_argument("--seeds", type=int, default=1)
    made.add_argument(
        "--front",
        choices=tuple(FRONTS),
        help="trains a head on it; boards of mnist have its features as data",
    )
    return made

"""Quarantine of attackers and of honest boards, and contribution against data quality.

`python -m benchmarks.reputation` runs virtual fleets in which a fifth of the boards
attack from the first version on, and counts who is quarantined, and after how many
scored updates. Quarantine is for ever, so that each board counts once. Then it
runs fleets without attackers in which boards have 0 to 90 % wrong labels, and says how
well the mean influence of a board's first ten scored updates ranks the boards by that
(Spearman's rank correlation), and how well its worth does, by which rewards are shared.
Of attackers it says which share of all worth is theirs.

    python -m benchmarks.reputation                              # digits, minutes
    python -m benchmarks.reputation --data mnist --privacy record --attacks none \
        'flip signs' --seeds 1                               # an hour of a core
"""

import argparse
import sys
import time
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr

from benchmarks.harness.attacked_fleet import (
    PEACE,
    attacked_plan,
    attackers_of,
    class_metrics,
    fleet_parser,
)
from benchmarks.harness.result_file import keep
from benchmarks.heads import FrontData
from starling.coordinator.chain.state import score_subjects
from starling.coordinator.chain.tasks import reputations, scores
from starling.coordinator.chain.tasks.contribution_rewards import counted_size
from starling.fleet import FleetPlan
from starling.fleet.datasets.partition import Examples
from starling.fleet.runtime.training_material import TrainingMaterial
from starling.fleet.runtime.virtual_run import Pace, run_prepared
from starling.fleet.virtual.virtual_fleet import VirtualFleet
from starling.protocol.ids import DeviceId
from starling.protocol.learning.reward_policy import (
    BoardEarnings,
    contribution,
    with_contribution,
)
from starling.protocol.learning.score_policy import QUARANTINE_S_MAX
from starling.protocol.privacy.aggregation_terms import noise_micro

PARTICIPATIONS = 10
SPEARMAN_GOAL = 0.85
_VERSIONS = {"digits": 30, "mnist": 100}


@dataclass(frozen=True)
class QuarantineCell:
    """Fleets of one kind, over all seeds.

    Attributes:
      split: How the data were dealt out.
      privacy: `record`, with its epsilon, or `none`.
      rule: How updates were scored.
      attack: What a fifth of the boards did.
      attackers: How many there were.
      caught: How many of them were quarantined within ten scored updates.
      median: Scored updates until then, of those that were; None if none was.
      honest: How many honest boards there were.
      wronged: How many of these were quarantined.
      accuracy: At the end, mean over the seeds.
      worth: Share of all boards' worth that attackers have at the end, mean over the
        seeds; a reward by contribution is shared by it.
      worthless: How many honest boards have none.
    """

    split: str
    privacy: str
    rule: str
    attack: str
    attackers: int
    caught: int
    median: float | None
    honest: int
    wronged: int
    accuracy: float
    worth: float
    worthless: int


@dataclass(frozen=True)
class QualityCell:
    """Contribution against data quality, mean over the seeds.

    Attributes:
      split: How the data were dealt out.
      privacy: As in `QuarantineCell`.
      spearman: Of mean influence and the share of right labels.
      least: Of the seeds, the least.
      by_worth: As `spearman`, of the worth at the end, for each scored update.
    """

    split: str
    privacy: str
    spearman: float
    least: float
    by_worth: float


class Watcher:
    """Notes quarantines and influences while a fleet runs."""

    def __init__(self) -> None:
        """Nothing was seen yet."""
        self.after: dict[DeviceId, int] = {}
        self.influences: dict[DeviceId, list[int]] = defaultdict(list)
        self.earned: dict[DeviceId, BoardEarnings] = defaultdict(BoardEarnings)
        self.sigma_micro = 0
        self.boards: tuple[DeviceId, ...] = ()
        self._seen = 0

    def __call__(self, fleet: VirtualFleet) -> str:
        """Looks at the chain; never ends a run."""
        self.boards, tree = fleet.identities, fleet.foremost.state.ledger.tree
        spec = fleet.task.spec
        self.sigma_micro = noise_micro(spec.privacy, spec.codec)
        while found := scores.scores(tree, 0, self._seen + 1):
            self._seen += 1
            subjects = score_subjects.subjects(tree, 0, self._seen)
            for each, median in zip(subjects, found.medians, strict=True):
                self.influences[each.board].append(median.influence)
                weight = spec.aggregation.staleness_q15[self._seen - 1 - each.base]
                size = counted_size(spec, each.pledge)
                amount = contribution(median.influence, size, weight)
                self.earned[each.board] = with_contribution(
                    self.earned[each.board], amount
                )
            for board in {each.board for each in subjects}:
                known = reputations.reputation(tree, board)
                if known.quarantines:
                    self.earned[board] = BoardEarnings()
                    # A few may have been scored since: no number is too small.
                    self.after.setdefault(board, known.scored)
        return ""

    def worth(self, board: DeviceId) -> int:
        """Worth of a board, in 10^-6 of an example."""
        return self.earned[board].worth(self.sigma_micro)


def run(
    material: TrainingMaterial, threads: int | None = None
) -> tuple[Watcher, float]:
    """One fleet; what was seen, and its accuracy."""
    watcher = Watcher()
    outcome = run_prepared(
        material, Pace(virtual_time=True), threads=threads, watch=watcher
    ).outcome
    return watcher, class_metrics(outcome).accuracy


def plan_of(
    options: argparse.Namespace, split: str, privacy: str, attack: str = PEACE
) -> FleetPlan:
    """The fleet of a cell, for its first seed."""
    plan = attacked_plan(options.data, split, privacy, attack, options.front)
    return replace(
        plan,
        model=plan.model if options.front else options.model,
        epsilon=options.epsilon,
        until_version=options.versions or _VERSIONS[options.data],
        scores=options.rule,
        quarantine_s=options.quarantine_s,
    )


def quarantined(
    options: argparse.Namespace,
    fronts: FrontData,
    split: str,
    privacy: str,
    attack: str,
) -> QuarantineCell:
    """Runs one fleet for each seed."""
    plan = plan_of(options, split, privacy, attack)
    attackers = attackers_of(plan)
    caught, wronged, worthless = list[int](), 0, 0
    accuracies, worths = list[float](), list[float]()
    for seed in range(1, options.seeds + 1):
        seen, accuracy = run(fronts.material(replace(plan, seed=seed)))
        bad = set(seen.boards[:attackers])
        caught += [n for board, n in seen.after.items() if board in bad]
        wronged += sum(board not in bad for board in seen.after)
        accuracies.append(accuracy)
        worth = {board: seen.worth(board) for board in seen.boards}
        theirs = sum(worth[board] for board in bad)
        worthless += sum(not worth[board] for board in seen.boards if board not in bad)
        worths.append(theirs / max(1, sum(worth.values())))
    early = [count for count in caught if count <= PARTICIPATIONS]
    return QuarantineCell(
        split,
        privacy,
        options.rule,
        attack,
        attackers * options.seeds,
        len(early),
        float(np.median(caught)) if caught else None,
        (plan.devices - attackers) * options.seeds,
        wronged,
        float(np.mean(accuracies)),
        float(np.mean(worths)),
        worthless,
    )


def quality(
    options: argparse.Namespace, fronts: FrontData, split: str, privacy: str
) -> QualityCell:
    """Runs one fleet of boards with wrong labels for each seed."""
    found, by_worth = [], []
    for seed in range(1, options.seeds + 1):
        plan = replace(plan_of(options, split, privacy), seed=seed, quarantine_s=0)
        material = fronts.material(plan)
        rng = np.random.default_rng((seed, 3))
        wrong = rng.permutation(np.linspace(0.0, 0.9, plan.devices))
        classes = material.data.classes
        boards = [
            _mislabelled(board, share, classes, rng)
            for board, share in zip(material.boards, wrong, strict=True)
        ]
        seen, _ = run(replace(material, boards=boards))
        means = [
            float(np.mean(seen.influences[board][:PARTICIPATIONS] or [0]))
            for board in seen.boards
        ]
        each = [
            seen.worth(board) / max(1, seen.earned[board].scored)
            for board in seen.boards
        ]
        found.append(float(spearmanr(means, 1.0 - wrong).statistic))
        by_worth.append(float(spearmanr(each, 1.0 - wrong).statistic))
    return QualityCell(
        split, privacy, float(np.mean(found)), min(found), float(np.mean(by_worth))
    )


def _mislabelled(
    board: Examples, share: float, classes: int, rng: np.random.Generator
) -> Examples:
    """A board of which a share of the labels is drawn anew among the other classes."""
    y = board.y.copy()
    rows = rng.permutation(len(y))[: round(share * len(y))]
    y[rows] = (y[rows] + rng.integers(1, classes, len(rows))) % classes
    return Examples(board.x, y)


def shown(cells: list[QuarantineCell], title: str) -> Table:
    """The cells as a table."""
    table = Table(title=title)
    for name in (
        "split",
        "privacy",
        "attack",
        "caught",
        "after",
        "wronged",
        "accuracy",
        "worth",
        "worthless",
    ):
        table.add_column(name, justify="left" if name == "attack" else "right")
    for cell in cells:
        caught = f"{cell.caught} of {cell.attackers}" if cell.attackers else ""
        after = f"{cell.median:g}" if cell.median is not None else ""
        wronged = f"{cell.wronged} of {cell.honest}"
        ends = (
            f"{cell.accuracy:.1%}",
            f"{cell.worth:.1%}",
            f"{cell.worthless} of {cell.honest}",
        )
        table.add_row(
            cell.split, cell.privacy, cell.attack, caught, after, wronged, *ends
        )
    return table


def main(argv: list[str]) -> int:
    """Prints the tables and writes the results."""
    options = _parser().parse_args(argv)
    console, begun_s, fronts = Console(), time.perf_counter(), FrontData()
    cells: list[QuarantineCell] = []
    qualities: list[QualityCell] = []
    name = f"reputation-{options.data}-{options.rule}"

    def note() -> None:
        results: dict[str, Any] = {
            "options": vars(options),
            "wall_s": time.perf_counter() - begun_s,
            "quarantine": [asdict(cell) for cell in cells],
            "quality": [asdict(cell) for cell in qualities],
        }
        keep(f"{name}{options.suffix}", results)

    for privacy in options.privacy:
        for split in options.splits:
            for attack in options.attacks:
                cells.append(quarantined(options, fronts, split, privacy, attack))
                note()
            if options.quality:
                qualities.append(quality(options, fronts, split, privacy))
                note()
    console.print(shown(cells, f"{options.data}, {options.rule}: quarantine"))
    table = Table(title=f"influence against right labels, goal {SPEARMAN_GOAL}")
    for column in ("split", "privacy", "Spearman", "least seed", "by worth"):
        table.add_column(column)
    for each in qualities:
        row = (f"{each.spearman:.2f}", f"{each.least:.2f}", f"{each.by_worth:.2f}")
        table.add_row(each.split, each.privacy, *row)
    console.print(table)
    return 0


def _parser() -> argparse.ArgumentParser:
    made = fleet_parser("benchmarks.reputation")
    made.set_defaults(privacy=["none", "record"], seeds=3)
    made.add_argument("--model", default="softmax")
    made.add_argument(
        "--rule", choices=("projection", "accuracy"), default="projection"
    )
    made.add_argument("--epsilon", type=float, default=8.0)
    made.add_argument("--versions", type=int, help="of each fleet")
    made.add_argument(
        "--quarantine-s",
        type=int,
        default=QUARANTINE_S_MAX,
        help="of attackers and honest boards alike; 0 for never",
    )
    made.add_argument(
        "--no-quality", dest="quality", action="store_false", help="skip wrong labels"
    )
    made.add_argument("--suffix", default="", help="of the name of the results' file")
    return made


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

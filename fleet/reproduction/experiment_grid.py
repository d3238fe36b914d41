"""The cells of LL-BCFL's experiment, each as the plan of a virtual fleet.

The paper trains MNIST on 100 participants, 10 % of them a round, with balanced and
unbalanced data, for 100, 200 and 500 rounds, without noise, with Laplace's and with
Gaussian noise, and states no epsilon. Here each cell has one: of everything that a
board holds for its two kinds of noise, of a record for the fourth, which is Starling's
own; a fifth draws labels alone, once, and takes all else for public.

Source: Wu and Kang, Research on Federated Sharing Methods for Massive Data in
Blockchain (LL-BCFL), section 5; Yang et al., arXiv:1902.04885, equation 1.
"""

import math
from dataclasses import dataclass

from starling.fleet.plan import FleetPlan
from starling.protocol.errors import ConfigError

NOISES = {
    "none": "none",
    "laplace": "device-laplace",
    "gaussian": "device-gaussian",
    "record": "record",
    "labels": "labels",
}
"""Privacy of a plan by what a row is called."""
DEFAULT_NOISES = ("none", "laplace", "gaussian", "record")
"""Without that of labels alone, which promises less and takes the longest."""
SPLITS = {"iid": "iid", "non-iid": "shards:2"}
"""Split of a plan by what the paper's data are called; two sorted pieces a board."""
ROUNDS = (100, 200, 500)
_TIME_LIMIT_S = 24 * 3600.0


@dataclass(frozen=True)
class ExperimentCell:
    """One fleet of the experiment.

    Attributes:
      noise: A key of `NOISES`.
      split: A key of `SPLITS`.
      rounds: Versions.
    """

    noise: str
    split: str
    rounds: int

    @property
    def name(self) -> str:
        """By which it is kept."""
        return f"{self.noise}-{self.split}-{self.rounds}"


@dataclass(frozen=True)
class ExperimentGrid:
    """Settings that all cells share, and the cells that there are.

    Attributes:
      data: As a plan's.
      model: As a plan's.
      front: As a plan's.
      boards: Participants.
      chosen: Of them, in a round.
      epsilon: In total, for a board or a record.
      delta: Of that epsilon.
      seed: Of everything but keys and noise.
      noises: Keys of `NOISES`.
      splits: Keys of `SPLITS`.
      rounds: Numbers of rounds, each a fleet of its own: its budget is planned for it.
    """

    data: str = "mnist"
    model: str | None = "cnn"
    front: str | None = None
    boards: int = 100
    chosen: int = 10
    epsilon: float = 8.0
    delta: float = 1e-5
    seed: int = 1
    noises: tuple[str, ...] = DEFAULT_NOISES
    splits: tuple[str, ...] = tuple(SPLITS)
    rounds: tuple[int, ...] = ROUNDS

    def __post_init__(self) -> None:
        """Refuses what no fleet can do.

        Raises:
          ConfigError: Naming the flag.
        """
        for flag, chosen, known in (
            ("--noise", self.noises, NOISES),
            ("--splits", self.splits, SPLITS),
        ):
            for name in chosen:
                if name not in known:
                    detail = f"{name!r} is not one of {', '.join(known)}"
                    raise ConfigError(detail, key=flag)
        for cell in self.cells:
            self.plan(cell)

    @property
    def cells(self) -> tuple[ExperimentCell, ...]:
        """All cells, the quick ones first."""
        return tuple(
            ExperimentCell(noise, split, rounds)
            for rounds in sorted(set(self.rounds))
            for split in self.splits
            for noise in self.noises
        )

    def plan(self, cell: ExperimentCell) -> FleetPlan:
        """The fleet of a cell: boards take turns, so that all release as often.

        Raises:
          ConfigError: If no fleet can be as asked.
        """
        return FleetPlan(
            devices=self.boards,
            buffer=self.chosen,
            data=self.data,
            split=SPLITS[cell.split],
            model=self.model,
            front=self.front,
            privacy=NOISES[cell.noise],
            epsilon=self.epsilon,
            delta=self.delta,
            releases=math.ceil(cell.rounds * self.chosen / self.boards),
            until_version=cell.rounds,
            time_limit_s=_TIME_LIMIT_S,
            seed=self.seed,
        )


QUICK = ExperimentGrid(
    data="digits", model="softmax", boards=20, chosen=2, rounds=(5, 10)
)
"""On 1,437 small digits, in seconds: whether everything runs, not what it is worth."""

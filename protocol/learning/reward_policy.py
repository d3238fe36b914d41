"""Rewards by contribution: what a board's scored updates amount to, in integers.

    contribution = influence x size x weight by staleness
    worth        = the sum of a board's contributions, less what noise alone may make

Influence is the quality of an update (`protocol.learning.score_policy`), size the
examples that it stands for, the weight is less the later it came. Contributions add up
over all of a board's scored updates, also those below zero: noise evens out, and what
did harm is made good before anything is paid again. Of that sum two standard deviations
of the noise are taken off, so that a board without any data earns nothing by luck.

The worth of a board is linear in its data: a data set that is split among several
boards is worth what it was, less the noise of each. It does not follow the pledge
alone: of a sum of clipped gradients the mean gets shorter by as much as the pledge gets
larger. Two boards with the same data are two boards here: whom to admit is the
operator's to decide, and what a board has at stake is the price of one.

Source: the first-order influence of an update on a held-out loss, as in Koh and Liang,
"Understanding black-box predictions via influence functions", ICML 2017, section 2.2,
with the root set of Cao et al., "FLTrust", NDSS 2021.
"""

import math
from enum import IntEnum
from typing import Annotated

from starling.protocol.dataclass_replace import evolve
from starling.protocol.schema.msgpack_codec import Structure, Uint, uint

MILLION = 10**6
PARTICIPATIONS_MAX = 1000
USE_PRICE_MAX = 10**12
DEFAULT_PARTICIPATIONS = 10
DEFAULT_TAKING_PART_MICRO = 200_000
NOISE_DEVIATIONS = 2
"""Standard deviations of noise that do not count as contribution."""
WORTH_MAX = 1 << 56
_Q15 = 1 << 15


class RewardRule(IntEnum):
    """Rule by which a version's credits are shared."""

    EQUAL = 0
    """Equally among its updates, when it is final."""
    CONTRIBUTION = 1
    """By contribution, when its updates are scored."""


class RewardPolicy(Structure, frozen=True):
    """Rewards of a task; all but `rule` matters under `CONTRIBUTION` only.

    Attributes:
      rule: `RewardRule`.
      participations: Scored updates of a board before its first payment by
        contribution; the next come after every half as many.
      taking_part_micro: Share of a version's credits, in 10^-6, for taking part: by
        what boards have at stake.
      use_price: Credits that an operator pays the contributors for each use of the
        model; 0 if nobody meters it.
    """

    rule: Annotated[int, uint(max(RewardRule))] = RewardRule.EQUAL
    participations: Annotated[int, uint(PARTICIPATIONS_MAX, 1)] = DEFAULT_PARTICIPATIONS
    taking_part_micro: Annotated[int, uint(MILLION)] = DEFAULT_TAKING_PART_MICRO
    use_price: Annotated[int, uint(USE_PRICE_MAX)] = 0

    def is_payday(self, scored: int) -> bool:
        """True if a board is paid by contribution after so many scored updates."""
        over = scored - self.participations
        return over >= 0 and over % max(1, self.participations // 2) == 0


EQUAL_REWARDS = RewardPolicy()
"""Every update of a version earns the same."""


class BoardEarnings(Structure, frozen=True):
    """Contributions of one board to one task, in 10^-6 of an example.

    Attributes:
      contribution: The sum over its scored updates; may be below 0.
      scored: How many these are.
      paid: The worth that it was paid for.
    """

    contribution: Annotated[int, uint(WORTH_MAX, -WORTH_MAX)] = 0
    scored: Uint = 0
    paid: Annotated[int, uint(WORTH_MAX)] = 0

    def worth(self, sigma_micro: int) -> int:
        """Contribution that noise does not explain, at least 0.

        Args:
          sigma_micro: Noise multiplier of the task, in 10^-6: the standard deviation
            of one contribution by noise, in 10^-6 of an example; 0 without noise.
        """
        # Deviations of independent noise add up as squares; the integer root is the
        # same everywhere.
        noise = math.isqrt((NOISE_DEVIATIONS * sigma_micro) ** 2 * self.scored)
        return max(0, self.contribution - noise)

    def due(self, sigma_micro: int) -> int:
        """Worth that it was not paid for yet; see `worth`."""
        return max(0, self.worth(sigma_micro) - self.paid)

    def forgotten(self) -> "BoardEarnings":
        """Earnings once its contributions are forgotten: its debt stays.

        Harm that it was not made to answer for, and worth that it was paid for and has
        lost since, are made good before it is paid again.
        """
        # Or a board that did harm would be rid of it by staying away until it is
        # forgotten.
        debt = min(0, self.contribution - self.paid)
        return BoardEarnings(max(-WORTH_MAX, debt))


NOTHING_EARNED = BoardEarnings()


def contribution(influence_ppm: int, size: int, weight_q15: int) -> int:
    """Contribution of one update, in 10^-6 of an example, rounded down.

    Args:
      influence_ppm: Per example, in parts per million; below 0 if it does harm.
      size: Examples.
      weight_q15: By staleness, in units of 2^-15.
    """
    return influence_ppm * size * weight_q15 // _Q15


def with_contribution(known: BoardEarnings, amount: int) -> BoardEarnings:
    """A board's earnings after one more of its updates was scored."""
    total = max(-WORTH_MAX, min(WORTH_MAX, known.contribution + amount))
    return evolve(known, contribution=total, scored=known.scored + 1)

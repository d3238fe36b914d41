"""A task: what is trained, how privately, and how updates become versions.

An operator publishes it as a transaction. Everything is an integer, since the chain's
state machine computes with it: `_q24` means units of 2^-24, `_q16` of 2^-16, `_q15` of
2^-15, `_micro` of 10^-6, `_e12` of 10^-12.
"""

from bisect import bisect_right
from enum import IntEnum
from typing import Annotated

from starling.protocol.errors import DecodeError
from starling.protocol.ids import Digest, H
from starling.protocol.learning.end_policy import NO_END, EndPolicy
from starling.protocol.learning.local_optimiser import (
    EPOCHS_MAX,
    NO_PERSONAL,
    PLAIN,
    DescentPolicy,
    PersonalPolicy,
)
from starling.protocol.learning.progress_guard import NO_GUARD, GuardPolicy
from starling.protocol.learning.reward_policy import (
    EQUAL_REWARDS,
    RewardPolicy,
    RewardRule,
)
from starling.protocol.learning.score_policy import NO_SCORES, ScorePolicy, ScoreRule
from starling.protocol.learning.selection_policy import EQUAL_CHANCES, SelectionPolicy
from starling.protocol.schema.msgpack_codec import (
    Byte,
    Structure,
    Uint,
    many,
    structure,
    text,
    uint,
)

Q15 = 1 << 15
Q16 = 1 << 16
Q24 = 1 << 24
MICRO = 10**6
E12 = 10**12

DIMENSION_MAX = 1 << 26
BUFFER_MAX = 1 << 10
STALENESS_MAX = 63
PLEDGE_MAX = 1 << 20
TASK_BYTES_MAX = 8 * 1024
LABEL_RESPONSE = 5
"""The mechanism whose noise is in the labels; see `protocol.privacy.mechanisms`."""


class TrainingMode(IntEnum):
    """Computation that a board runs on the model it was given."""

    GRADIENT = 0
    """The sum of its (clipped) per-example gradients: one full-batch step."""
    LOCAL = 1
    """Its own steps of SGD; the update is the way it went, times its size."""


class Strategy(IntEnum):
    """Aggregation strategy that turns a buffer of updates into a step."""

    FEDBUFF = 0
    """Weighted sum over all examples, server momentum."""
    PROJECTED = 1
    """As FEDBUFF, less what the model moved along an update since its base."""
    FEDASYNC = 2
    """A part of the way to where each board ended; mode LOCAL only."""
    FEDAVG = 3
    """The mean of the boards' models; synchronous only."""
    CA2FL = 4
    """As FEDBUFF, updates calibrated by their boards' last ones; not with noise."""
    FEDADAM = 5
    """Adam at the server, less the second moment of known noise."""
    FEDYOGI = 6
    """Yogi at the server, likewise."""
    FEDADAGRAD = 7
    """Adagrad at the server, likewise."""


class Robust(IntEnum):
    """A filter before the strategy; see `coordinator.aggregation.robust`."""

    NONE = 0
    """Nothing: every update counts as it is."""
    MEAN = 1
    """The norm bound of tasks without noise alone."""
    MEDIAN = 2
    TRIMMED_MEAN = 3
    KRUM = 4
    MULTI_KRUM = 5
    BULYAN = 6
    GEOMETRIC_MEDIAN = 7
    CENTRED_CLIPPING = 8
    CTMA = 9
    NNM_TRIMMED_MEAN = 10
    """Nearest-neighbour mixing, then the trimmed mean."""
    SPECTRAL_CLIPPING = 11
    """The mean, with what stands out in the main directions cut off."""


ROBUST_NAMES = {each.name.lower().replace("_", "-"): each for each in Robust}


class TrainingPolicy(Structure, frozen=True):
    """Training that a task asks of a board.

    Attributes:
      mode: `TrainingMode`.
      epochs: Local epochs, LOCAL only.
      batch: Examples per local step, LOCAL only but for a board's own model.
      learning_rate_q24: Of local steps; in mode GRADIENT only of the parameters and of
        the model that stay on the board.
      descent: What makes steps of gradients, LOCAL only.
    """

    mode: Annotated[int, uint(max(TrainingMode))]
    epochs: Annotated[int, uint(EPOCHS_MAX, 1)]
    batch: Annotated[int, uint(1 << 16, 1)]
    learning_rate_q24: Annotated[int, uint(1 << 32)]
    descent: DescentPolicy = PLAIN


class PrivacyPolicy(Structure, frozen=True):
    """Privacy charge that a task may make to a board's data set.

    Attributes:
      mechanism: A number of `protocol.privacy.mechanisms.MECHANISMS`; 0 is none.
      clip_q24: Norm to which each example's gradient is clipped; the whole update's
        norm under device-level mechanisms.
      sigma_micro: Noise multiplier: noise scale over charged sensitivity.
      epsilon_micro: Total epsilon that the task may spend on one board.
      delta_e12: Delta of that epsilon, above 0 and below 1.
      releases: Updates planned per board within that epsilon.
      sampling_micro: Share of the records that a noised step takes; 10^6 is all.
      steps: Noised steps that an update consists of.
      charge: Least charge that an update states; 0 where it follows from sigma.

    Without a mechanism the first four may be 0; with one they must not. That of labels
    has an epsilon, of each label, and neither sigma nor delta.
    """

    mechanism: Byte
    clip_q24: Annotated[int, uint(1 << 40)]
    sigma_micro: Annotated[int, uint(1 << 40)]
    epsilon_micro: Annotated[int, uint(1 << 40)]
    delta_e12: Annotated[int, uint(E12 - 1)]
    releases: Annotated[int, uint(1 << 20, 1)]
    sampling_micro: Annotated[int, uint(MICRO, 1)] = MICRO
    steps: Annotated[int, uint(1 << 16, 1)] = 1
    charge: Annotated[int, uint(1 << 62)] = 0

    def __post_init__(self) -> None:
        """Refuses a mechanism that would protect nothing."""
        if self.mechanism == LABEL_RESPONSE:
            if not self.epsilon_micro or self.sigma_micro or self.delta_e12:
                raise DecodeError("labels need an epsilon, no sigma and no delta")
            return
        # Noise of size 0, or beside an unbounded gradient, would be charged and protect
        # nobody.
        needed = (self.clip_q24, self.sigma_micro, self.epsilon_micro, self.delta_e12)
        if self.mechanism != 0 and 0 in needed:
            raise DecodeError("a mechanism needs clip, sigma, epsilon and delta")


class AggregationPolicy(Structure, frozen=True):
    """Aggregation of updates into versions.

    Attributes:
      strategy: `Strategy`.
      buffer: K, updates that make a version.
      learning_rate_q16: Server step.
      momentum_q16: Server momentum, below 1.
      average_q16: How much of the old average stays at each version, below 1.
      staleness_q15: Weight by staleness, never 0, so that no buffer weighs nothing;
        its length less one is the largest staleness that still counts.
      leases: C, boards that may be in flight at once.
      patience: H, blocks after which half a buffer is enough.
      norm_max: Largest norm of a decoded update, in units of 2^-24.
      patience_s: Seconds of header time after which it is, if those blocks are over,
        too: blocks may come faster than they should.
      robust: `Robust`.
    """

    strategy: Annotated[int, uint(max(Strategy))]
    buffer: Annotated[int, uint(BUFFER_MAX, 1)]
    learning_rate_q16: Annotated[int, uint(1 << 24)]
    momentum_q16: Annotated[int, uint(Q16 - 1)]
    average_q16: Annotated[int, uint(Q16 - 1)]
    staleness_q15: Annotated[
        tuple[Annotated[int, uint(Q15, 1)], ...], many(STALENESS_MAX + 1, 1)
    ]
    leases: Annotated[int, uint(1 << 20, 1)]
    patience: Annotated[int, uint(1 << 20, 1)]
    norm_max: Annotated[int, uint(1 << 60, 1)]
    patience_s: Annotated[int, uint(1 << 20)] = 0
    robust: Annotated[int, uint(max(Robust))] = Robust.NONE

    @property
    def staleness_max(self) -> int:
        """The largest staleness that still counts."""
        return len(self.staleness_q15) - 1


class ModelDigests(Structure, frozen=True):
    """One version of the model, named by what it consists of.

    Attributes:
      theta: H of the (d,) int64 little-endian parameters, in units of 2^-24.
      momentum: H of the (d,) int64 server momentum and, behind it, of whatever else
        the strategy remembers, as int64.
      average: H of the (d,) int64 running average of theta.
      training: H of theta as (d,) little-endian float32: what boards train from.
      inference: H of the average as (d,) little-endian float32: what boards use.
    """

    theta: Digest
    momentum: Digest
    average: Digest
    training: Digest
    inference: Digest


MODEL_DIGESTS = structure(ModelDigests, 256)


def version_digest(model: ModelDigests) -> Digest:
    """Digest of a version: coordinators attest it, and the chain makes it final."""
    return H(b"starling/version/1", MODEL_DIGESTS.pack(model))


class TaskSpec(Structure, frozen=True):
    """A task as the operator signs it.

    Attributes:
      name: For people.
      bundle: Digest of the packed training bundle.
      bundle_bytes: Its length.
      dimension: d, number of trained parameters.
      codec: A number of `protocol.learning.codec_terms.CODEC_TERMS`.
      initial: Version 0 of the model.
      training: How a board trains.
      privacy: What its data set may be charged.
      aggregation: How updates become versions.
      pledges: Sizes that a board may pledge, rising; its sum is at most so many clips
        long, and counts with that weight.
      pool: Credits to be shared out for each version.
      guard: How badly it may go; left out on the wire where it is `NO_GUARD`.
      scores: What coordinators think of updates; left out where it is `NO_SCORES`.
      selection: Who gets a lease; left out where it is `EQUAL_CHANCES`.
      rewards: How credits are shared; left out where it is `EQUAL_REWARDS`.
      end: When it is over; left out where it is `NO_END`.
      personal: What boards train for themselves; left out where it is `NO_PERSONAL`.
    """

    name: Annotated[str, text(64)]
    bundle: Digest
    bundle_bytes: Annotated[int, uint(1 << 28, 1)]
    dimension: Annotated[int, uint(DIMENSION_MAX, 1)]
    codec: Byte
    initial: ModelDigests
    training: TrainingPolicy
    privacy: PrivacyPolicy
    aggregation: AggregationPolicy
    pledges: Annotated[tuple[Annotated[int, uint(PLEDGE_MAX, 1)], ...], many(256, 1)]
    pool: Uint
    guard: GuardPolicy = NO_GUARD
    scores: ScorePolicy = NO_SCORES
    selection: SelectionPolicy = EQUAL_CHANCES
    rewards: RewardPolicy = EQUAL_REWARDS
    end: EndPolicy = NO_END
    personal: PersonalPolicy = NO_PERSONAL

    def __post_init__(self) -> None:
        """Refuses what no single field can see."""
        if list(self.pledges) != sorted(set(self.pledges)):
            raise DecodeError("pledges must rise")
        # Each update of a buffer needs a lease of its own before the version is cut.
        if self.aggregation.buffer > self.aggregation.leases:
            raise DecodeError("fewer leases than the buffer holds: it never fills")
        by_contribution = self.rewards.rule == RewardRule.CONTRIBUTION
        if by_contribution and self.scores.rule != ScoreRule.PROJECTION:
            raise DecodeError("rewards by contribution need scores by projection")

    def pledge_for(self, examples: int) -> int:
        """The largest pledge that is no larger; 0 if there is none."""
        covered = bisect_right(self.pledges, examples)
        return self.pledges[covered - 1] if covered else 0


TASK = structure(TaskSpec, TASK_BYTES_MAX, short=True)


def staleness_table(exponent: float, staleness_max: int) -> tuple[int, ...]:
    """The table of s(tau) = (1 + max(tau, 2 (tau - 2)))^-exponent, at least one unit.

    What is later than four versions counts as later than it is. Whole local optima that
    are added with weight A to versions that are tau newer leave the error
    e(t + 1) = e(t) - A e(t - tau), which for long delays overshoots by 47 % where A tau
    is 1, and by 4 % where it is 1/2.

    Returns:
      By staleness from 0 to `staleness_max`, in units of 2^-15.

    Source:
      Xie, Koyejo, Gupta, arXiv:1903.03934, section 5.2: the polynomial, whose 1 + tau
      turns into the hinge's 1 + a (tau - b) with a = b = 2.
    """
    lateness = [max(tau, 2 * (tau - 2)) for tau in range(staleness_max + 1)]
    return tuple(max(1, round(Q15 * (1 + late) ** -exponent)) for late in lateness)


def geometric_pledges(least: int = 16, ratio: float = 1.1) -> tuple[int, ...]:
    """Pledge sizes from `least` to `PLEDGE_MAX`, each about `ratio` times the last."""
    sizes = [least]
    while (following := max(sizes[-1] + 1, int(sizes[-1] * ratio))) <= PLEDGE_MAX:
        sizes.append(following)
    return tuple(sizes)

"""CA2FL: a buffer's updates, calibrated by what each board sent the time before.

    D   = sum_i w_i n_i (D_i + h - h_i) / sum_i n_i      h = mean of all h_i
    h_i = D_i                                             of the boards of the buffer

`D_i = S_i / n_i` is an update, `h_i` the last one of its board. Who is in a buffer is
chance and speed; `h - h_i` puts the mean of all boards in the place of what is usual
for this one, so that boards with other data than most do not draw the model to and fro.
With weights of 1 and boards of one size it is the paper's `h + (1/K) sum (D_i - h_i)`.
The chain does not know how many boards will come: h is the mean of those that came, and
who comes for the first time is taken as usual (`h_i = h`).

Under local noise it doubles the variance, since D_i and h_i are noised apart: a task
with privacy is refused. A cache has a fixed size; the board that was not heard longest
goes.

The memory is a row for each board, by rising id: its 16 bytes, the base of its update,
and h_i, rounded once.

Source: Wang et al., "Tackling the Data Heterogeneity in Asynchronous Federated Learning
with Cached Update Calibration", ICLR 2024, Algorithm 2.
"""

from collections import Counter
from collections.abc import Iterable

import numpy as np

from starling.coordinator.aggregation.integer_rounding import (
    divide_half_even,
    multiply_q16,
    ratio_half_even,
)
from starling.coordinator.aggregation.server_step import (
    WeightedSum,
    initial_state,
    momentum_step,
)
from starling.coordinator.aggregation.strategy import (
    Aggregator,
    ModelState,
    WeightedUpdate,
)
from starling.protocol.learning.task import Q15, Q16, AggregationPolicy
from starling.protocol.learning.vector_codecs import Grid
from starling.protocol.privacy.aggregation_terms import boards_cached

_ID_WORDS = 2
_Cache = dict[bytes, tuple[int, Grid]]
"""By board: the base of its last update, and the update over its pledge."""


def ca2fl(policy: AggregationPolicy, noise_variance: int = 0) -> Aggregator:
    """FedBuff with calibrated updates.

    |h - h_i| < 2^39 and the shares of a buffer are at most 1 together.

    Source: Wang et al., ICLR 2024, Algorithm 2.
    """
    del noise_variance

    def apply(
        state: ModelState, updates: Iterable[WeightedUpdate], version: int
    ) -> ModelState:
        del version
        cache = _unpacked(state)
        buffer = WeightedSum(state.theta.size)
        shares: Counter[bytes] = Counter()
        sent: _Cache = {}
        for update in buffer.drain(updates):
            shares[update.board] += update.weight_q15 * update.pledge
            one = update.base, divide_half_even(update.vector, update.pledge)
            sent[update.board] = max(one, sent.get(update.board, one), key=_order)
        mean = buffer.mean()
        if cache:
            total: Grid = np.zeros_like(mean)
            for _, last in cache.values():
                total += last
            usual = divide_half_even(total, len(cache))
            for board in sorted(shares.keys() & cache.keys()):
                share = ratio_half_even(Q16 * shares[board], Q15 * buffer.examples)
                mean += multiply_q16(usual - cache[board][1], share)
        memory = _packed(cache | sent, state.theta.size)
        return momentum_step(policy, state, mean, memory)

    return Aggregator(initial_state, apply)


def cache_words(dimension: int) -> int:
    """The longest memory, in integers of 8 bytes."""
    return boards_cached(dimension) * (_ID_WORDS + 1 + dimension)


def _order(one: tuple[int, Grid]) -> tuple[int, bytes]:
    # The same on machines of either byte order.
    return one[0], one[1].astype("<i8", copy=False).tobytes()


def _unpacked(state: ModelState) -> _Cache:
    rows = state.memory.reshape(-1, _ID_WORDS + 1 + state.theta.size)
    return {
        row[:_ID_WORDS].astype("<i8").tobytes(): (int(row[_ID_WORDS]), row[3:])
        for row in rows
    }


def _packed(cache: _Cache, dimension: int) -> Grid:
    """The rows that are kept: of those that were heard last."""
    latest = sorted(cache, key=lambda board: (-cache[board][0], board))
    kept = sorted(latest[: boards_cached(dimension)])
    rows = [
        np.concatenate(
            [np.frombuffer(board, "<i8"), [cache[board][0]], cache[board][1]]
        )
        for board in kept
    ]
    return np.concatenate(rows) if rows else np.zeros(0, np.int64)

"""FedBuff that goes no way twice: what the model has moved since a base is taken off.

    r_i  = x_i - theta_t                      what the model moved since board i's base
    c_i  = clip(eta <D_i, r_i> / |r_i|^2, 0, 1)
    D_i' = D_i - c_i r_i / eta
    D    = sum_i w_i n_i D_i' / sum_i n_i

`D_i = S_i / n_i` would take the model eta D_i further. The component of that along what
the model moved already is taken off, up to the whole of it: others brought what board i
brings. What is orthogonal to it or leads back stays. With several updates of one base
in one version nothing is taken off among them: they are averaged, not added.

Exact: `<S_i, r_i>` and `|r_i|^2` are integers without bound, c_i is rounded once to
2^-16, and so is the share of each base, in which all its updates are summed.

Source: the component along a vector is Gram and Schmidt's projection; the cause of what
it avoids is the delayed gradient of Agarwal and Duchi, "Distributed Delayed Stochastic
Optimization", NIPS 2011, section 3 (the error grows with what moved since the base).
"""

from collections import Counter
from collections.abc import Iterable

from starling.coordinator.aggregation.base_history import base_theta, remembered
from starling.coordinator.aggregation.integer_rounding import (
    divide_half_even,
    exact_dot,
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


def projected(policy: AggregationPolicy, noise_variance: int = 0) -> Aggregator:
    """FedBuff without what an update repeats.

    |r| < 2^39 and a share is at most 2^16 units, so that their product stays below
    2^55, and at most 64 bases, so that all that is taken off stays below 2^61.

    Source: Gram and Schmidt's projection, see the module.
    """
    del noise_variance
    rate_q16 = policy.learning_rate_q16

    def apply(
        state: ModelState, updates: Iterable[WeightedUpdate], version: int
    ) -> ModelState:
        buffer = WeightedSum(state.theta.size)
        ways: dict[int, tuple[Grid, int]] = {}
        shares: Counter[int] = Counter()
        for update in buffer.drain(updates):
            if update.base not in ways:
                way = base_theta(state, update.base) - state.theta
                ways[update.base] = way, exact_dot(way, way)
            part_q16 = _walked_q16(update, *ways[update.base], rate_q16)
            shares[update.base] += update.weight_q15 * update.pledge * part_q16
        mean = buffer.mean()
        for base in sorted(shares):
            share_q16 = ratio_half_even(shares[base], Q15 * buffer.examples)
            if share_q16:
                mean -= divide_half_even(ways[base][0] * share_q16, rate_q16)
        memory = remembered(state, version, policy.staleness_max)
        return momentum_step(policy, state, mean, memory)

    return Aggregator(initial_state, apply)


def _walked_q16(update: WeightedUpdate, way: Grid, square: int, rate_q16: int) -> int:
    """Share of a direction that an update repeats, in units of 2^-16 up to 2^16."""
    if square == 0:
        return 0
    along = exact_dot(update.vector, way)
    if along <= 0:
        return 0
    return min(Q16, ratio_half_even(rate_q16 * along, update.pledge * square))

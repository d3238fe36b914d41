"""The strategies that a task may name, by the number that stands on the wire.

Each is built from the task's integers and the known variance of the noise in one
update, in units of 2^-48, of which most need nothing.
"""

from collections.abc import Callable

from starling.coordinator.aggregation.adaptive import (
    adaptive_words,
    fedadagrad,
    fedadam,
    fedyogi,
)
from starling.coordinator.aggregation.base_allowance import allowance_words
from starling.coordinator.aggregation.base_history import history_words
from starling.coordinator.aggregation.ca2fl import ca2fl, cache_words
from starling.coordinator.aggregation.fedasync import fedasync
from starling.coordinator.aggregation.fedavg import fedavg
from starling.coordinator.aggregation.fedbuff import fedbuff
from starling.coordinator.aggregation.projection import projected
from starling.coordinator.aggregation.robust.robust_filter import memory_words, robust
from starling.coordinator.aggregation.strategy import Aggregator
from starling.protocol.learning.task import AggregationPolicy, PrivacyPolicy, Strategy
from starling.protocol.privacy.aggregation_terms import ADAPTIVE, update_variance
from starling.protocol.privacy.mechanisms import UNNOISED

AggregationRule = Callable[[AggregationPolicy, int], Aggregator]
"""Builds a strategy from the task's integers and the known variance of the noise."""

AGGREGATORS: dict[int, AggregationRule] = {
    Strategy.FEDBUFF: fedbuff,
    Strategy.PROJECTED: projected,
    Strategy.FEDASYNC: fedasync,
    Strategy.FEDAVG: fedavg,
    Strategy.CA2FL: ca2fl,
    Strategy.FEDADAM: fedadam,
    Strategy.FEDYOGI: fedyogi,
    Strategy.FEDADAGRAD: fedadagrad,
}


def aggregator_of(
    policy: AggregationPolicy,
    privacy: PrivacyPolicy,
    codec: int,
    own: AggregationRule | None = None,
) -> Aggregator:
    """The strategy of a task, with its robust filter.

    Args:
      policy: Of the task.
      privacy: Of the task.
      codec: Of the task.
      own: A simulation's own rule, in place of the one that the task names.
    """
    rule = AGGREGATORS[policy.strategy] if own is None else own
    strategy = rule(policy, update_variance(privacy, codec))
    return robust(strategy, policy.robust, noised=privacy.mechanism not in UNNOISED)


def memory_words_max(policy: AggregationPolicy, dimension: int) -> int:
    """The longest memory of a task's strategy and filter, in integers of 8 bytes."""
    words = memory_words(policy.robust, noised=False)
    if policy.strategy == Strategy.FEDBUFF:
        words += allowance_words(policy.staleness_max)
    if policy.strategy in (Strategy.PROJECTED, Strategy.FEDASYNC):
        words += history_words(dimension, policy.staleness_max)
    if policy.strategy == Strategy.CA2FL:
        words += cache_words(dimension)
    if policy.strategy in ADAPTIVE:
        words += adaptive_words(dimension)
    return words

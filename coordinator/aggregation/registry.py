"""The strategies that a task may name, by the number that stands on the wire."""

from collections.abc import Callable

from coordinator.aggregation.fedbuff import fedbuff
from coordinator.aggregation.strategy import Aggregator
from protocol.task import AggregationPolicy, Strategy

AGGREGATORS: dict[int, Callable[[AggregationPolicy], Aggregator]] = {
    Strategy.FEDBUFF: fedbuff,
}

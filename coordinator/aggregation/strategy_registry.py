"""The strategies that a task may name, by the number that stands on the wire."""

from collections.abc import Callable

from starling.coordinator.aggregation.fedbuff import fedbuff
from starling.coordinator.aggregation.strategy import Aggregator
from starling.protocol.learning.task import AggregationPolicy, Strategy

AGGREGATORS: dict[int, Callable[[AggregationPolicy], Aggregator]] = {
    Strategy.FEDBUFF: fedbuff,
}

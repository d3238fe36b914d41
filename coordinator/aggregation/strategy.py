"""Interface of an aggregation strategy.

`d` is the number of parameters. All vectors are (d,) int64 in units of 2^-24. A
strategy is a pair of pure functions, built from the task's integers; it sees updates
in any order and must return the same bytes for each order.

Source: the shape of `init` and `apply` follows fedjax's aggregators.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from starling.protocol.ids import H
from starling.protocol.learning.task import ModelDigests
from starling.protocol.learning.vector_codecs import Grid, from_grid


@dataclass(frozen=True)
class ModelState:
    """One version of the model as coordinators hold it.

    Attributes:
      theta: (d,) int64 parameters.
      momentum: (d,) int64 server momentum.
      average: (d,) int64 running average of theta.
    """

    theta: Grid
    momentum: Grid
    average: Grid


@dataclass(frozen=True)
class WeightedUpdate:
    """One decoded update.

    Attributes:
      vector: (d,) int64, magnitudes below 2^38: a gradient sum over `pledge` examples.
      weight_q15: Weight by staleness in units of 2^-15, at most 2^15.
      pledge: Pledged number of examples, at least 1.
    """

    vector: Grid
    weight_q15: int
    pledge: int


@dataclass(frozen=True)
class Aggregator:
    """A strategy.

    Attributes:
      init: From version 0's theta to its state.
      apply: From a version's state and a buffer of updates to the next state. Raises
        `AggregationError` if there is no update.
    """

    init: Callable[[Grid], ModelState]
    apply: Callable[[ModelState, Iterable[WeightedUpdate]], ModelState]


@dataclass(frozen=True)
class PackedModel:
    """One version as bytes, in the order of `ModelDigests`."""

    theta: bytes
    momentum: bytes
    average: bytes
    training: bytes
    inference: bytes

    def parts(self) -> tuple[bytes, ...]:
        """All five, for a store that is addressed by content."""
        return (
            self.theta,
            self.momentum,
            self.average,
            self.training,
            self.inference,
        )

    def digests(self) -> ModelDigests:
        """Digests that coordinators attest."""
        return ModelDigests(*[H(part) for part in self.parts()])


def pack_model(state: ModelState) -> PackedModel:
    """A state as bytes: int64 and float32, both little-endian."""
    return PackedModel(
        state.theta.astype("<i8").tobytes(),
        state.momentum.astype("<i8").tobytes(),
        state.average.astype("<i8").tobytes(),
        from_grid(state.theta).astype("<f4").tobytes(),
        from_grid(state.average).astype("<f4").tobytes(),
    )


def unpack_grid(content: bytes) -> Grid:
    """Reads (d,) little-endian int64 from the store's own bytes."""
    return np.frombuffer(content, "<i8").astype(np.int64)

"""Interface of an aggregation strategy.

`d` is the number of parameters. All vectors are (d,) int64 in units of 2^-24. A
strategy is a pair of pure functions, built from the task's integers; it sees updates
in any order and must return the same bytes for each order.

Source: the shape of `init` and `apply` follows fedjax's aggregators.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from starling.protocol.errors import AggregationError
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
      memory: (m,) int64, whatever else the strategy remembers; only it knows the
        layout. It travels and is attested behind the momentum.
    """

    theta: Grid
    momentum: Grid
    average: Grid
    memory: Grid = field(default_factory=lambda: np.zeros(0, np.int64))


@dataclass(frozen=True)
class WeightedUpdate:
    """One decoded update.

    Attributes:
      vector: (d,) int64, magnitudes below 2^38: a gradient sum over `pledge` examples.
      weight_q15: Weight by staleness in units of 2^-15, at most 2^15.
      pledge: Pledged number of examples, at least 1.
      base: Version that it was computed from.
      board: Id of who sent it, 16 bytes.
    """

    vector: Grid
    weight_q15: int
    pledge: int
    base: int = 0
    board: bytes = bytes(16)


@dataclass(frozen=True)
class Aggregator:
    """A strategy.

    Attributes:
      init: From version 0's theta to its state.
      apply: From a version's state and a buffer of updates to the state of the version
        that the number names. Raises `AggregationError` if there is no update.
    """

    init: Callable[[Grid], ModelState]
    apply: Callable[[ModelState, Iterable[WeightedUpdate], int], ModelState]


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
        state.momentum.astype("<i8").tobytes() + state.memory.astype("<i8").tobytes(),
        state.average.astype("<i8").tobytes(),
        from_grid(state.theta).astype("<f4").tobytes(),
        from_grid(state.average).astype("<f4").tobytes(),
    )


def unpack_model(theta: bytes, momentum: bytes, average: bytes) -> ModelState:
    """A state from the store's own bytes; the inverse of `pack_model`.

    Raises:
      AggregationError: If a part is cut within an integer.
    """
    if any(len(part) % 8 for part in (theta, momentum, average)):
        raise AggregationError("a part of the model is no array of int64")
    parameters, kept = unpack_grid(theta), unpack_grid(momentum)
    d = parameters.size
    return ModelState(parameters, kept[:d], unpack_grid(average), kept[d:])


def unpack_grid(content: bytes) -> Grid:
    """Reads (d,) little-endian int64 from the store's own bytes."""
    return np.frombuffer(content, "<i8").astype(np.int64)

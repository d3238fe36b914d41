"""Gradients that a hostile publisher may send, and what a board releases of them.

Everything goes through `train`, as on a board, with one stream of random bytes for both
data sets: their noise is then the same, and the difference of two updates is exactly
that of their sums.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from starling.agent.training.local_training import train
from starling.agent.training.trainer_messages import TrainingOrder
from starling.agent.training.training_inputs import Real, Trainer, TrainingInputs
from starling.compiler import compile_model
from starling.protocol.errors import EngineError
from starling.protocol.ids import H, TaskId, Version
from starling.protocol.learning.task import (
    MICRO,
    Q24,
    PrivacyPolicy,
    TrainingMode,
    TrainingPolicy,
)
from starling.protocol.model.training_bundle import (
    MANIFEST,
    BundleManifest,
    manifest_from_json,
)
from starling.protocol.privacy.clipping_functions import NORM
from starling.protocol.privacy.mechanisms import RECORD_DPSGD
from starling.protocol.privacy.noise_grid import noise_grid
from tests.unit.agent.goodness_of_fit import stream
from tests.unit.compiler.small_models import mlp

EXACT = 250
"""A codec of these tests alone: the integers themselves; see `exact_codec`."""
CLIP_Q24 = Q24 // 10
SIGMA = MICRO
FEATURES = 8
Records = tuple[NDArray[Any], NDArray[Any]]
Function = Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]


@dataclass
class Hostile:
    """A bundle whose gradient is any function of one record at all."""

    function: Function
    manifest: BundleManifest
    theta: Real

    def gradient_sum(
        self, theta: Real, x: NDArray[Any], y: NDArray[Any]
    ) -> tuple[Real, Real]:
        del theta
        assert len(x) == len(y) == 1
        assert x.ctypes.data % 64 == 0
        return self.function(x[0], y[0]), np.zeros(1, np.float32)

    def private_gradient_sum(
        self, theta: Real, x: NDArray[Any], y: NDArray[Any], clip: float
    ) -> tuple[Real, Real]:
        raise AssertionError("nobody trusts this bundle")

    def evaluate(
        self, theta: Real, x: NDArray[Any], y: NDArray[Any]
    ) -> tuple[Real, NDArray[Any]]:
        raise AssertionError(theta, x, y)

    def infer(self, theta: Real, x: NDArray[Any]) -> NDArray[Any]:
        raise AssertionError(theta, x)


FILES = dict(compile_model(mlp(), loss="cross-entropy").files)
MLP = manifest_from_json(FILES[MANIFEST])
D = MLP.dimension
GRID = noise_grid(CLIP_Q24, SIGMA, D)
STEP = 2.0**GRID.exponent


def raw(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    """The record itself, as often as it fits and as large as float32 goes."""
    found: NDArray[Any] = np.resize(np.append(x, y), D).astype(np.float32)
    found *= np.float32(1e36)
    return found


def tiny(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    """Numbers whose squares vanish in float32."""
    del y
    return np.full(D, 1e-30 if x[0] > 0 else -1e-30, np.float32)


def smallest(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    """Numbers that are not even normal, one large one among them."""
    del y
    found = np.full(D, np.float32(1e-44))
    found[0] = x[0] * np.float32(1e38)
    return found


def aligned_with_all(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    """The same for every record: sums as long as they can be."""
    del x, y
    return np.ones(D, np.float32)


def picky(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    """Nothing but for one kind of record, which it gives in full."""
    return raw(x, y) if x[0] > 0.5 else np.zeros(D, np.float32)


def not_a_number(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    """NaN or infinity for some records."""
    found = raw(x, y)
    found[D // 2] = [np.nan, np.inf, -np.inf, 1.0][int(y) % 4]
    return found


def failing(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    """Cannot be run on some records, one way or another."""
    if x[1] > 0:
        raise [EngineError("x is 3.7"), MemoryError(), ValueError(), OSError()][y % 4]
    return raw(x, y)


def misshapen(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    """Vectors of another length or kind for some records."""
    del x
    sizes: list[NDArray[Any]] = [
        np.full(D + 1, 1e9),
        np.full(1, 1e9),
        np.full(D, 1e200),
        np.full((D, 1), 1.0),
    ]
    return sizes[int(y) % 4]


def between_steps(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    """Exactly half a step beside the grid, where rounding could go either way."""
    del x
    return np.full(D, (2 * int(y) + 1) * STEP / 2, np.float32)


def opposed(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    """Huge, and one record against all others."""
    del y
    return np.full(D, np.float32(3e38) * (1 if x[0] > 1.2 else -1), np.float32)


HOSTILE: list[Function] = [
    raw,
    tiny,
    smallest,
    aligned_with_all,
    picky,
    not_a_number,
    failing,
    misshapen,
    between_steps,
    opposed,
]


def records(count: int, seed: int = 0) -> Records:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, FEATURES)).astype(np.float32)
    return x, rng.integers(0, 3, count)


def without(data: Records, index: int) -> Records:
    return np.delete(data[0], index, 0), np.delete(data[1], index, 0)


def order(
    mechanism: int, dimension: int, pledge: int, clip_q24: int = CLIP_Q24
) -> TrainingOrder:
    by_steps = mechanism == RECORD_DPSGD
    mode = TrainingMode.LOCAL if by_steps else TrainingMode.GRADIENT
    privacy = PrivacyPolicy(mechanism, clip_q24, SIGMA, 8 * MICRO, 10**7, 15)
    return TrainingOrder(
        TaskId(0),
        Version(0),
        H(b"bundle"),
        H(b"theta"),
        dimension,
        EXACT,
        pledge,
        TrainingPolicy(mode, 1, 1, Q24),
        privacy,
        1,
    )


def released(
    trainer: Trainer, data: Records, wanted: TrainingOrder, *, trusted: bool = False
) -> NDArray[np.int64]:
    """What a board would encode, with noise of a known stream."""
    work = TrainingInputs(trainer.theta, *data, wanted, 16, trusted)
    payload = train(trainer, work, stream(5), np.random.default_rng(1))
    return np.frombuffer(payload, "<i8")


def length(vector: NDArray[np.int64]) -> float:
    return math.sqrt(sum(int(value) ** 2 for value in vector))


def hostile(function: Function, clipping: str = NORM) -> Hostile:
    theta = np.zeros(D, np.float32)
    return Hostile(function, replace(MLP, clipping=clipping), theta)


def pictures() -> Records:
    """Forty records for a small CNN: x (40, 1, 28, 28) and y (40,)."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(40, 1, 28, 28)).astype(np.float32)
    return x, rng.integers(0, 10, 40)

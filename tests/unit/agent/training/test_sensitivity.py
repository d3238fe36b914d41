"""One record moves what is released by no more than is charged, whatever a graph does.

Graphs are what a publisher may send: any function of one record.
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from starling.agent.training.local_training import train
from starling.agent.training.training_inputs import TrainingInputs
from starling.protocol.learning.task import MICRO, Q24
from starling.protocol.learning.vector_codecs import (
    CODECS,
    Draw,
    GridVector,
    VectorCodec,
)
from starling.protocol.privacy.clipping_functions import CLIPPINGS
from starling.protocol.privacy.mechanisms import RECORD_DPSGD, RECORD_GAUSSIAN
from tests.unit.agent.goodness_of_fit import stream
from tests.unit.agent.training.hostile_gradients import (
    CLIP_Q24,
    GRID,
    HOSTILE,
    STEP,
    D,
    Function,
    aligned_with_all,
    hostile,
    length,
    opposed,
    order,
    raw,
    records,
    released,
    without,
)

pytestmark = pytest.mark.usefixtures("exact_codec")


@pytest.mark.parametrize("codec", CODECS)
def test_codec_is_given_the_noised_vector_and_nothing_else(
    codec: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So rounding is post-processing, and all codecs cost the same epsilon.
    seen, known = [], CODECS[codec]

    def encode(vector: GridVector, draw: Draw) -> bytes:
        seen.append(vector.values.tolist())
        return known.encode(vector, draw)

    monkeypatch.setitem(CODECS, codec, VectorCodec(encode, known.decode))
    trainer, wanted = hostile(raw), order(RECORD_GAUSSIAN, D, 25)
    noised = released(trainer, records(25), wanted).tolist()

    work = TrainingInputs(trainer.theta, *records(25), replace(wanted, codec=codec), 16)
    for _ in range(2):
        train(trainer, work, stream(5), np.random.default_rng(1))

    assert seen == [noised, noised]


@pytest.mark.parametrize("function", HOSTILE, ids=lambda item: item.__name__)
@pytest.mark.parametrize("clipping", CLIPPINGS)
@pytest.mark.parametrize("pledge", [1, 7, 25, 1000])
def test_record_that_goes_moves_the_update_by_no_more_than_charged(
    function: Function, clipping: str, pledge: int
) -> None:
    data = records(25)
    trainer, wanted = hostile(function, clipping), order(RECORD_GAUSSIAN, D, pledge)

    with np.errstate(all="ignore"):
        whole = released(trainer, data, wanted)
        moved = [
            length(whole - released(trainer, without(data, index), wanted))
            for index in range(25)
        ]

    assert max(moved) <= GRID.sensitivity


@pytest.mark.parametrize("function", HOSTILE, ids=lambda item: item.__name__)
def test_update_is_a_function_of_the_multiset_of_records(function: Function) -> None:
    data = records(25)
    trainer, wanted = hostile(function), order(RECORD_GAUSSIAN, D, 1000)

    with np.errstate(all="ignore"):
        whole = released(trainer, data, wanted)
        for seed in range(5):
            turned = np.random.default_rng(seed).permutation(25)
            other = released(trainer, (data[0][turned], data[1][turned]), wanted)
            np.testing.assert_array_equal(other, whole)


@pytest.mark.parametrize("function", HOSTILE, ids=lambda item: item.__name__)
@pytest.mark.parametrize("place", [0, 12, 25])
def test_record_that_comes_twice_adds_what_it_added_before(
    function: Function, place: int
) -> None:
    x, y = records(25)
    doubled = np.insert(x, place, x[3], axis=0), np.insert(y, place, y[3])
    trainer, wanted = hostile(function), order(RECORD_GAUSSIAN, D, 1000)

    with np.errstate(all="ignore"):
        whole = released(trainer, (x, y), wanted)
        second = released(trainer, doubled, wanted) - whole
        first = whole - released(trainer, without((x, y), 3), wanted)

    np.testing.assert_array_equal(second, first)


@pytest.mark.parametrize("clipping", CLIPPINGS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
def test_record_without_a_finite_gradient_adds_nothing(
    value: float, clipping: str
) -> None:
    def spoiled(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
        found = raw(x, y)
        if x[0] > 100.0:
            found[3] = value
        return found

    x, y = records(25)
    x[7, 0] = 101.0
    trainer, wanted = hostile(spoiled, clipping), order(RECORD_GAUSSIAN, D, 1000)

    whole = released(trainer, (x, y), wanted)

    np.testing.assert_array_equal(whole, released(trainer, without((x, y), 7), wanted))


def test_bound_is_met_by_a_record_that_is_as_long_as_it_can_be() -> None:
    data = records(25)
    trainer, wanted = hostile(opposed), order(RECORD_GAUSSIAN, D, 1000)

    whole = released(trainer, data, wanted)
    moved = length(whole - released(trainer, without(data, 3), wanted))

    assert 0.9999 * GRID.sensitivity < moved <= GRID.sensitivity


@pytest.mark.parametrize("pledge", [1, 3, 24, 25, 26])
def test_sum_of_more_records_than_were_pledged_is_as_long_as_the_pledge(
    pledge: int,
) -> None:
    trainer, wanted = hostile(aligned_with_all), order(RECORD_GAUSSIAN, D, pledge)

    sums = [
        released(trainer, records(count), wanted)
        - released(trainer, records(0), wanted)
        for count in (24, 25)
    ]

    clips = [length(found) * STEP / (CLIP_Q24 / Q24) for found in sums]
    assert clips[0] == pytest.approx(min(24, pledge), rel=1e-5)
    assert clips[1] == pytest.approx(min(25, pledge), rel=1e-5)


@pytest.mark.parametrize("function", HOSTILE, ids=lambda item: item.__name__)
@pytest.mark.parametrize("sampling", [MICRO // 3, MICRO])
def test_record_moves_a_sampled_step_by_no_more_than_charged(
    function: Function, sampling: int
) -> None:
    # The last record: all others keep their random bits, and the noise its own.
    data = records(40)
    wanted = order(RECORD_DPSGD, D, 30)
    privacy = replace(wanted.privacy, sampling_micro=sampling, charge=1)
    wanted = replace(wanted, privacy=privacy)
    trainer = hostile(function)

    with np.errstate(all="ignore"):
        moved = released(trainer, data, wanted) - released(
            trainer, without(data, 39), wanted
        )

    # The way is the noised sum over the expected number, on the wire's grid.
    steps = length(moved) * 2.0**-24 * sampling / MICRO / STEP
    rounding = math.sqrt(D) * 2.0**-24 / STEP
    assert steps <= GRID.sensitivity + rounding

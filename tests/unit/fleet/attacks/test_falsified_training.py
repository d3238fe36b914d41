"""An attacker's update is well-formed, within the bound, and what the attack says."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from starling.agent import open_trainer
from starling.agent.training.local_training import train
from starling.agent.training.trainer_messages import TrainingOrder
from starling.agent.training.training_inputs import TrainingInputs
from starling.fleet.attacks.attack_schedule import (
    COLLUDING,
    AttackKind,
    BoardAttack,
)
from starling.fleet.attacks.falsified_training import STRETCH, collusion, falsified
from starling.fleet.attacks.update_attacks import DISGUISE
from starling.protocol.learning.task import Q24, TrainingMode
from starling.protocol.learning.vector_codecs import CODECS, GridVector
from starling.protocol.privacy.mechanisms import (
    NONE,
    RECORD_GAUSSIAN,
    update_radius,
)
from tests.contract.trainer.test_engines import PACKED, X, Y, order

TRAINER = open_trainer(PACKED)
PLAIN = order(TrainingMode.GRADIENT, NONE)
NOISED = order(TrainingMode.GRADIENT, RECORD_GAUSSIAN)
SOLO = [kind for kind in AttackKind if kind not in COLLUDING]
TOGETHER = sorted(COLLUDING, key=lambda kind: kind.value)


def attack(kind: AttackKind, amount: float = 1.0) -> BoardAttack:
    return BoardAttack(1, 1, kind, amount)


def inputs(asked: TrainingOrder) -> TrainingInputs:
    return TrainingInputs(TRAINER.theta, X, Y, asked, 8)


def vector(payload: bytes, asked: TrainingOrder) -> NDArray[np.float64]:
    return CODECS[asked.codec].decode(payload, asked.dimension) / Q24


def sent(kind: AttackKind, asked: TrainingOrder, seed: int = 1) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    made = falsified(attack(kind), TRAINER, inputs(asked), rng.bytes, rng)
    return vector(made, asked)


def honest(asked: TrainingOrder, seed: int = 1) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return vector(train(TRAINER, inputs(asked), rng.bytes, rng), asked)


def cosine(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


@pytest.mark.parametrize("kind", SOLO)
@pytest.mark.parametrize("codec", CODECS)
def test_falsified_noised_update_is_within_the_bound(
    kind: AttackKind, codec: int
) -> None:
    asked = replace(NOISED, codec=codec)
    radius = update_radius(
        asked.privacy, asked.training, asked.dimension, asked.pledge, codec
    )
    assert np.linalg.norm(sent(kind, asked)) <= radius / Q24


def test_falsified_signs_are_the_opposite_of_the_honest_update() -> None:
    assert cosine(sent(AttackKind.FLIP_SIGNS, PLAIN), honest(PLAIN)) < -0.999


def test_falsified_to_the_bound_goes_uphill_as_far_as_it_may() -> None:
    uphill, own = sent(AttackKind.REACH_BOUND, PLAIN), honest(PLAIN)
    assert cosine(uphill, own) < -0.999
    length = np.linalg.norm(uphill) / np.linalg.norm(own)
    assert length == pytest.approx(STRETCH, rel=0.01)


def test_falsified_to_the_bound_has_no_noise() -> None:
    assert cosine(sent(AttackKind.REACH_BOUND, NOISED), honest(PLAIN)) < -0.99


def test_falsified_without_noise_is_the_true_sum() -> None:
    assert cosine(sent(AttackKind.NO_NOISE, NOISED), honest(PLAIN)) > 0.99


def test_falsified_labels_change_the_update() -> None:
    assert cosine(sent(AttackKind.FLIP_LABELS, PLAIN), honest(PLAIN)) < 0.9


def test_falsified_free_ride_is_noise_alone() -> None:
    idle = sent(AttackKind.RIDE_FREE, PLAIN) / PLAIN.pledge
    assert np.abs(idle).max() < 6 * DISGUISE
    assert idle.any()


def test_falsified_free_ride_under_noise_does_not_depend_on_data() -> None:
    rng = np.random.default_rng(3)
    other = TrainingInputs(TRAINER.theta, 5 * X[:7], Y[:7], NOISED, 8)
    made = falsified(attack(AttackKind.RIDE_FREE), TRAINER, other, rng.bytes, rng)
    same = sent(AttackKind.RIDE_FREE, NOISED, seed=3)
    assert vector(made, NOISED).tolist() == same.tolist()


def test_falsified_backdoor_is_stretched_and_not_the_honest_way() -> None:
    planted = sent(AttackKind.BACKDOOR, PLAIN)
    assert cosine(planted, honest(PLAIN)) < 0.9


@pytest.mark.parametrize("kind", TOGETHER)
def test_falsified_leaves_colluders_their_honest_update(kind: AttackKind) -> None:
    assert sent(kind, PLAIN).tolist() == honest(PLAIN).tolist()


def encoded(values: list[float], asked: TrainingOrder) -> bytes:
    row = np.resize(np.array(values), asked.dimension) * asked.pledge * Q24
    rng = np.random.default_rng(1)
    return CODECS[asked.codec].encode(
        GridVector(np.rint(row).astype(np.int64), -24), rng.bytes
    )


@pytest.mark.parametrize(
    ("kind", "amount", "expected"),
    [
        (AttackKind.INNER_PRODUCT, 0.5, [-1.0, -0.5]),
        (AttackKind.LITTLE, 1.0, [1.0, 1.0]),
        (AttackKind.MIMIC, 0.0, [1.0, 1.0]),
    ],
)
def test_collusion_is_made_of_what_others_send(
    kind: AttackKind, amount: float, expected: list[float]
) -> None:
    known = [(encoded([1.0, 1.0], PLAIN), PLAIN), (encoded([3.0, 1.0], PLAIN), PLAIN)]
    rng = np.random.default_rng(1)
    own = encoded([2.0, 2.0], PLAIN)
    made = collusion(attack(kind, amount), PLAIN, own, known, rng.bytes)
    found = vector(made, PLAIN) / PLAIN.pledge
    assert found[:2] == pytest.approx(expected, abs=0.05)


def test_collusion_alone_takes_its_own_update_for_the_others() -> None:
    own = encoded([2.0, 2.0], PLAIN)
    rng = np.random.default_rng(1)
    made = collusion(attack(AttackKind.MIMIC), PLAIN, own, [], rng.bytes)
    assert vector(made, PLAIN) / PLAIN.pledge == pytest.approx(2.0, abs=0.05)


def test_collusion_is_shortened_to_what_passes() -> None:
    own = encoded([0.1, 0.1], PLAIN)
    known = [(encoded([4.0, 4.0], PLAIN), PLAIN)]
    rng = np.random.default_rng(1)
    made = collusion(attack(AttackKind.MIMIC), PLAIN, own, known, rng.bytes)
    assert vector(made, PLAIN) / PLAIN.pledge == pytest.approx(0.1 * STRETCH, rel=0.05)

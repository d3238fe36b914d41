"""Parameters that stay on the board: trained, kept, and in no upload."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from starling.agent import open_trainer
from starling.agent.trainer.personal_layers_file import head_bytes, with_head
from starling.agent.training.local_training import train
from starling.agent.training.trainer_messages import TrainingOrder
from starling.agent.training.training_inputs import TrainingInputs
from starling.compiler import compile_model
from starling.protocol.errors import ConfigError, DecodeError, FederationError
from starling.protocol.learning.codec_terms import CODEC_TERMS
from starling.protocol.learning.task import Q24, TrainingMode
from starling.protocol.learning.vector_codecs import CODECS
from starling.protocol.model.parameter_layout import local_slices
from starling.protocol.model.training_bundle import manifest_from_json, pack_bundle
from starling.protocol.privacy.mechanisms import (
    DEVICE_GAUSSIAN,
    DEVICE_LAPLACE,
    NONE,
    RECORD_DPSGD,
    RECORD_GAUSSIAN,
)
from tests.contract.trainer.test_engines import CLASSES, FEATURES, X, Y, order
from tests.unit.compiler.small_models import build, node, weight

HIDDEN = 4
_RNG = np.random.default_rng(3)
_MODEL = build(
    [
        node("Gemm", ["x", "body.w", "body.b"], ["h"]),
        node("Tanh", ["h"], ["t"]),
        node("Gemm", ["t", "head.w", "head.b"], ["out"]),
    ],
    {
        "body.w": weight(_RNG, FEATURES, HIDDEN),
        "body.b": np.zeros(HIDDEN, np.float32),
        "head.w": weight(_RNG, HIDDEN, CLASSES),
        "head.b": np.zeros(CLASSES, np.float32),
    },
    (FEATURES,),
    (CLASSES,),
)
LOCAL_PACKED = pack_bundle(
    dict(compile_model(_MODEL, loss="cross-entropy", local=["head.*"]).files)
)
TRAINER = open_trainer(LOCAL_PACKED)
PLACES = local_slices(TRAINER.manifest.parameters)
IS_LOCAL = np.zeros(TRAINER.theta.size, np.bool_)
for place in PLACES:
    IS_LOCAL[place] = True

UNROTATED = [number for number, terms in CODEC_TERMS.items() if not terms.rotated]
"""`publish` refuses the others where anything is local."""
CASES = [
    (TrainingMode.GRADIENT, NONE),
    (TrainingMode.LOCAL, NONE),
    (TrainingMode.GRADIENT, RECORD_GAUSSIAN),
    (TrainingMode.LOCAL, RECORD_DPSGD),
    (TrainingMode.GRADIENT, DEVICE_GAUSSIAN),
    (TrainingMode.LOCAL, DEVICE_LAPLACE),
]


def wanted(mode: TrainingMode, mechanism: int, codec: int) -> TrainingOrder:
    found = order(mode, mechanism, codec)
    return replace(found, dimension=TRAINER.theta.size)


def trained(
    wish: TrainingOrder, theta: NDArray[np.float32]
) -> tuple[bytes, NDArray[np.float32]]:
    """The payload, and the board's own parameters after it."""
    kept: list[NDArray[np.float32]] = []
    random = np.random.default_rng(11)
    draw, rng = random.bytes, np.random.default_rng(1)
    work = TrainingInputs(theta, X[:32], Y[:32], wish, 8)
    payload = train(TRAINER, work, draw, rng, kept.append)
    (own,) = kept
    return payload, own


def test_compiled_head_is_local_and_the_body_is_not() -> None:
    assert IS_LOCAL.sum() == HIDDEN * CLASSES + CLASSES
    names = [item.name for item in TRAINER.manifest.parameters if item.local]
    assert names == ["head.w", "head.b"]
    text = TRAINER.manifest.to_json()
    assert manifest_from_json(text) == TRAINER.manifest


@pytest.mark.parametrize(
    ("pattern", "error", "said"),
    [
        ("tail.*", ConfigError, "--local: 'tail.*' matches none"),
        ("*", DecodeError, "all of them are local"),
    ],
)
def test_pattern_that_leaves_nothing_is_refused(
    pattern: str, error: type[FederationError], said: str
) -> None:
    with pytest.raises(error) as caught:
        compile_model(_MODEL, loss="cross-entropy", local=[pattern])

    assert said in str(caught.value)


@pytest.mark.parametrize(("mode", "mechanism"), CASES)
@pytest.mark.parametrize("codec", UNROTATED)
def test_upload_holds_nothing_of_the_local_parameters(
    mode: TrainingMode, mechanism: int, codec: int
) -> None:
    wish = wanted(mode, mechanism, codec)
    payload, own = trained(wish, TRAINER.theta)

    sent = CODECS[codec].decode(payload, wish.dimension)
    assert not sent[IS_LOCAL].any()
    assert sent[~IS_LOCAL].any()
    assert not np.array_equal(own, TRAINER.theta[IS_LOCAL])
    change = (own - TRAINER.theta[IS_LOCAL]).astype("<f4")
    for secret in (own.astype("<f4"), change):
        assert all(value.tobytes() not in payload for value in secret if value)


@pytest.mark.parametrize("mode", [TrainingMode.GRADIENT, TrainingMode.LOCAL])
def test_upload_is_the_same_whatever_the_head_did(mode: TrainingMode) -> None:
    wish = wanted(mode, NONE, 0)
    shared = replace(wish.training, epochs=1, batch=32)
    wish = replace(wish, training=shared)

    payload, _ = trained(wish, TRAINER.theta)

    # The body's part is that of a training in which nothing is local.
    exact, _ = TRAINER.gradient_sum(TRAINER.theta, X[:32], Y[:32])
    rate = 0.1 if mode == TrainingMode.LOCAL else 1.0
    found = CODECS[0].decode(payload, wish.dimension) / Q24
    np.testing.assert_allclose(
        found[~IS_LOCAL], rate * exact[~IS_LOCAL], rtol=1e-3, atol=1e-4
    )


def test_head_moves_by_the_mean_gradient_times_the_rate() -> None:
    wish = wanted(TrainingMode.GRADIENT, NONE, 0)

    _, own = trained(wish, TRAINER.theta)

    exact, _ = TRAINER.gradient_sum(TRAINER.theta, X[:32], Y[:32])
    expected = TRAINER.theta[IS_LOCAL] - 0.1 * exact[IS_LOCAL] / 32
    np.testing.assert_allclose(own, expected, rtol=1e-4, atol=1e-6)


def test_head_moves_by_what_was_noised_and_not_by_the_exact_gradient() -> None:
    wish = wanted(TrainingMode.GRADIENT, RECORD_GAUSSIAN, 0)
    clip = wish.privacy.clip_q24 / Q24

    _, own = trained(wish, TRAINER.theta)

    exact, _ = TRAINER.private_gradient_sum(TRAINER.theta, X[:32], Y[:32], clip)
    step = (TRAINER.theta[IS_LOCAL] - own) * 32 / 0.1
    noise = step - exact[IS_LOCAL]
    # Of 15 draws of deviation 4; the odds of a spread outside are below 10^-6.
    assert 1.0 < noise.std() < 10.0


def heads(own: Sequence[float]) -> NDArray[np.float32]:
    return np.array(own, np.float32)


def test_kept_head_takes_the_place_of_the_fleets(tmp_path: Path) -> None:
    own = np.arange(IS_LOCAL.sum()).astype(np.float32)
    (tmp_path / "a.head").write_bytes(head_bytes(own))

    theta = with_head(tmp_path / "a.head", TRAINER.theta, TRAINER.manifest)

    np.testing.assert_array_equal(theta[IS_LOCAL], own)
    np.testing.assert_array_equal(theta[~IS_LOCAL], TRAINER.theta[~IS_LOCAL])


@pytest.mark.parametrize(
    "content",
    [None, b"", b"abc", bytes(4), bytes(4000), heads([np.nan] * 15).tobytes()],
    ids=["missing", "empty", "torn", "short", "long", "not finite"],
)
def test_head_that_does_not_fit_counts_as_none(
    tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "a.head"
    if content is not None:
        file.write_bytes(content)

    theta = with_head(file, TRAINER.theta, TRAINER.manifest)

    np.testing.assert_array_equal(theta, TRAINER.theta)

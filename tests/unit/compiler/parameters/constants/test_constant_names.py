"""Names by which a tensor is known to be no weight."""

import numpy as np
import pytest
from numpy.typing import NDArray

from starling.compiler.parameters import constant_tensors


@pytest.mark.parametrize(
    ("name", "value", "is_constant"),
    [
        ("0.weight_u", np.zeros(5, np.float32), True),
        ("0.parametrizations.weight.0._v", np.zeros(5, np.float32), True),
        ("0.weight_v", np.zeros((5, 4), np.float32), False),
        ("encoder.pe", np.zeros((5, 4), np.float32), True),
        ("bn.running_var", np.ones(5, np.float32), True),
        ("fc.weight_mask", np.ones((5, 4), np.float32), True),
        ("data_mean", np.zeros(5, np.float32), True),
        ("policy.log_std", np.zeros(5, np.float32), False),
        ("scale", np.array(0.5, np.float32), False),
        ("onnx::Mul_34", np.array(0.5, np.float32), True),
    ],
)
def test_names_that_a_module_gives_tell(
    name: str, value: NDArray[np.float32], *, is_constant: bool
) -> None:
    assert bool(constant_tensors.by_name(name, value, named=True)) == is_constant


@pytest.mark.parametrize(
    "name",
    [
        "norm.ema_mean",
        "stats/avg_var:0",
        "bn.population_mean",
        "layer.mean_ema",
        "codebook.ema_w",
        "codebook.cluster_size",
        "momentum_buffer",
        "fc.weight_momentum_buffer",
        "opt.exp_avg",
        "opt.exp_avg_sq",
        "bn.num_batches_tracked",
        "observer.min_val",
        "wn.moving_avg",
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_average_that_a_program_keeps_is_a_constant(name: str, *, named: bool) -> None:
    value = np.array([0.4, 1.7, 0.9], np.float32)

    reason = constant_tensors.by_name(name, value, named=named)

    assert reason in ("a moving average", "named like a buffer")


@pytest.mark.parametrize(
    "name",
    ["fc.weight", "head.bias", "emanation", "maximum.weight", "attn.scale", "log_var"],
)
def test_weight_with_a_name_like_an_average_stays_a_weight(name: str) -> None:
    value = np.array([0.4, 1.7, 0.9], np.float32)

    assert constant_tensors.by_name(name, value, named=True) == ""

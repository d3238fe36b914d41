"""Large constants stand once in a bundle, and every reader of ONNX finds them."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from starling.compiler import compile_model
from starling.compiler.bundle.compile_pipeline import Bundle, write_bundle
from starling.compiler.bundle.shared_constants import (
    SHARED_BYTES_MIN,
    with_shared_constants,
)
from starling.engine.opened_bundle import GRAPHS, open_files, open_packed
from starling.engine.runtime.onnxruntime_session import open_session
from starling.protocol.model.training_bundle import CONSTANTS, GRADIENT
from tests.unit.compiler.small_models import build, node, weight

RNG = np.random.default_rng(5)
WIDE, NARROW = 64, 4
FROZEN = weight(RNG, WIDE, WIDE)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """A frozen layer of 16 KiB under a trained one."""
    nodes = [
        node("Gemm", ["x", "frozen"], ["h"]),
        node("Tanh", ["h"], ["t"]),
        node("Gemm", ["t", "v"], ["out"]),
    ]
    weights = {"frozen": FROZEN, "v": weight(RNG, WIDE, NARROW)}
    model = build(nodes, weights, (WIDE,), (NARROW,))
    return compile_model(model, loss="cross-entropy", train=("v",))


def test_frozen_weight_stands_once_for_all_graphs(bundle: Bundle) -> None:
    assert bundle.files[CONSTANTS] == FROZEN.tobytes()
    assert max(len(bundle.files[name]) for name in GRAPHS) < SHARED_BYTES_MIN


def test_opened_graphs_hold_views_of_the_one_file(bundle: Bundle) -> None:
    opened = open_files(bundle.files)

    for graph in opened.graphs.values():
        (large,) = [t for t in graph.tensors if len(t.raw) >= SHARED_BYTES_MIN]
        assert isinstance(large.raw, memoryview)
        assert large.raw.obj is bundle.files[CONSTANTS]


def test_written_bundle_runs_where_its_files_lie(
    bundle: Bundle, tmp_path: Path
) -> None:
    write_bundle(bundle, tmp_path / "bundle")
    feeds: dict[str, NDArray[Any]] = {
        "theta": bundle.theta,
        "x": RNG.standard_normal((3, WIDE)).astype(np.float32),
        "y": np.arange(3),
    }

    found = onnxruntime.InferenceSession(tmp_path / "bundle" / GRADIENT).run(
        None, feeds
    )

    ours = open_session(open_packed(bundle.packed).graphs[GRADIENT]).run(feeds)
    np.testing.assert_array_equal(found[0], ours[0])
    assert np.abs(ours[0]).max() > 0


def test_model_without_large_constants_has_an_empty_file() -> None:
    model = build(
        [node("Gemm", ["x", "w"], ["out"])], {"w": weight(RNG, 4, 3)}, (4,), (3,)
    )

    graphs = compile_model(model, loss="mse").files

    assert graphs[CONSTANTS] == b""
    plain = {name: graphs[name] for name in GRAPHS}
    assert with_shared_constants(plain) == {**plain, CONSTANTS: b""}

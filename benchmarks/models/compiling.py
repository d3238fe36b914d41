"""Public models in the hands of Starling: compiled, compared, trained.

`python -m benchmarks.models.compiling LOSS FOLDER` compiles FOLDER/model.onnx and says
what it found; with `train` in front it trains FOLDER/bundle, so that its memory is that
of a board's trainer alone. Both print one JSON document.
"""

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.models.stopwatch import peak_mib, seconds
from starling.protocol.errors import FederationError

MODEL, BUNDLE, REFERENCE = "model.onnx", "bundle", "reference.npz"
TRAIN = "train"
LIMIT_S = 120
"""Of processor time."""
_SEED = 7
_RATES = (0.3, 0.03, 3e-3, 3e-4, 3e-5)
_STEPS = 12
Facts = dict[str, Any]


def main() -> int:
    """Compiles, or trains what was compiled."""
    resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_S, LIMIT_S))
    words = sys.argv[1:]
    if words[0] == TRAIN:
        facts = _train(Path(words[1]))
    else:
        facts = _compile(words[0], Path(words[1]))
    sys.stdout.write(json.dumps(facts))
    return 0


def _compile(loss: str, folder: Path) -> Facts:
    from starling.compiler import compile_model
    from starling.compiler.bundle.memory_estimate import need
    from starling.protocol.model.training_bundle import GRADIENT

    start, clock = time.process_time(), time.perf_counter()
    try:
        bundle = compile_model(folder / MODEL, loss=loss)
    except FederationError as error:
        return {"refused": str(error)[:400]}
    facts: Facts = {
        "compile_s": round(time.process_time() - start, 3),
        "compile_wall_s": round(time.perf_counter() - clock, 3),
        "compile_mib": peak_mib(),
    }
    (folder / BUNDLE).write_bytes(bundle.packed)
    network = bundle.network
    frozen = sum([network.constants[name].size for name in network.frozen])
    return facts | {
        "nodes": len(network.nodes),
        "trained": network.dimension,
        "counted": network.dimension + frozen,
        "notes": list(bundle.notes),
        "predicted_mib": round(need(bundle.files[GRADIENT], 8).process / 2**20, 1),
    }


def _train(folder: Path) -> Facts:
    from starling.agent import open_trainer

    trainer = open_trainer(folder / BUNDLE)
    theta, manifest = trainer.theta, trainer.manifest
    held = np.load(folder / REFERENCE)
    x: NDArray[Any] = held["x"].astype(np.float32)
    x = x.reshape(len(x), *manifest.input.shape)
    y = _targets(
        held, manifest.target.shape, manifest.target.dtype, manifest.output.shape
    )
    step_s = seconds(lambda: trainer.gradient_sum(theta, x, y))
    facts: Facts = {"step_s": step_s, "peak_mib": peak_mib()}
    private_s = seconds(lambda: trainer.private_gradient_sum(theta, x, y, 1.0))
    total, norms = trainer.private_gradient_sum(theta, x, y, 1.0)
    length = float(np.linalg.norm(total.astype(np.float64)))
    output = trainer.infer(theta, x)
    facts |= {
        "private_step_s": private_s,
        "private": bool(np.isfinite(norms).all() and length <= len(x)),
        "private_peak_mib": peak_mib(),
        "trains": _falls(trainer, x, y),
    }
    if output.size == held["output"].size:
        facts["output_error"] = _error(output.reshape(-1), held["output"].reshape(-1))
    if "norms" in held:
        losses = trainer.evaluate(theta, x, y)[0]
        facts["loss_error"] = _error(losses[:2], held["losses"])
        facts["norm_error"] = _error(np.asarray(norms)[:2], held["norms"])
    return facts


def _targets(
    held: Any, shape: tuple[int, ...], dtype: str, output: tuple[int, ...]
) -> NDArray[Any]:
    """The reference's targets, or random ones."""
    rng, count = np.random.default_rng(_SEED), len(held["x"])
    if "y" in held:
        known: NDArray[Any] = held["y"].astype(dtype).reshape(count, *shape)
        return known
    if dtype == "int64":
        return rng.integers(0, output[-1], (count, *shape))
    return rng.random((count, *shape)).astype(np.float32)


def _falls(trainer: Any, x: NDArray[Any], y: NDArray[Any]) -> bool:
    """True if some rate lowers the loss of the batch."""
    first = float(np.sum(trainer.evaluate(trainer.theta, x, y)[0]))
    for rate in _RATES:
        theta = trainer.theta.copy()
        for _ in range(_STEPS):
            gradient, _ = trainer.gradient_sum(theta, x, y)
            theta = theta - np.float32(rate / len(x)) * gradient
        last = float(np.sum(trainer.evaluate(theta, x, y)[0]))
        if np.isfinite(last) and last < first * (1 - 1e-4):
            return True
    return False


def _error(found: NDArray[Any], wanted: NDArray[Any]) -> float:
    size = float(np.abs(wanted).max()) + 1e-6
    return float(np.abs(found.astype(np.float64) - wanted).max() / size)


if __name__ == "__main__":
    raise SystemExit(main())

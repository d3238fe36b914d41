"""Public models in the hands of their own toolkits: ONNX files, references, step times.

`python -m benchmarks.models.exporting MODULE FOLDER FORM,... NAME...` writes a folder
for each model with one for each form: model.onnx, reference.npz, and in export.json
what the toolkit says. `peer` among the forms is a step of PyTorch and of Opacus.
A model has a process of its own, forked from one that has loaded its toolkit, and a
limit of processor time.
"""

import io
import json
import multiprocessing
import resource
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.models.public_model import (
    EXPORT,
    KERAS,
    LITE,
    LITE_INT8,
    PYTORCH,
    QDQ,
    SCRIPT,
    TF2ONNX,
    PublicModel,
)
from benchmarks.models.stopwatch import peak_mib, seconds

EXAMPLES = 8
"""In the batch that is compared and timed."""
PEER = "peer"
LIMIT_S = 180
"""Of processor time, for all stages of a model."""
MODEL, REFERENCE, FACTS = "model.onnx", "reference.npz", "export.json"
SEED = 7
Facts = dict[str, Any]


def main() -> int:
    """Exports models one after the other, and prints each name when it is done."""
    module, place, forms, *names = sys.argv[1:]
    models = import_module(module).MODELS
    alone_mib = peak_mib()
    if any(model.toolkit == PYTORCH for model in models):
        _preload(forms.split(","))
    for number, model in enumerate(models):
        if model.name in names:
            folder = Path(place) / str(number)
            folder.mkdir()
            _alone(model, folder, forms.split(","), alone_mib)
            sys.stdout.write(f"{json.dumps([model.name, str(folder)])}\n")
            sys.stdout.flush()
    return 0


def _preload(forms: Sequence[str]) -> None:
    """Loads once for all models what takes PyTorch's exporter and Opacus seconds."""
    import torch

    if PEER in forms:
        import_module("opacus")
    if EXPORT in forms:
        one = torch.nn.Linear(1, 1)
        torch.onnx.export(one, (torch.zeros(1, 1),), io.BytesIO(), dynamo=True)


def _alone(
    model: PublicModel, folder: Path, forms: Sequence[str], alone_mib: float
) -> None:
    """Runs all stages of a model in a process of its own; it knows the toolkit already.

    Stages that the limit cuts off leave no facts.
    """
    child = multiprocessing.get_context("fork").Process(
        target=_stages, args=(model, folder, forms, alone_mib)
    )
    child.start()
    child.join()


def _stages(
    model: PublicModel, folder: Path, forms: Sequence[str], alone_mib: float
) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_S, LIMIT_S))
    stages: list[tuple[str, Callable[[], Facts]]] = []
    if model.toolkit == PYTORCH and PEER in forms:
        stages.append((PEER, lambda: _peer(model, alone_mib)))
    for form in [way for way in model.ways if way in forms]:
        export = partial(_EXPORTERS[model.toolkit], model, form, folder / form)
        stages.append((form, export))
    for name, stage in stages:
        (folder / name).mkdir()
        try:
            facts = stage()
        except Exception as error:  # noqa: BLE001  a toolkit may raise anything
            cause = error.__cause__ or error
            first = str(cause).strip().partition("\n")[0]
            facts = {"export_failed": f"{type(cause).__name__}: {first}"[:300]}
        (folder / name / FACTS).write_text(json.dumps(facts))


def examples(model: PublicModel, count: int = EXAMPLES) -> NDArray[Any]:
    """(count, ...): random examples, float32 or int64."""
    rng = np.random.default_rng(SEED)
    if model.tokens:
        return rng.integers(1, model.tokens, (count, *model.row))
    return rng.normal(size=(count, *model.row)).astype(np.float32)


def targets(loss: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Targets for outputs of a shape."""
    rng = np.random.default_rng(SEED)
    if loss == "cross-entropy":
        return rng.integers(0, shape[1], shape[0])
    return rng.random(shape, np.float32)


def torch_loss(loss: str, output: Any, y: Any) -> Any:
    """Sum over the examples of each one's loss."""
    from torch.nn import functional

    if loss == "cross-entropy":
        return functional.cross_entropy(output, y, reduction="sum")
    kinds = {
        "mse": functional.mse_loss,
        "bce": functional.binary_cross_entropy_with_logits,
    }
    return kinds[loss](output, y, reduction="sum") / output[0].numel()


def _torch_model(model: PublicModel) -> Any:
    import torch

    torch.manual_seed(SEED)
    made = model.make().eval()
    with torch.no_grad():
        # Fresh zeros and ones would hide what an exporter merges or leaves out.
        for tensor in [p for p in made.parameters() if p.requires_grad]:
            tensor.add_(0.02 * torch.randn_like(tensor))
    return made


def _export_torch(model: PublicModel, form: str, folder: Path) -> Facts:
    import torch

    made, x = _torch_model(model), torch.from_numpy(examples(model))
    file = str(folder / MODEL)
    options: Facts = {"opset_version": 17, "dynamo": False}
    if form == EXPORT:
        batch = torch.export.Dim("n", min=2, max=4096)
        options = {
            "dynamo": True,
            "dynamic_shapes": ({0: batch},),
            "external_data": False,
        }
    if form == SCRIPT:
        options |= {"input_names": ["x"], "dynamic_axes": {"x": {0: "n"}}}
    torch.onnx.export(made, (x,), file, **options)
    with torch.no_grad():
        output = made(x)
    y = torch.from_numpy(targets(model.loss, tuple(output.shape)))
    losses, norms = [], []
    used: set[int] = set()
    parameters = [p for p in made.parameters() if p.requires_grad]
    for k in range(2):
        value = torch_loss(model.loss, made(x[k : k + 1]), y[k : k + 1])
        parts = torch.autograd.grad(value, parameters, allow_unused=True)
        used |= {i for i, part in enumerate(parts) if part is not None}
        squares = [part.double().square().sum() for part in parts if part is not None]
        losses.append(float(value))
        norms.append(float(torch.stack(squares).sum().sqrt()))
    _reference(folder, x.numpy(), y.numpy(), output.numpy(), losses, norms)
    return {
        "parameters": sum([p.numel() for p in parameters]),
        "used": sum([parameters[i].numel() for i in used]),
    }


def _reference(
    folder: Path,
    x: NDArray[Any],
    y: NDArray[Any] | None,
    output: NDArray[Any],
    losses: list[float],
    norms: list[float],
) -> None:
    arrays: dict[str, Any] = {"x": x, "output": output}
    if y is not None:
        arrays["y"] = y
    if norms:
        arrays |= {"losses": np.array(losses), "norms": np.array(norms)}
    np.savez(folder / REFERENCE, **arrays)


def _export_keras(model: PublicModel, form: str, folder: Path) -> Facts:
    import keras

    keras.utils.set_random_seed(SEED)
    made = model.make()
    rng = np.random.default_rng(SEED)
    for weight in made.trainable_weights:
        # tf2onnx leaves out biases that are still 0.
        drawn = rng.normal(size=weight.shape).astype(np.float32)
        weight.assign(weight.numpy() + 0.02 * drawn)
    x = examples(model)
    fed = x.astype(np.float32)
    output = np.asarray(made(fed, training=False))
    if form in (TF2ONNX, QDQ):
        made.export(str(folder / MODEL), format="onnx", verbose=False)
    else:
        _export_lite(made, form, fed, folder)
    if form == QDQ:
        _quantise(folder / MODEL, fed)
    _reference(folder, fed, None, output, [], [])
    own = sum([int(np.prod(weight.shape)) for weight in made.trainable_weights])
    return {"parameters": own, "used": own}


def _export_lite(made: Any, form: str, x: NDArray[Any], folder: Path) -> None:
    import tensorflow as tf
    import tf2onnx

    converter = tf.lite.TFLiteConverter.from_keras_model(made)
    if form == LITE_INT8:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([row[None]] for row in x)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    assert form in (LITE, LITE_INT8)
    with tempfile.NamedTemporaryFile(suffix=".tflite") as file:
        file.write(converter.convert())
        file.flush()
        tf2onnx.convert.from_tflite(file.name, output_path=str(folder / MODEL))


def _quantise(file: Path, x: NDArray[Any]) -> None:
    import onnx
    from onnxruntime import quantization

    name = onnx.load(file).graph.input[0].name

    class Rows(quantization.CalibrationDataReader):
        rows = iter([{name: row[None]} for row in x])

        def get_next(self) -> Any:
            return next(self.rows, None)

    quantization.quantize_static(str(file), str(file), Rows())


def _export_sklearn(model: PublicModel, form: str, folder: Path) -> Facts:
    from skl2onnx import to_onnx

    made = model.make()
    rng = np.random.default_rng(SEED)
    x = rng.normal(size=(EXAMPLES, *model.row)).astype(np.float32)
    x[:, -2:] = rng.integers(0, 4, (EXAMPLES, 2))
    options = {"zipmap": False} if hasattr(made, "predict_proba") else None
    proto = to_onnx(made, x[:1], options={id(made): options} if options else None)
    (folder / MODEL).write_bytes(proto.SerializeToString())
    output = np.asarray(made.predict(x))
    _reference(folder, x, None, output, [], [])
    own = _coefficients(made)
    return {"parameters": own, "used": own, "form": form}


def _coefficients(made: Any) -> int:
    """Values that the last estimator fitted as linear layers."""
    last = made.steps[-1][1] if hasattr(made, "steps") else made
    last = getattr(last, "final_estimator_", getattr(last, "regressor_", last))
    if hasattr(last, "coefs_"):
        return sum([part.size for part in (*last.coefs_, *last.intercepts_)])
    if hasattr(last, "dual_coef_"):
        return int(last.dual_coef_.size + last.intercept_.size)
    return int(np.size(last.coef_) + np.size(last.intercept_))


def _peer(model: PublicModel, alone_mib: float) -> Facts:
    """Time and memory of a step of PyTorch in the state of the exported model.

    Memory is what the step adds to `alone_mib`, the toolkit with no model and without
    what exporters load.
    """
    assert model.toolkit == PYTORCH
    import torch

    torch.set_num_threads(1)
    # Pages of a forked process count once it touches them.
    torch.nn.Linear(1, 1)(torch.zeros(1, 1)).sum().backward()
    start_mib = peak_mib()
    made, x = _torch_model(model), torch.from_numpy(examples(model))
    with torch.no_grad():
        shape = tuple(made(x).shape)
    y = torch.from_numpy(targets(model.loss, shape))

    def step() -> None:
        made.zero_grad()
        torch_loss(model.loss, made(x), y).backward()

    found: Facts = {"step_s": seconds(step)}
    found["peak_mib"] = round(alone_mib + peak_mib() - start_mib, 1)
    try:
        found["private_step_s"] = _opacus(model, x, y)
    except (
        AttributeError, IndexError, KeyError, NotImplementedError,
        RuntimeError, TypeError, ValueError,
    ) as error:  # fmt: skip  # a table
        found["opacus"] = str(error).partition("\n")[0][:200]
    return found


def _opacus(model: PublicModel, x: Any, y: Any) -> float:
    import torch
    from opacus import GradSampleModule

    made = _torch_model(model).train()
    for layer in made.modules():
        if "Dropout" in type(layer).__name__:
            layer.eval()
    private = GradSampleModule(made, loss_reduction="sum", strict=True)
    parameters = [p for p in private.parameters() if p.requires_grad]

    def step() -> None:
        private.zero_grad(set_to_none=True)
        torch_loss(model.loss, private(x), y).backward()
        rows = [
            p.grad_sample.flatten(1) for p in parameters if p.grad_sample is not None
        ]
        squares = torch.stack([row.square().sum(1) for row in rows]).sum(0)
        scales = (1.0 / squares.sqrt()).clamp(max=1.0)
        for row in rows:
            scales @ row

    return seconds(step)


_EXPORTERS = {
    PYTORCH: _export_torch,
    KERAS: _export_keras,
    "scikit-learn": _export_sklearn,
}

if __name__ == "__main__":
    raise SystemExit(main())

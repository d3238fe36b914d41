"""Writes exported_models.json: models as PyTorch exports them, and their gradients.

Run in an environment with torch 2.13 and onnxscript; the project itself needs neither:

    python tests/vectors/exported_models.py

Each architecture is exported by the TorchScript exporter and by the newer one built on
`torch.export`. With it go a batch and what PyTorch's autograd finds in float64: the
losses, the norm of each example's gradient, and the sum of the gradients, laid out as
the file's own tensors are (an exporter may transpose a weight or reorder gates; every
value of a weight is distinct, so its new place tells which value it was).
"""

import base64
import io
import json
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx

# The oracle, installed only where the vectors are made anew.
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parent))
from exported_architectures import ARCHITECTURES, SETTINGS  # type: ignore[import-not-found]

Settings = dict[str, Any]
EXAMPLES = 4
EXPORTERS = {"script": False, "export": True}
OPSET = {"script": 17, "export": 18}


def main() -> None:
    """Writes the vectors beside this script."""
    document = {}
    for name, (make, loss, row, tokens) in ARCHITECTURES.items():
        torch.manual_seed(7)
        model = make().eval()
        _scatter(model)
        x = torch.randn(EXAMPLES, *row)
        if tokens:
            x = torch.randint(0, tokens, (EXAMPLES, *row))
        for exporter, modern in EXPORTERS.items():
            settings = SETTINGS.get(name, {})
            vector = _vector(model, loss, x, settings, modern=modern)
            document[f"{name}, {exporter}"] = vector
    path = Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(document, indent=1) + "\n")


def _scatter(model: nn.Module) -> None:
    """Draws all parameters anew, so that no two values are equal."""
    with torch.no_grad():
        for parameter in model.parameters():
            fan = max(1, parameter[0].numel() if parameter.dim() > 1 else 1)
            drawn = torch.randn_like(parameter) / fan**0.5
            if parameter.dim() == 1:
                drawn = 0.5 * drawn + parameter
            parameter.copy_(drawn)


def _exported(model: nn.Module, x: Tensor, *, modern: bool) -> onnx.ModelProto:
    options = {"opset_version": OPSET["export" if modern else "script"]}
    if modern:
        batch = torch.export.Dim("n", min=2, max=4096)
        program = torch.onnx.export(
            model, (x,), dynamo=True, dynamic_shapes=({0: batch},), **options
        )
        modern_model: onnx.ModelProto = program.model_proto
        return modern_model
    buffer = io.BytesIO()
    torch.onnx.export(
        model,
        (x,),
        buffer,
        dynamo=False,
        input_names=["x"],
        dynamic_axes={"x": {0: "n"}},
        **options,
    )
    return onnx.load_from_string(buffer.getvalue())


def _vector(
    model: nn.Module, loss: str, x: Tensor, settings: Settings, *, modern: bool
) -> dict[str, object]:
    torch.manual_seed(8)
    model.float()
    proto = _exported(model, x, modern=modern)
    with torch.no_grad():
        output = model(x)
    y = torch.rand(output.shape)
    if loss == "cross-entropy":
        y = torch.randint(0, output.shape[1], (EXAMPLES,))
    names = [name for name, _ in model.named_parameters()]
    values = [p.detach().numpy().copy() for p in model.parameters()]
    model.double()
    rows, losses = [], []
    for index in range(EXAMPLES):
        one = slice(index, index + 1)
        input_, target = x[one], y[one]
        input_ = input_.double() if input_.is_floating_point() else input_
        target = target.double() if target.is_floating_point() else target
        value = _loss(loss, model(input_), target, settings)
        parts = torch.autograd.grad(value, list(model.parameters()))
        rows.append(torch.cat([part.reshape(-1) for part in parts]))
        losses.append(value.item())
    singles = torch.stack(rows)
    assert len(names) == len(values)
    gradient = _laid_out(proto, values, singles.sum(0).numpy())
    return {
        "loss": loss,
        "settings": settings,
        "model": _packed(proto.SerializeToString(deterministic=True)),
        "x": _array(x.numpy().astype(np.float32)),
        "y": _array(y.numpy()),
        "losses": losses,
        "norms": singles.norm(dim=1).tolist(),
        "gradient": {key: _array(part) for key, part in gradient.items()},
    }


def _laid_out(
    proto: onnx.ModelProto,
    values: list[NDArray[np.float32]],
    gradient: NDArray[np.float64],
) -> dict[str, NDArray[np.float32]]:
    """The gradient of each tensor of the file that holds weights."""
    flat = np.concatenate([value.reshape(-1) for value in values])
    assert len(np.unique(flat)) == len(flat)
    order = np.argsort(flat)
    found = {}
    tensors = {
        item.name: numpy_helper.to_array(item) for item in proto.graph.initializer
    }
    for node in proto.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            tensors[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    for name, tensor in tensors.items():
        if tensor.dtype != np.float32 or tensor.size == 0:
            continue
        places = np.searchsorted(flat[order], tensor).clip(0, len(flat) - 1)
        chosen = order[places]
        if np.array_equal(flat[chosen], tensor):
            found[name] = gradient[chosen].astype(np.float32)
    return found


def _loss(name: str, output: Tensor, target: Tensor, settings: Settings) -> Tensor:
    if name == "cross-entropy":
        # A mean over one example would divide by its weight again.
        weights = settings.get("class_weights")
        return functional.cross_entropy(
            output,
            target,
            weight=None if weights is None else torch.tensor(weights).double(),
            label_smoothing=settings.get("label_smoothing", 0.0),
            reduction="sum",
        )
    if name == "huber":
        return functional.huber_loss(output, target, delta=settings.get("delta", 1.0))
    return functional.mse_loss(output, target)


def _array(array: NDArray[np.generic]) -> dict[str, object]:
    data = np.ascontiguousarray(array)
    return {
        "dtype": str(data.dtype),
        "shape": list(data.shape),
        "packed": _packed(data.tobytes()),
    }


def _packed(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data, 9)).decode()


if __name__ == "__main__":
    main()

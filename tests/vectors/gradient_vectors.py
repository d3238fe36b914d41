"""Writes gradient_vectors.json: per-example gradients by PyTorch autograd.

Run in an environment with torch 2.13; the project itself does not need it:

    python tests/vectors/gradient_vectors.py

For each architecture: its weights, a batch, and what PyTorch finds for it: the losses,
the norm of each example's gradient, and their sum. Inputs are float32, results are
computed in float64.
"""

import json
from collections.abc import Callable
from pathlib import Path

# The oracle, installed only where the vectors are made anew.
import torch
from torch import Tensor
from torch.nn import functional

Forward = Callable[[Tensor, dict[str, Tensor]], Tensor]
EXAMPLES = 3
DIGITS = 9


def lenet(x: Tensor, w: dict[str, Tensor]) -> Tensor:
    """Two convolutions with poolings, two linear layers."""
    h = functional.conv2d(x, w["c1"], w["b1"])
    h = functional.max_pool2d(torch.relu(h), 2)
    h = functional.conv2d(h, w["c2"], w["b2"], padding=1)
    h = torch.relu(functional.max_pool2d(h, 2))
    h = torch.tanh(functional.linear(h.flatten(1), w["f1"], w["g1"]))
    return functional.linear(h, w["f2"], w["g2"])


def separable(x: Tensor, w: dict[str, Tensor]) -> Tensor:
    """Depthwise and pointwise convolutions, global average, linear."""
    h = functional.conv2d(x, w["d"], w["e"], stride=2, padding=1, groups=3)
    h = functional.leaky_relu(functional.conv2d(h, w["p"]), 0.1)
    h = functional.conv2d(h, w["q"], dilation=2, padding=2, groups=2)
    h = functional.avg_pool2d(h, 2)
    return functional.linear(h.mean((2, 3)), w["f"], w["g"])


def sensor(x: Tensor, w: dict[str, Tensor]) -> Tensor:
    """Convolutions over time."""
    h = functional.conv1d(x, w["c1"], w["b1"], stride=2)
    h = functional.max_pool1d(torch.sigmoid(h), 2)
    h = functional.conv1d(h, w["c2"], w["b2"], padding=1)
    return functional.linear(functional.elu(h).flatten(1), w["f"], w["g"])


def tied(x: Tensor, w: dict[str, Tensor]) -> Tensor:
    """An autoencoder whose decoder is its encoder turned round."""
    h = torch.sigmoid(functional.linear(x, w["w"], w["b"]))
    return h @ w["w"] + w["c"]


def linear(x: Tensor, w: dict[str, Tensor]) -> Tensor:
    """Logistic regression."""
    return functional.linear(x, w["f"], w["g"])


ARCHITECTURES: dict[str, tuple[Forward, str, tuple[int, ...], dict[str, list[int]]]] = {
    "lenet": (
        lenet,
        "cross-entropy",
        (1, 12, 12),
        {
            "c1": [3, 1, 3, 3],
            "b1": [3],
            "c2": [4, 3, 3, 3],
            "b2": [4],
            "f1": [5, 16],
            "g1": [5],
            "f2": [4, 5],
            "g2": [4],
        },
    ),
    "separable": (
        separable,
        "cross-entropy",
        (3, 8, 8),
        {
            "d": [3, 1, 3, 3],
            "e": [3],
            "p": [4, 3, 1, 1],
            "q": [4, 2, 3, 3],
            "f": [3, 4],
            "g": [3],
        },
    ),
    "sensor": (
        sensor,
        "bce",
        (3, 20),
        {
            "c1": [4, 3, 5],
            "b1": [4],
            "c2": [3, 4, 3],
            "b2": [3],
            "f": [2, 12],
            "g": [2],
        },
    ),
    "tied": (tied, "mse", (7,), {"w": [4, 7], "b": [4], "c": [7]}),
    "linear": (linear, "cross-entropy", (9,), {"f": [5, 9], "g": [5]}),
}


def main() -> None:
    """Writes the vectors beside this script."""
    document = {name: _vector(*entry) for name, entry in ARCHITECTURES.items()}
    path = Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(document, indent=0, separators=(",", ":")) + "\n")


def _vector(
    forward: Forward, loss: str, row: tuple[int, ...], shapes: dict[str, list[int]]
) -> dict[str, object]:
    torch.manual_seed(1)
    weights = {
        name: (
            torch.randn(shape) / max(1.0, torch.tensor(shape[1:]).prod().item() ** 0.5)
        )
        for name, shape in shapes.items()
    }
    x = torch.randn(EXAMPLES, *row)
    with torch.no_grad():
        output = forward(x, weights)
    if loss == "cross-entropy":
        y = torch.randint(0, output.shape[1], (EXAMPLES,))
    else:
        y = torch.rand(output.shape)
    doubles = {name: value.double().requires_grad_() for name, value in weights.items()}
    rows, losses = [], []
    for index in range(EXAMPLES):
        one = slice(index, index + 1)
        target = y[one] if loss == "cross-entropy" else y[one].double()
        value = _loss(loss, forward(x[one].double(), doubles), target)
        parts = torch.autograd.grad(value, list(doubles.values()))
        rows.append(torch.cat([part.reshape(-1) for part in parts]))
        losses.append(value)
    singles = torch.stack(rows)
    return {
        "loss": loss,
        "weights": {
            name: {"shape": shapes[name], "values": _floats(value)}
            for name, value in weights.items()
        },
        "x": {"shape": [EXAMPLES, *row], "values": _floats(x)},
        "y": {"shape": list(y.shape), "values": y.reshape(-1).tolist()},
        "losses": _floats(torch.stack(losses)),
        "norms": _floats(singles.norm(dim=1)),
        "gradient": _floats(singles.sum(0)),
    }


def _loss(name: str, output: Tensor, target: Tensor) -> Tensor:
    if name == "cross-entropy":
        return functional.cross_entropy(output, target)
    if name == "bce":
        return functional.binary_cross_entropy_with_logits(output, target)
    return functional.mse_loss(output, target)


def _floats(tensor: Tensor) -> list[float]:
    values = tensor.detach().reshape(-1).tolist()
    return [float(f"{value:.{DIGITS}g}") for value in values]


if __name__ == "__main__":
    main()

"""The peers of `training_step`: PyTorch, and Opacus for per-example clipping."""

from collections.abc import Callable
from importlib.util import find_spec

import numpy as np

# Peers, installed only where they are compared with.
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Step = Callable[[], object]


def torch_steps(
    name: str, x: NDArray[np.float32], y: NDArray[np.int64]
) -> dict[str, Step]:
    """Gradient sums of one batch, plain and clipped to norm 1 example by example."""
    torch.set_num_threads(1)
    images, labels = torch.from_numpy(x), torch.from_numpy(y)
    loss = nn.CrossEntropyLoss(reduction="sum")
    plain = NETWORKS[name]()

    def step() -> None:
        plain.zero_grad()
        loss(plain(images), labels).backward()

    steps: dict[str, Step] = {"pytorch": step}
    if find_spec("opacus"):
        steps["opacus"] = _opacus_step(name, images, labels, loss)
    return steps


def _opacus_step(name: str, images: Tensor, labels: Tensor, loss: nn.Module) -> Step:
    from opacus import GradSampleModule

    private = GradSampleModule(_replaced(name), loss_reduction="sum")
    parameters = list(private.parameters())

    def step() -> None:
        private.zero_grad(set_to_none=True)
        loss(private(images), labels).backward()
        rows = [parameter.grad_sample.flatten(1) for parameter in parameters]
        squares = torch.stack([row.square().sum(1) for row in rows]).sum(0)
        scales = (1.0 / squares.sqrt()).clamp(max=1.0)
        for row in rows:
            scales @ row

    return step


def _replaced(name: str) -> nn.Module:
    """The network with layers of Opacus where it cannot hook into PyTorch's own."""
    if name == "gru":
        from opacus.layers import DPGRU

        return PeerStep(DPGRU(9, 32, batch_first=True))
    return NETWORKS[name]()


class PeerStep(nn.Module):  # type: ignore[misc]  # no types without torch
    """A recurrent layer, and a linear one on its last step."""

    def __init__(self, layer: nn.Module) -> None:
        """Takes the layer."""
        super().__init__()
        self.layer = layer
        self.head = nn.Linear(32, 6)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 32, 9) to (n, 6)."""
        return self.head(self.layer(x)[0][:, -1])


def _cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 10, 5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(10, 20, 5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(320, 50),
        nn.ReLU(),
        nn.Linear(50, 10),
    )


def _sensor() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(9, 16, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool1d(4),
        nn.Conv1d(16, 32, 5, padding=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(32, 6),
    )


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "cnn": _cnn,
    "perceptron": lambda: nn.Sequential(
        nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10)
    ),
    "sensor": _sensor,
    "gru": lambda: PeerStep(nn.GRU(9, 32, batch_first=True)),
}

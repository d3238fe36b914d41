"""The peers of `training_step`: PyTorch, and Opacus for per-example clipping."""

from collections.abc import Callable
from importlib.util import find_spec

import numpy as np

# Peers, installed only where they are compared with.
import torch  # type: ignore[import-not-found]  # see above
from numpy.typing import NDArray
from torch import Tensor, nn

Step = Callable[[], object]


def torch_steps(x: NDArray[np.float32], y: NDArray[np.int64]) -> dict[str, Step]:
    """Gradient sums of one batch, plain and clipped to norm 1 example by example."""
    torch.set_num_threads(1)
    images, labels = torch.from_numpy(x), torch.from_numpy(y)
    loss = nn.CrossEntropyLoss(reduction="sum")
    plain = _network()

    def step() -> None:
        plain.zero_grad()
        loss(plain(images), labels).backward()

    steps: dict[str, Step] = {"pytorch": step}
    if find_spec("opacus"):
        steps["opacus"] = _opacus_step(images, labels, loss)
    return steps


def _opacus_step(images: Tensor, labels: Tensor, loss: nn.Module) -> Step:
    from opacus import GradSampleModule  # type: ignore[import-not-found]  # see above

    private = GradSampleModule(_network(), loss_reduction="sum")
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


def _network() -> nn.Module:
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

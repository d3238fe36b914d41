"""Writes optimiser_paths.json: where PyTorch's optimisers go, step by step.

`python -m tests.vectors.optimiser_paths` from the repository's root, where PyTorch is
installed; the tests read the JSON alone. Gradients are given, so that nothing but the
optimiser is compared; decays and momenta are exact in units of 2^-24.
"""

import json
from pathlib import Path
from typing import Any

# The oracle, installed only where the vectors are made anew.
import torch

FILE = Path(__file__).with_suffix(".json")
DIMENSION, STEPS, RATE = 5, 8, 0.125
MOMENTUM, BETA2, EPSILON = 0.875, 0.9921875, 1e-8
DECAYS = (0.0, 0.0625)


def optimisers(theta: torch.Tensor, decay: float) -> dict[str, torch.optim.Optimizer]:
    """Each of them on its own copy of theta."""
    params = {
        name: [theta.clone().requires_grad_()]
        for name in ("SGD", "MOMENTUM", "ADAM", "ADAMW")
    }
    adam: dict[str, Any] = {
        "lr": RATE,
        "betas": (MOMENTUM, BETA2),
        "eps": EPSILON,
        "weight_decay": decay,
    }
    return {
        "SGD": torch.optim.SGD(params["SGD"], lr=RATE, weight_decay=decay),
        "MOMENTUM": torch.optim.SGD(
            params["MOMENTUM"], lr=RATE, momentum=MOMENTUM, weight_decay=decay
        ),
        "ADAM": torch.optim.Adam(params["ADAM"], **adam),
        "ADAMW": torch.optim.AdamW(params["ADAMW"], **adam),
    }


def main() -> None:
    """Writes the file."""
    torch.manual_seed(5)
    theta = torch.randn(DIMENSION)
    gradients = torch.randn(STEPS, DIMENSION)
    paths = []
    for decay in DECAYS:
        for name, optimiser in optimisers(theta, decay).items():
            moved = optimiser.param_groups[0]["params"][0]
            path = []
            for gradient in gradients:
                moved.grad = gradient.clone()
                optimiser.step()
                path.append(moved.detach().tolist())
            paths.append({"optimiser": name, "weight_decay": decay, "path": path})
    document = {
        "torch": torch.__version__,
        "rate": RATE,
        "momentum": MOMENTUM,
        "beta2": BETA2,
        "epsilon": EPSILON,
        "theta": theta.tolist(),
        "gradients": gradients.tolist(),
        "paths": paths,
    }
    FILE.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Training on labels that randomised response drew: the forward correction.

The model says how likely each class is; a drawn label is then as likely as the model
says and the draw makes it. Minus the logarithm of that is the corrected loss. For K
answers of equal odds its gradient at a record is the plain gradient at the drawn label
times a weight between 0 and 1 that follows from the record's plain loss:

    w = (q - r) p / (r + (q - r) p),   p = e^-loss

so that no graph is needed beside the bundle's own: a record whose drawn label the model
finds unlikely counts for little. Weights are taken over their mean in what is computed
together, so that a learning rate means what it does on clean labels.

Letters: `n` records, `d` parameters; `q`, `r` as in
`protocol.privacy.randomised_response`.

Source: Patrini et al., CVPR 2017, arXiv:1609.03683, theorem 2 (forward correction).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from starling.agent.training.gradient_clipping import aligned
from starling.agent.training.training_inputs import Real, Trainer
from starling.protocol.model.label_classes import classes_of
from starling.protocol.model.training_bundle import BundleManifest
from starling.protocol.privacy.randomised_response import response_law


def label_weights(losses: Real, keep: float, other: float) -> NDArray[np.float64]:
    """Weight of each record, (n,), over their mean; ones where all weigh nothing.

    Args:
      losses: (n,), plain, of the drawn labels; one that is no number weighs nothing.
      keep: q.
      other: r.
    """
    likely = np.exp(-np.nan_to_num(losses.astype(np.float64), nan=np.inf))
    told = (keep - other) * likely
    weights = told / (other + told)
    mean = float(weights.mean()) if weights.size else 0.0
    return weights / mean if mean else np.ones_like(weights)


class LabelCorrectedTrainer:
    """See `Trainer`; its gradients are those of the corrected loss."""

    def __init__(self, trainer: Trainer, epsilon_micro: int) -> None:
        """Wraps a bundle.

        Args:
          trainer: Of classes, with the plain loss.
          epsilon_micro: Of the draws, in units of 10^-6.

        Raises:
          ConfigError: If labels of the bundle cannot be drawn.
        """
        self._trainer = trainer
        classes = classes_of(trainer.manifest)
        self._keep, self._other = response_law(epsilon_micro, classes)

    @property
    def manifest(self) -> BundleManifest:
        """See `Trainer`."""
        return self._trainer.manifest

    @property
    def theta(self) -> Real:
        """See `Trainer`."""
        return self._trainer.theta

    def gradient_sum(
        self, theta: Real, x: NDArray[Any], y: NDArray[Any]
    ) -> tuple[Real, Real]:
        """The weighted sum of the gradients (d,), and each record's plain loss (n,)."""
        losses = self._trainer.evaluate(theta, x, y)[0]
        weights = label_weights(losses, self._keep, self._other)
        total = np.zeros(theta.size, np.float64)
        row_x = aligned((1, *x.shape[1:]), x.dtype)
        row_y = aligned((1, *y.shape[1:]), y.dtype)
        # A graph gives one sum for all of its rows, so that rows with weights of their
        # own need a call each.
        for number, weight in enumerate(weights):
            row_x[0], row_y[0] = x[number], y[number]
            gradient, _ = self._trainer.gradient_sum(theta, row_x, row_y)
            total += weight * gradient
        return total.astype(np.float32), losses

    def private_gradient_sum(
        self, theta: Real, x: NDArray[Any], y: NDArray[Any], clip: float
    ) -> tuple[Real, Real]:
        """See `Trainer`."""
        return self._trainer.private_gradient_sum(theta, x, y, clip)

    def evaluate(
        self, theta: Real, x: NDArray[Any], y: NDArray[Any]
    ) -> tuple[Real, NDArray[Any]]:
        """See `Trainer`."""
        return self._trainer.evaluate(theta, x, y)

    def infer(self, theta: Real, x: NDArray[Any]) -> NDArray[Any]:
        """See `Trainer`."""
        return self._trainer.infer(theta, x)

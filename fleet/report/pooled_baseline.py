"""Distance of a fleet from training on all data together.

Source: Yang, Liu, Chen, Tong, Federated Machine Learning: Concept and Applications
(arXiv:1902.04885), equation 1: a federation has delta-accuracy loss if
|V_FED - V_SUM| < delta, with V the performance of the model.
"""

from dataclasses import dataclass
from typing import Any

from starling.protocol.learning.metrics import Metrics, RegressionMetrics


@dataclass(frozen=True)
class PooledBaseline:
    """The same model on the same held-out examples, trained in two ways.

    Attributes:
      metric: What V is: `accuracy`, or `r2` (`rmse` where that is not defined).
      federated: V_FED.
      pooled: V_SUM, of all training data in one place, without privacy.
      epochs: Passes over the pooled data until its held-out loss was least.
      metrics: All metrics of the pooled model.
    """

    metric: str
    federated: float
    pooled: float
    epochs: int
    metrics: Metrics

    @property
    def distance(self) -> float:
        """|V_FED - V_SUM|."""
        return abs(self.federated - self.pooled)

    def document(self) -> dict[str, Any]:
        """As in report.json."""
        return {
            "metric": self.metric,
            "federated": self.federated,
            "pooled": self.pooled,
            "distance": self.distance,
            "epochs": self.epochs,
            "metrics": self.metrics.document(),
        }

    @property
    def text(self) -> str:
        """A line for the summary."""
        share = self.metric == "accuracy"
        form = "{:.1%}" if share else "{:.4g}"
        found = [
            form.format(value) for value in (self.distance, self.federated, self.pooled)
        ]
        return (
            f"|V_fed - V_sum| = {found[0]}: {self.metric} {found[1]}, {found[2]} "
            "trained on all data together (simulation only)"
        )


def compared(federated: Metrics, pooled: Metrics, epochs: int) -> PooledBaseline:
    """Puts two models side by side.

    Args:
      federated: Of the fleet's newest model.
      pooled: Of the same model, trained on all data; of the same kind.
      epochs: That it took.
    """
    if isinstance(federated, RegressionMetrics) and isinstance(
        pooled, RegressionMetrics
    ):
        if federated.r2 is None or pooled.r2 is None:
            return PooledBaseline("rmse", federated.rmse, pooled.rmse, epochs, pooled)
        return PooledBaseline("r2", federated.r2, pooled.r2, epochs, pooled)
    assert not isinstance(federated, RegressionMetrics)
    assert not isinstance(pooled, RegressionMetrics)
    return PooledBaseline(
        "accuracy", federated.accuracy, pooled.accuracy, epochs, pooled
    )

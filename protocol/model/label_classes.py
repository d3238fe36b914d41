"""Bundles whose labels can be drawn by randomised response.

That takes one label a record, of a declared number of classes, and the plain
cross-entropy, whose value is what the model gives the label: only then is the
correction for drawn labels right (`agent.training.label_correction`).
"""

import math

from starling.protocol.errors import ConfigError
from starling.protocol.model.training_bundle import BundleManifest, LossSettings
from starling.protocol.privacy.randomised_response import CLASSES_MAX


def why_no_labels(manifest: BundleManifest) -> str:
    """The reason why labels of a bundle cannot be drawn; empty if they can."""
    if manifest.loss != "cross-entropy":
        return (
            f"label-response is for classes, and the bundle's loss is {manifest.loss}"
        )
    if math.prod(manifest.target.shape) != 1 or manifest.target.dtype != "int64":
        return "label-response draws one label a record, and the bundle takes several"
    if not 2 <= math.prod(manifest.output.shape) <= CLASSES_MAX:
        return f"label-response takes 2 to {CLASSES_MAX} classes"
    # Weights and smoothing change what the loss says of a label, and the correction
    # undoes only the draw.
    if manifest.loss_settings != LossSettings():
        return "label-response corrects the plain loss: no class weights, no smoothing"
    return ""


def classes_of(manifest: BundleManifest) -> int:
    """K, the number of classes among which labels are drawn.

    Raises:
      ConfigError: If labels of the bundle cannot be drawn.
    """
    why = why_no_labels(manifest)
    if why:
        raise ConfigError(why, key="privacy.mechanism")
    return math.prod(manifest.output.shape)

"""The section of `task.toml` on what the task may learn about a board's records."""

import math
from dataclasses import dataclass

from starling.protocol.errors import ConfigError
from starling.protocol.learning.task import (
    E12,
    LABEL_RESPONSE,
    MICRO,
    Q24,
    PrivacyPolicy,
)
from starling.protocol.model.label_classes import classes_of
from starling.protocol.model.training_bundle import BundleManifest
from starling.protocol.privacy.clipping_functions import CLIPPINGS, NORM
from starling.protocol.privacy.gaussian_dp import Budget
from starling.protocol.privacy.mechanisms import (
    GAUSSIAN,
    MECHANISMS,
    NONE,
    RECORD_DPSGD,
    RECORD_GAUSSIAN,
    calibrate,
    equivalent_charge,
    release_costs,
)
from starling.protocol.schema.toml_settings import setting


@dataclass(frozen=True)
class PrivacySection:
    """Bounds on what the task may learn about one record of a board."""

    mechanism: str = setting(
        "record-gaussian",
        "Noise that hides each record, or (device-*) all that a board holds, at the"
        " price of most accuracy; record-dpsgd noises every local step; label-response"
        " draws each label once, of boards that declare their inputs public.",
        choices=tuple(MECHANISMS),
    )
    clip: float = setting(
        1.0,
        "Norm to which each example's gradient is clipped; device-*: the whole update's"
        " (device-laplace: its L1 norm).",
        least=1e-6,
        most=1e4,
    )
    clipping: str = setting(
        NORM,
        "That the bundle was compiled with: to the norm, or by C / (norm + 0.01);"
        " record-* only.",
        choices=CLIPPINGS,
    )
    epsilon: float = setting(
        8.0,
        "Total epsilon that the task spends on one board's data, over all releases;"
        " label-response: on each label, once.",
        least=1e-3,
        most=1000.0,
    )
    delta: float = setting(
        1e-5,
        "Delta of that epsilon; label-response has none.",
        least=1e-12,
        most=0.1,
    )
    releases: int = setting(
        15, "Updates planned for one board within that epsilon.", least=1, most=1 << 20
    )
    sampling: float = setting(
        0.1,
        "Chance of each record to be in a local step; record-dpsgd only.",
        least=1e-4,
        most=1.0,
    )
    steps: int = setting(
        10, "Local steps of an update; record-dpsgd only.", least=1, most=1 << 16
    )


def privacy_policy(section: PrivacySection) -> PrivacyPolicy:
    """The section in the integers of the chain.

    Raises:
      ConfigError: If no noise keeps its budget.
    """
    number = MECHANISMS[section.mechanism]
    if number == NONE:
        return PrivacyPolicy(0, round(section.clip * Q24), 0, 0, 0, section.releases)
    # No clip, sigma or delta: what is drawn is a class, once, before any training.
    if number == LABEL_RESPONSE:
        # Down, since it says how much is spent: never more than the operator wrote.
        epsilon_micro = math.floor(section.epsilon * MICRO)
        return PrivacyPolicy(number, 0, 0, epsilon_micro, 0, section.releases)
    budget = Budget(section.epsilon, section.delta)
    samples = number == RECORD_DPSGD
    # Where every record is in every step, nothing is gained by sampling.
    sampling_micro = round(section.sampling * MICRO) if samples else MICRO
    steps = section.steps if samples else 1
    sigma_micro = calibrate(number, budget, section.releases, sampling_micro, steps)
    charge = 0
    if number not in GAUSSIAN:
        costs = release_costs(number, sigma_micro, sampling_micro, steps, windows=1)
        charge = equivalent_charge(costs, section.releases, section.delta)
    return PrivacyPolicy(
        mechanism=number,
        clip_q24=round(section.clip * Q24),
        sigma_micro=sigma_micro,
        # Up: here it is a cap, below which sigma was calibrated.
        epsilon_micro=math.ceil(section.epsilon * MICRO),
        delta_e12=round(section.delta * E12),
        releases=section.releases,
        sampling_micro=sampling_micro,
        steps=steps,
        charge=charge,
    )


def check_clipping(section: PrivacySection, manifest: BundleManifest) -> None:
    """Refuses a bundle that was compiled with other clipping.

    Raises:
      ConfigError: If it was.
    """
    clips = MECHANISMS[section.mechanism] in (RECORD_GAUSSIAN, RECORD_DPSGD)
    if clips and section.clipping != manifest.clipping:
        raise ConfigError(
            f"the bundle's is {manifest.clipping!r}", key="privacy.clipping"
        )


def check_labels(section: PrivacySection, manifest: BundleManifest) -> None:
    """Refuses a bundle whose labels cannot be drawn.

    Raises:
      ConfigError: If it has no classes, or another loss than plain cross-entropy.
    """
    if MECHANISMS[section.mechanism] == LABEL_RESPONSE:
        classes_of(manifest)

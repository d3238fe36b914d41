"""Steps that boards take themselves, as an operator writes them in `task.toml`."""

from dataclasses import dataclass

from starling.protocol.errors import ConfigError
from starling.protocol.learning.local_optimiser import (
    ACCUMULATION_MAX,
    EPOCHS_MAX,
    NO_PERSONAL,
    PLAIN,
    STEPS_MAX,
    DescentPolicy,
    OptimiserKind,
    PersonalPolicy,
    ScheduleKind,
)
from starling.protocol.learning.task import E12, Q24
from starling.protocol.schema.toml_settings import setting

OPTIMISERS = {kind.name.lower(): kind for kind in OptimiserKind}
SCHEDULES = {kind.name.lower(): kind for kind in ScheduleKind}


@dataclass(frozen=True)
class OptimiserSection:
    """Local optimiser; mode local only."""

    optimiser: str = setting(
        "sgd", "What turns a mean gradient into a step.", choices=tuple(OPTIMISERS)
    )
    momentum: float = setting(
        0.9,
        "Share of the mean gradient that stays at a step: of momentum, and beta 1 of "
        "adam and adamw.",
        least=0.0,
        most=0.9999,
    )
    beta2: float = setting(
        0.999,
        "Share of the mean of squares that stays; adam and adamw.",
        least=0.0,
        most=0.999999,
    )
    epsilon: float = setting(
        1e-8,
        "Added to the root of the mean of squares; adam and adamw.",
        least=1e-12,
        most=1.0,
    )
    weight_decay: float = setting(
        0.0,
        "Added to the gradient times the parameters; beside the step for adamw.",
        least=0.0,
        most=1.0,
    )
    prox: float = setting(
        0.0,
        "mu of FedProx, which holds local steps near the version that they began at.",
        least=0.0,
        most=256.0,
    )
    accumulation: int = setting(
        1, "Batches whose mean makes one step.", least=1, most=ACCUMULATION_MAX
    )
    schedule: str = setting(
        "constant",
        "How the learning rate changes over the steps of one update.",
        choices=tuple(SCHEDULES),
    )
    warmup: int = setting(
        0, "Steps over which the rate rises from 0, before.", least=0, most=STEPS_MAX
    )
    period: int = setting(
        1, "Steps after which it decays; schedule step.", least=1, most=STEPS_MAX
    )
    decay: float = setting(
        1.0, "What it is multiplied with then; schedule step.", least=0.0, most=1.0
    )


@dataclass(frozen=True)
class PersonalSection:
    """A model of its own that a board trains beside the fleet's, and never sends."""

    epochs: int = setting(
        0,
        "Over the board's records after each of its updates, at the batch and rate of"
        " [training]; 0 for no such model. Costs no budget, and no epsilon covers it.",
        least=0,
        most=EPOCHS_MAX,
    )
    pull: float = setting(
        1.0,
        "lambda of Ditto, which holds the board's own model near the fleet's; 0 lets"
        " each board learn alone.",
        least=0.0,
        most=256.0,
    )


def personal_policy(section: PersonalSection) -> PersonalPolicy:
    """The integers that stand on the wire."""
    if not section.epochs:
        return NO_PERSONAL
    return PersonalPolicy(section.epochs, round(section.pull * Q24))


def descent_policy(section: OptimiserSection) -> DescentPolicy:
    """The integers that stand on the wire."""
    return DescentPolicy(
        optimiser=OPTIMISERS[section.optimiser],
        momentum_q24=round(section.momentum * Q24),
        beta2_q24=round(section.beta2 * Q24),
        epsilon_e12=round(section.epsilon * E12),
        weight_decay_q24=round(section.weight_decay * Q24),
        prox_q24=round(section.prox * Q24),
        accumulation=section.accumulation,
        schedule=SCHEDULES[section.schedule],
        warmup=section.warmup,
        period=section.period,
        decay_q24=round(section.decay * Q24),
    )


def check_descent(section: OptimiserSection, *, stepless: bool, noised: bool) -> None:
    """Refuses an optimiser that no board would use.

    Args:
      section: As the operator wrote it.
      stepless: Whether boards take no steps.
      noised: Whether their steps are noised one by one.

    Raises:
      ConfigError: Naming the key.
    """
    # Compared as integers: a setting that rounds to the default changes nothing.
    if (stepless or noised) and descent_policy(section) != PLAIN:
        why = "boards take no steps in mode gradient"
        if not stepless:
            why = "steps that are noised one by one are plain SGD"
        raise ConfigError(why, key="training.descent")

"""Cost of a release, and the budget that is left for it.

Costs are compared in the unit in which everything together adds up: on the exact curve
while all of it is Gaussian, else at the budget's Renyi order or, where they allow more,
as pure epsilons.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from starling.agent.privacy.ledger_entries import (
    WINDOWS_MAX,
    Charge,
    Priced,
    ProvenReleases,
    Slot,
)
from starling.protocol.errors import BudgetExceeded, ConfigError, Reason
from starling.protocol.learning.task import E12, MICRO, PrivacyPolicy
from starling.protocol.privacy.gaussian_dp import Budget, charge_max
from starling.protocol.privacy.mechanisms import UNNOISED, charge_units, check_policy
from starling.protocol.privacy.renyi_dp import PURE, pure_max, renyi_max


@dataclass(frozen=True)
class ReleaseQuote:
    """Budget that is left and cost of a release, in the same unit.

    Attributes:
      left: At least 0.
      cost: Positive.
    """

    left: int
    cost: int


def release_quote(
    budget: Budget, paid: Sequence[Priced], wanted: Charge
) -> ReleaseQuote:
    """Quote of the next release after all earlier charges."""
    if all_gaussian((*paid, wanted)):
        left = charge_max(budget) - sum(each.curve_units for each in paid)
        return ReleaseQuote(max(0, left), wanted.units)
    rooms = []
    for index, most in (renyi_max(budget), (PURE, pure_max(budget))):
        left = most - sum(each.costs[index] for each in paid)
        rooms.append(ReleaseQuote(max(0, left), wanted.costs[index]))
    # Either sum is a filter by itself, so that a release is paid if one of them has
    # room (docs/privacy.md, "The filter for mixtures").
    return max(rooms, key=lambda room: room.left / room.cost)


def all_gaussian(paid: Iterable[Priced]) -> bool:
    """True if all of it adds up on the exact curve."""
    return all(each.is_gaussian for each in paid)


def overdrawn_text(paid: float, after: float, task: Budget, cap: Budget | None) -> str:
    """Says in epsilon what another release would come to."""
    delta = task.delta if cap is None else cap.delta
    text = (
        f"another update would bring epsilon from {paid:.2f} to {after:.2f} at "
        f"delta {delta:g}; the task spends {task.epsilon:g} at most"
    )
    if cap is None:
        return text
    return f"{text}, and the owner allows {cap.epsilon:g} in all"


def label_losses(paid: Iterable[Priced]) -> int:
    """Number of times that labels may have been drawn by a forgotten life."""
    return sum(isinstance(each, ProvenReleases) and each.draws_labels for each in paid)


def task_budget(policy: PrivacyPolicy) -> Budget:
    """Budget that a task may spend on one board.

    Raises:
      ConfigError: If it is no guarantee.
    """
    return Budget(policy.epsilon_micro / MICRO, policy.delta_e12 / E12)


def price(slot: Slot, policy: PrivacyPolicy, windows: int) -> Charge:
    """The charge of one release under a policy, whether it may be paid or not."""
    if not 1 <= windows <= WINDOWS_MAX:
        raise ConfigError(f"must be in [1, {WINDOWS_MAX}]", key="windows")
    check_policy(policy)
    number, sigma_micro = policy.mechanism, policy.sigma_micro
    if number in UNNOISED:
        return Charge(*slot, number, 0, windows, MICRO, 1, 0)
    schedule = (policy.sampling_micro, policy.steps)
    units = charge_units(policy, windows)
    charge = Charge(*slot, number, sigma_micro, windows, *schedule, units)
    charge.check()
    return charge


def check_labels(policy: PrivacyPolicy, allowed_micro: int) -> None:
    """Refuses a draw of labels that the owner did not allow.

    Raises:
      BudgetExceeded: With `POLICY_MISMATCH`.
    """
    if policy.epsilon_micro > allowed_micro:
        asked, allowed = policy.epsilon_micro / MICRO, allowed_micro / MICRO
        raise BudgetExceeded(
            f"the task takes inputs for public and draws each label at epsilon "
            f"{asked:g}; the owner's privacy.label_epsilon is {allowed:g}",
            Reason.POLICY_MISMATCH,
        )

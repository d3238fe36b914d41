"""The privacy ledger of one data set: what it has paid, and what it may still pay.

The state is built from the payloads of an append-only journal and never forgets. It
keeps three rules: the charges of everything ever released from the data set stay
within the owner's cap, over all chains, tasks and model lineages; those of one task
stay within what that task asked for; one base version of one task is charged once,
whatever happens afterwards. The caller has a duty in return: the entry that `charge`
hands out is synced to the journal before the new state is used and before any noise
is drawn.

Noise may vary and mechanisms may mix. As long as everything paid for is Gaussian, sums
of charges are kept within the exact curve (`protocol.accounting`); as soon as something
else is among it, sums of Renyi costs are kept within the budget at the budget's order
(`protocol.renyi`). Both are sums of integers. The guarantee is the cap's: `epsilon()`
says what has been used of it.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

from protocol.accounting import Budget, charge_max, epsilon_from_charge
from protocol.codec import exactly, structure, uint
from protocol.errors import (
    BudgetExceeded,
    ConfigError,
    DecodeError,
    LimitError,
    Reason,
    StorageError,
)
from protocol.ids import DIGEST_BYTES, ChainId, TaskId, Version
from protocol.mechanisms import (
    GAUSSIAN,
    NONE,
    charge_units,
    check_policy,
    release_costs,
)
from protocol.renyi import Costs, plus, renyi_epsilon, renyi_max
from protocol.task import E12, MICRO, PrivacyPolicy

Slot = tuple[ChainId, TaskId, Version]
"""What is charged at most once: a base version of a task of a chain."""
WINDOWS_MAX = 1 << 10


@dataclass(frozen=True)
class Charge:
    """One release, as the journal keeps it.

    Attributes:
      chain: Whose task it was for.
      task: Which task.
      base: Model version that was trained from.
      mechanism: A number of `protocol.mechanisms.MECHANISMS`.
      sigma_micro: Noise multiplier in units of 10^-6; 0 without noise.
      windows: Records that one raw sample can stand in.
      sampling_micro: Share of the records in a step in units of 10^-6; 10^6 is all.
      steps: Noised steps that the release consists of.
      units: What it is stated to cost; exact for Gaussian noise, and 0 without noise,
        when no charge could express the cost.
    """

    chain: ChainId
    task: TaskId
    base: Version
    mechanism: int
    sigma_micro: int
    windows: int
    sampling_micro: int
    steps: int
    units: int

    @property
    def slot(self) -> Slot:
        """The base version that is used up."""
        return self.chain, self.task, self.base

    @property
    def costs(self) -> Costs:
        """What it costs at each Renyi order; it has noise."""
        schedule = (self.sampling_micro, self.steps)
        return release_costs(self.mechanism, self.sigma_micro, *schedule, self.windows)

    def check(self) -> None:
        """Refuses what could not be added up.

        Raises:
          ConfigError: If its mechanism is not known or a number is out of bounds.
        """
        if self.mechanism != NONE:
            _ = self.costs


CHARGE = structure(
    Charge,
    256,
    exactly(DIGEST_BYTES),
    uint(),
    uint(),
    uint(255),
    uint(),
    uint(WINDOWS_MAX, 1),
    uint(MICRO),
    uint(),
    uint(),
)


@dataclass(frozen=True)
class PrivacyLedger:
    """Everything that a data set has paid; immutable.

    Attributes:
      cap: The owner's budget for all releases ever; None lets the data set be used
        without protection, too.
      charges: By slot, in the order of payment; never shrinks.
    """

    cap: Budget | None
    charges: Mapping[Slot, Charge]

    @classmethod
    def load(cls, cap: Budget | None, payloads: Iterable[bytes]) -> "PrivacyLedger":
        """Rebuilds the state from a journal's payloads.

        Raises:
          StorageError: If a payload is no charge or pays for a slot again: the ledger
            cannot be rebuilt from anything else, so that nothing may be released.
        """
        charges: dict[Slot, Charge] = {}
        for number, payload in enumerate(payloads):
            try:
                charge = CHARGE.unpack(payload)
                charge.check()
            except (ConfigError, DecodeError, LimitError) as error:
                raise StorageError(
                    f"privacy ledger, entry {number}: {error}"
                ) from error
            if charge.slot in charges:
                raise StorageError(f"privacy ledger, entry {number}: paid before")
            charges[charge.slot] = charge
        return cls(cap, charges)

    @property
    def units(self) -> int:
        """Sum of all charges, in the units of `protocol.accounting`."""
        return sum(charge.units for charge in self.charges.values())

    @property
    def exposed(self) -> bool:
        """Whether anything was ever released without noise."""
        return any(charge.mechanism == NONE for charge in self.charges.values())

    def charged(self, chain: ChainId, task: TaskId, base: Version) -> Charge | None:
        """What was paid for a base version, if it was."""
        return self.charges.get((chain, task, base))

    def epsilon(self, delta: float | None = None) -> float:
        """The total epsilon that the data set has paid, over everything.

        Args:
          delta: The delta to state it at; the cap's by default.

        Returns:
          Infinity if anything was released without noise.

        Raises:
          ConfigError: If there is neither a delta nor a cap, or delta is out of bounds.
        """
        if delta is None and self.cap is None:
            raise ConfigError("needed where no cap names one", key="delta")
        if self.exposed:
            return math.inf
        at = delta if delta is not None or self.cap is None else self.cap.delta
        assert at is not None
        paid = tuple(self.charges.values())
        if _gaussian(paid):
            return epsilon_from_charge(self.units, at)
        return renyi_epsilon(reduce(plus, (charge.costs for charge in paid)), at)

    def quote(self, slot: Slot, policy: PrivacyPolicy, windows: int = 1) -> "Charge":
        """What training one base version would cost; refused if it may not be paid.

        Args:
          slot: Chain, task and base version.
          policy: The task's.
          windows: Records that one raw sample can stand in.

        Raises:
          BudgetExceeded: With `Reason.REPLAYED` if the slot was paid before, with
            `POLICY_MISMATCH` if the policy can never be obeyed here, else because
            task or cap would be overdrawn.
        """
        if slot in self.charges:
            raise BudgetExceeded(
                "this base version was charged before", Reason.REPLAYED
            )
        try:
            charge = _price(slot, policy, windows)
            rooms = self._rooms(charge, policy)
        except ConfigError as error:
            raise BudgetExceeded(str(error), Reason.POLICY_MISMATCH) from error
        for room in rooms:
            if room.cost > room.left:
                raise BudgetExceeded(f"costs {room.cost} units, {room.left} are left")
        return charge

    def charge(
        self, slot: Slot, policy: PrivacyPolicy, windows: int = 1
    ) -> "tuple[PrivacyLedger, Charge, bytes]":
        """Pays for one base version.

        Args:
          slot: Chain, task and base version.
          policy: The task's.
          windows: Records that one raw sample can stand in.

        Returns:
          The next state, the charge, and the journal entry. Sync the entry first, then
          adopt the state, then draw noise: a crash in between wastes a charge and
          reveals nothing.

        Raises:
          BudgetExceeded: As `quote`.
        """
        charge = self.quote(slot, policy, windows)
        paid = PrivacyLedger(self.cap, {**self.charges, slot: charge})
        return paid, charge, CHARGE.pack(charge)

    def releases_left(
        self, chain: ChainId, task: TaskId, policy: PrivacyPolicy, windows: int = 1
    ) -> int | None:
        """How many more releases a task may have; None for no limit, 0 if refused."""
        try:
            charge = _price((chain, task, Version(0)), policy, windows)
            rooms = self._rooms(charge, policy)
        except (BudgetExceeded, ConfigError):
            return 0
        return min((room.left // room.cost for room in rooms), default=None)

    def _rooms(self, wanted: Charge, policy: PrivacyPolicy) -> "tuple[_Room, ...]":
        """What limits a charge: the task's budget, and the cap if there is one."""
        if policy.mechanism == NONE:
            if self.cap is not None:
                raise BudgetExceeded(
                    "the owner's cap forbids training without noise",
                    Reason.POLICY_MISMATCH,
                )
            return ()
        lineage = wanted.slot[:2]
        paid = [charge for charge in self.charges.values() if charge.mechanism != NONE]
        own = [charge for charge in paid if charge.slot[:2] == lineage]
        room = _room(task_budget(policy), own, wanted)
        if self.cap is None:
            return (room,)
        if self.exposed:
            raise BudgetExceeded("data were released without noise before")
        return room, _room(self.cap, paid, wanted)


@dataclass(frozen=True)
class _Room:
    """What is left of a budget and what a release costs, in the same unit.

    Attributes:
      left: At least 0.
      cost: Positive.
    """

    left: int
    cost: int


def _room(budget: Budget, paid: Sequence[Charge], wanted: Charge) -> _Room:
    if _gaussian((*paid, wanted)):
        left = charge_max(budget) - sum(charge.units for charge in paid)
        return _Room(max(0, left), wanted.units)
    index, most = renyi_max(budget)
    left = most - sum(charge.costs[index] for charge in paid)
    return _Room(max(0, left), wanted.costs[index])


def _gaussian(charges: Iterable[Charge]) -> bool:
    """Whether all of them add up on the exact curve."""
    return all(charge.mechanism in GAUSSIAN for charge in charges)


def task_budget(policy: PrivacyPolicy) -> Budget:
    """What a task may spend on one board.

    Raises:
      ConfigError: If it is no guarantee.
    """
    return Budget(policy.epsilon_micro / MICRO, policy.delta_e12 / E12)


def _price(slot: Slot, policy: PrivacyPolicy, windows: int) -> Charge:
    """The charge of one release under a policy, whether it may be paid or not."""
    if not 1 <= windows <= WINDOWS_MAX:
        raise ConfigError(f"must be in [1, {WINDOWS_MAX}]", key="windows")
    check_policy(policy)
    number, sigma_micro = policy.mechanism, policy.sigma_micro
    if number == NONE:
        return Charge(*slot, NONE, 0, windows, MICRO, 1, 0)
    schedule = (policy.sampling_micro, policy.steps)
    units = charge_units(policy, windows)
    charge = Charge(*slot, number, sigma_micro, windows, *schedule, units)
    charge.check()
    return charge

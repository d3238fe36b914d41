"""The privacy ledger of one data set: what it has paid, and what it may still pay.

The state is built from the payloads of an append-only journal and never forgets. It
keeps three rules: the charges of everything ever released from the data set stay
within the owner's cap, over all chains, tasks and model lineages; those of one task
stay within what that task asked for; one base version of one task is charged once,
whatever happens afterwards. The caller has a duty in return: the entry that `charge`
hands out is synced to the journal before the new state is used and before any noise
is drawn.

Budgets are compared as integer sums of charges (`protocol.accounting`). The guarantee
is the cap's: `epsilon()` says what has been used of it.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from protocol.accounting import (
    Budget,
    charge_from_sigma,
    charge_max,
    epsilon_from_charge,
)
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
from protocol.task import E12, MICRO, PrivacyPolicy

NONE = 0
RECORD_GAUSSIAN = 1
MECHANISMS = {"none": NONE, "record-gaussian": RECORD_GAUSSIAN}
"""Numbers by name; they stand on the wire and in ledgers and never change."""

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
      mechanism: A number of `MECHANISMS`.
      sigma_micro: Noise multiplier in units of 10^-6; 0 without noise.
      windows: Records that one raw sample can stand in.
      sampling_micro: Share of the records in a step in units of 10^-6; 10^6 is all.
      steps: Noised steps that the release consists of.
      units: What it costs; 0 without noise, when no charge could express the cost.
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
            except (DecodeError, LimitError) as error:
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

    def task_units(self, chain: ChainId, task: TaskId) -> int:
        """Sum of one task's charges."""
        return sum(
            charge.units
            for charge in self.charges.values()
            if (charge.chain, charge.task) == (chain, task)
        )

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
        return epsilon_from_charge(self.units, at)

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
            left = self._left(slot[0], slot[1], policy)
        except ConfigError as error:
            raise BudgetExceeded(str(error), Reason.POLICY_MISMATCH) from error
        if left is not None and charge.units > left:
            raise BudgetExceeded(f"costs {charge.units} units, {left} are left")
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
            left = self._left(chain, task, policy)
        except (BudgetExceeded, ConfigError):
            return 0
        return None if left is None else left // charge.units

    def _left(self, chain: ChainId, task: TaskId, policy: PrivacyPolicy) -> int | None:
        """Units that the task may still be paid; None where nothing limits them."""
        if policy.mechanism == NONE:
            if self.cap is not None:
                raise BudgetExceeded(
                    "the owner's cap forbids training without noise",
                    Reason.POLICY_MISMATCH,
                )
            return None
        left = charge_max(task_budget(policy)) - self.task_units(chain, task)
        if self.cap is not None:
            if self.exposed:
                raise BudgetExceeded("data were released without noise before")
            left = min(left, charge_max(self.cap) - self.units)
        return max(left, 0)


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
    if policy.mechanism == NONE:
        return Charge(*slot, NONE, 0, windows, MICRO, 1, 0)
    if policy.mechanism != RECORD_GAUSSIAN:
        raise ConfigError(f"{policy.mechanism} is not known here", key="mechanism")
    if policy.clip_q24 < 1:
        raise ConfigError("must be positive", key="clip_q24")
    units = charge_from_sigma(policy.sigma_micro, windows)
    return Charge(*slot, RECORD_GAUSSIAN, policy.sigma_micro, windows, MICRO, 1, units)

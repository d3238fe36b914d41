"""The privacy ledger of one data set: what it has paid, and what it may still pay.

The state is built from the payloads of an append-only journal and never forgets. It
keeps these rules: the charges of everything ever released from the data set stay
within the owner's cap, over all chains, tasks and model lineages; those of one task
stay within what that task asked for; one base version of one task is charged once,
whatever happens afterwards; a task stays what it was when it was first believed. The
caller has a duty in return: the entry that a change hands out is synced to the journal
before the new state is used and, if it is a charge, before the data are looked at.

Noise may vary and mechanisms may mix. As long as everything paid for is Gaussian, sums
of charges are kept within the exact curve (`protocol.privacy.gaussian_dp`); as soon as
something else is among it, sums of Renyi costs are kept within the budget at the
budget's order (`protocol.privacy.renyi_dp`). Both are sums of integers. The guarantee
is the cap's: `epsilon()` says what has been used of it.

What others prove that this ledger does not know (`ProvenReleases`) and what another
ledger had paid for the same data (`CarriedEntry`) only ever adds to the sums; nothing
takes away.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce

from starling.agent.privacy.ledger_entries import (
    BELIEF,
    CHARGE,
    OWNER,
    PROVEN,
    WIDENED,
    BudgetSpent,
    CarriedEntry,
    Charge,
    Entry,
    LedgerOwner,
    PinnedTask,
    Priced,
    ProvenReleases,
    Slot,
    WidenedWindows,
    read_entry,
)
from starling.agent.privacy.release_cost import (
    ReleaseQuote,
    all_gaussian,
    check_labels,
    overdrawn_text,
    price,
    release_quote,
    task_budget,
)
from starling.protocol.dataclass_replace import evolve
from starling.protocol.errors import (
    BudgetExceeded,
    ConfigError,
    DecodeError,
    LimitError,
    Reason,
    StorageError,
    TaskChanged,
)
from starling.protocol.ids import ChainId, Digest, TaskId, Version
from starling.protocol.learning.task import LABEL_RESPONSE, PrivacyPolicy
from starling.protocol.privacy.gaussian_dp import (
    CHARGE_MAX,
    Budget,
    epsilon_from_charge,
)
from starling.protocol.privacy.mechanisms import NONE
from starling.protocol.privacy.renyi_dp import plus, renyi_epsilon

Lineage = tuple[ChainId, TaskId]


@dataclass(frozen=True)
class PrivacyLedger:
    """Everything that a data set has paid; immutable.

    Attributes:
      cap: The owner's budget for all releases ever; None lets the data set be used
        without protection, too.
      charges: By slot, in the order of payment; never shrinks.
      proven: What was paid and is in no charge, in the order in which it was learnt.
      carried: What other ledgers had paid for the data set.
      below: By task of a chain, the version below which none is trained from again.
      beliefs: By task of a chain, the hash of what it was when it was first believed.
      owner, length: The ledger's own id, once it has one; entries of its journal.
      spent: Why everything counts as spent; empty if it does not.
      labels_micro: Epsilon that each label may pay, in units of 10^-6.
    """

    cap: Budget | None
    charges: Mapping[Slot, Charge]
    proven: tuple[ProvenReleases, ...] = ()
    carried: tuple[Priced, ...] = ()
    below: Mapping[Lineage, int] = field(default_factory=dict)
    beliefs: Mapping[Lineage, Digest] = field(default_factory=dict)
    owner: bytes = b""
    spent: str = ""
    length: int = 0
    labels_micro: int = 0

    @classmethod
    def load(cls, cap: Budget | None, payloads: Iterable[bytes]) -> "PrivacyLedger":
        """Rebuilds the state from a journal's payloads.

        Raises:
          StorageError: If a payload is no entry or contradicts an earlier one: the
            ledger cannot be rebuilt from anything else, so that nothing may be
            released.
        """
        ledger = cls(cap, {})
        for number, payload in enumerate(payloads):
            try:
                ledger = _after(ledger, read_entry(payload))
            except (ConfigError, DecodeError, LimitError) as error:
                raise StorageError(
                    f"privacy ledger, entry {number}: {error}"
                ) from error
        return ledger

    def after(self, entry: Entry) -> "PrivacyLedger":
        """The state after one more entry.

        Raises:
          DecodeError: If it contradicts an earlier one, or carries what is no entry.
          ConfigError: If it carries a charge that could not be added up.
        """
        apart = evolve(self, charges=dict(self.charges))
        return _after(apart, entry)

    @property
    def paid(self) -> tuple[Priced, ...]:
        """Everything that was ever paid for the data set."""
        return (*self.charges.values(), *self.proven, *self.carried)

    @property
    def units(self) -> int:
        """Sum of all that was paid, in the units of `protocol.privacy.gaussian_dp`."""
        return sum(paid.curve_units for paid in self.paid)

    @property
    def exposed(self) -> bool:
        """True if anything was ever released without noise."""
        return any(paid.is_exposed for paid in self.paid)

    def charged(self, chain: ChainId, task: TaskId, base: Version) -> Charge | None:
        """Charge of a base version; None if there was none."""
        return self.charges.get((chain, task, base))

    def stated(self, chain: ChainId) -> int:
        """Charges that this board stated on a chain."""
        own: tuple[Priced, ...] = (*self.charges.values(), *self.proven)
        total = sum(paid.units for paid in own if paid.chain == chain)
        return min(total, CHARGE_MAX)

    def releases(self, chain: ChainId) -> int:
        """Number of known releases on a chain."""
        known = sum(paid.releases for paid in self.proven if paid.chain == chain)
        return known + sum(slot[0] == chain for slot in self.charges)

    def believe(
        self, chain: ChainId, task: TaskId, terms: Digest
    ) -> "tuple[PrivacyLedger, bytes | None]":
        """Holds a task to what it was when it was first believed.

        Args:
          chain: Whose task.
          task: Which one.
          terms: Hash of its whole packed spec.

        Returns:
          The next state, and the entry to be synced before it is used; None if the
          task is known.

        Raises:
          TaskChanged: If it was another one.
        """
        known = self.beliefs.get((chain, task))
        if known is not None and known != terms:
            raise TaskChanged(f"task {task} is another than was first believed")
        if known is not None:
            return self, None
        entry = PinnedTask(2, chain, task, terms)
        return self.after(entry), BELIEF.pack(entry)

    def name(self, identity: bytes) -> "tuple[PrivacyLedger, bytes]":
        """Gives the ledger its id; it has none yet."""
        entry = LedgerOwner(1, identity)
        return self.after(entry), OWNER.pack(entry)

    def widen(self, windows: int) -> "tuple[PrivacyLedger, bytes | None]":
        """Prices everything anew, if a sample stood in more records than was thought.

        The total may pass the cap then: the board says so, and trains no more. Fewer
        windows change nothing, and give nothing back.

        Returns:
          The next state, and the entry to be synced; None if nothing was cheaper.
        """
        if all(paid.windows >= windows for paid in self.paid):
            return self, None
        entry = WidenedWindows(4, windows)
        return self.after(entry), WIDENED.pack(entry)

    def admit(self, proven: ProvenReleases) -> "tuple[PrivacyLedger, bytes]":
        """Counts what somebody else proves; the entry is to be synced."""
        return self.after(proven), PROVEN.pack(proven)

    def epsilon(self, delta: float | None = None) -> float:
        """The total epsilon that the data set has paid, over everything.

        Args:
          delta: The delta to state it at; the cap's by default.

        Returns:
          Infinity if anything was released without noise, or counts as spent.

        Raises:
          ConfigError: If there is neither a delta nor a cap, or delta is out of bounds.
        """
        if delta is None and self.cap is None:
            raise ConfigError("needed where no cap names one", key="delta")
        if self.exposed or self.spent:
            return math.inf
        at = delta if delta is not None or self.cap is None else self.cap.delta
        assert at is not None
        paid = self.paid
        if all_gaussian(paid):
            return epsilon_from_charge(self.units, at)
        return renyi_epsilon(reduce(plus, (each.costs for each in paid)), at)

    def quote(self, slot: Slot, policy: PrivacyPolicy, windows: int = 1) -> "Charge":
        """Price of training one base version; refused if it may not be paid.

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
            detail = "this base version was charged before"
            raise BudgetExceeded(detail, Reason.REPLAYED)
        try:
            charge = price(slot, policy, windows)
            rooms = self._rooms(charge, policy)
        except ConfigError as error:
            raise BudgetExceeded(str(error), Reason.POLICY_MISMATCH) from error
        if any(each.cost > each.left for each in rooms):
            raise BudgetExceeded(self._overdrawn(charge, policy))
        if slot[2] < self.below.get(slot[:2], 0):
            detail = "this base version may have been charged before"
            raise BudgetExceeded(detail, Reason.REPLAYED)
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
        assert slot not in self.charges
        return self.after(charge), charge, CHARGE.pack(charge)

    def releases_left(
        self, chain: ChainId, task: TaskId, policy: PrivacyPolicy, windows: int = 1
    ) -> int | None:
        """Number of releases that a task has left; None for no limit, 0 if refused."""
        try:
            charge = price((chain, task, Version(0)), policy, windows)
            rooms = self._rooms(charge, policy)
        except (BudgetExceeded, ConfigError):
            return 0
        return min((each.left // each.cost for each in rooms), default=None)

    def _overdrawn(self, wanted: Charge, policy: PrivacyPolicy) -> str:
        """Says in epsilon what another release would come to."""
        task = task_budget(policy)
        limit = task if self.cap is None else self.cap
        paid = self.epsilon(limit.delta) if self.paid else 0.0
        after = self.after(wanted).epsilon(limit.delta)
        return overdrawn_text(paid, after, task, self.cap)

    def _rooms(
        self, wanted: Charge, policy: PrivacyPolicy
    ) -> "tuple[ReleaseQuote, ...]":
        """Limits of a charge: the task's budget, and the cap if there is one."""
        if policy.mechanism == NONE:
            if self.cap is not None:
                raise BudgetExceeded(
                    "the owner's cap forbids training without noise",
                    Reason.POLICY_MISMATCH,
                )
            return ()
        if self.spent:
            raise BudgetExceeded(f"everything counts as spent: {self.spent}")
        if policy.mechanism == LABEL_RESPONSE:
            check_labels(policy, self.labels_micro)
            return ()
        lineage = wanted.slot[:2]
        own: list[Priced] = [
            charge
            for slot, charge in self.charges.items()
            if slot[:2] == lineage and not charge.is_exposed
        ]
        # It is not known for which task of the chain they were: they count for each.
        own += [paid for paid in self.proven if paid.chain == wanted.chain]
        lineage_room = release_quote(task_budget(policy), own, wanted)
        if self.cap is None:
            return (lineage_room,)
        if self.exposed:
            raise BudgetExceeded("data were released without noise before")
        noisy = [paid for paid in self.paid if not paid.is_exposed]
        return lineage_room, release_quote(self.cap, noisy, wanted)


def _after(ledger: PrivacyLedger, entry: Entry) -> PrivacyLedger:
    """As `PrivacyLedger.after`, into the same mapping of charges.

    To copy it for each of the thousands of charges of a journal would be quadratic.
    """
    grown = evolve(ledger, length=ledger.length + 1)
    match entry:
        case Charge():
            if entry.slot in ledger.charges:
                raise DecodeError("paid before")
            charges = ledger.charges
            assert isinstance(charges, dict)
            charges[entry.slot] = entry
            return grown
        case ProvenReleases(chain=chain, task=task):
            below = max(entry.below, ledger.below.get((chain, task), 0))
            known = {**ledger.below, (chain, task): below}
            return evolve(grown, proven=(*ledger.proven, entry), below=known)
        case _:
            return _rare(grown, entry)


def _rare(
    ledger: PrivacyLedger,
    entry: WidenedWindows | BudgetSpent | CarriedEntry | LedgerOwner | PinnedTask,
) -> PrivacyLedger:
    match entry:
        case LedgerOwner():
            if ledger.owner:
                raise DecodeError("has an id already")
            return evolve(ledger, owner=entry.ledger)
        case PinnedTask(chain=chain, task=task):
            if (chain, task) in ledger.beliefs:
                raise DecodeError("believed before")
            known = {**ledger.beliefs, (chain, task): entry.terms}
            return evolve(ledger, beliefs=known)
        case WidenedWindows(windows=windows):
            charges = ledger.charges.items()
            return evolve(
                ledger,
                charges={at: paid.widened(windows) for at, paid in charges},
                proven=tuple(paid.widened(windows) for paid in ledger.proven),
                carried=tuple(paid.widened(windows) for paid in ledger.carried),
            )
        case BudgetSpent():
            return evolve(ledger, spent=entry.why or "no reason is given")
        case CarriedEntry():
            return _carrying(ledger, read_entry(entry.payload))


def _carrying(ledger: PrivacyLedger, inner: Entry) -> PrivacyLedger:
    """Counts what an entry of another ledger costs."""
    match inner:
        case Charge() | ProvenReleases():
            return evolve(ledger, carried=(*ledger.carried, inner))
        case WidenedWindows(windows=windows):
            widened = (paid.widened(windows) for paid in ledger.carried)
            return evolve(ledger, carried=tuple(widened))
        case BudgetSpent():
            return _rare(ledger, inner)
        case CarriedEntry():
            return _carrying(ledger, read_entry(inner.payload))
        case LedgerOwner() | PinnedTask():
            return ledger

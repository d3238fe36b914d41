"""Entries of the privacy ledger's journal: added, and never taken back.

A charge is an array of nine fields; every other entry begins with the number of its
form. What an entry costs is a function of the entry alone, so that a ledger that is
read again is the ledger that was written.

Letters: `w` windows, the records that one raw sample can stand in.
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from operator import attrgetter
from typing import Annotated, Any

from starling.protocol.errors import DecodeError
from starling.protocol.ids import ChainId, Digest, TaskId, Version
from starling.protocol.learning.task import LABEL_RESPONSE, MICRO
from starling.protocol.privacy.gaussian_dp import CHARGE_MAX, charge_from_sigma
from starling.protocol.privacy.mechanisms import (
    GAUSSIAN,
    NONE,
    RECORD_GAUSSIAN,
    release_costs,
)
from starling.protocol.privacy.renyi_dp import COST_MAX, ORDERS, Costs, gaussian_costs
from starling.protocol.schema.msgpack_codec import (
    Byte,
    Codec,
    Structure,
    Uint,
    binary,
    exactly,
    many,
    structure,
    text,
    uint,
)

Slot = tuple[ChainId, TaskId, Version]
"""What is charged at most once: a base version of a task of a chain."""
WINDOWS_MAX = 1 << 10
LEDGER_ID_BYTES = 16
RATES_MAX = 16
_ENTRY_BYTES_MAX = 1024

_FORM_AT = 1


class Charge(Structure, frozen=True):
    """One release, as the journal keeps it.

    Attributes:
      chain: Whose task it was for.
      task: Which task.
      base: Model version that was trained from.
      mechanism: A number of `protocol.privacy.mechanisms.MECHANISMS`.
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
    mechanism: Byte
    sigma_micro: Uint
    windows: Annotated[int, uint(WINDOWS_MAX, 1)]
    sampling_micro: Annotated[int, uint(MICRO)]
    steps: Uint
    units: Uint

    @property
    def slot(self) -> Slot:
        """The base version that is used up."""
        return self.chain, self.task, self.base

    @property
    def kinds(self) -> frozenset[int]:
        """Its mechanism."""
        return frozenset({self.mechanism})

    @property
    def is_exposed(self) -> bool:
        """True if it was released without noise."""
        return self.mechanism == NONE

    @property
    def is_gaussian(self) -> bool:
        """True if it adds up on the exact curve, or costs nothing here."""
        return self.mechanism in (*GAUSSIAN, LABEL_RESPONSE)

    @property
    def curve_units(self) -> int:
        """Units on the exact curve: more than stated once `w` was raised."""
        # At device level the noise hides all records at once, so that windows do not
        # weigh.
        if self.mechanism != RECORD_GAUSSIAN:
            return self.units
        return max(self.units, charge_from_sigma(self.sigma_micro, self.windows))

    @property
    def costs(self) -> Costs:
        """Cost at each Renyi order; only for a release with noise."""
        schedule = (self.sampling_micro, self.steps)
        return release_costs(self.mechanism, self.sigma_micro, *schedule, self.windows)

    def widened(self, windows: int) -> "Charge":
        """The same release, once it is known that a sample stood in more records."""
        return self if windows <= self.windows else replace(self, windows=windows)

    def check(self) -> None:
        """Refuses what could not be added up.

        Raises:
          ConfigError: If its mechanism is not known or a number is out of bounds.
        """
        if self.mechanism != NONE:
            _ = self.costs


CHARGE = structure(Charge, 256)


class LedgerOwner(Structure, frozen=True):
    """Identity of a ledger; data sets name it, so that no other one takes them."""

    form: Annotated[int, uint(1, 1)]
    ledger: Annotated[bytes, exactly(LEDGER_ID_BYTES)]


class PinnedTask(Structure, frozen=True):
    """Task as it was first trusted.

    Attributes:
      form: Of the entry.
      chain: Whose task.
      task: Its number.
      terms: Hash of its whole packed spec.
    """

    form: Annotated[int, uint(2, 2)]
    chain: ChainId
    task: TaskId
    terms: Digest


class ReleasePrice(Structure, frozen=True):
    """Price of one release of a non-Gaussian mechanism: noise and charge."""

    mechanism: Annotated[int, uint(7, 1)]
    sigma_micro: Uint
    sampling_micro: Annotated[int, uint(MICRO)]
    steps: Uint
    units: Annotated[int, uint(least=1)]


RATE_ORDER = attrgetter("mechanism", "units", "sigma_micro", "sampling_micro", "steps")
"""Order of prices in an entry: by all fields, so that a set's own order never shows."""


class ProvenReleases(Structure, frozen=True, dict=True):
    """Releases that this ledger did not know of and somebody else proves.

    Attributes:
      form: Of the entry.
      chain: On which they were.
      task: Whose versions `below` are meant.
      below: No version of the task below this one is trained from again.
      releases: How many, as far as is known.
      units: What they were stated to cost.
      spare: Of these units, those of one release that may have been on its way to the
        chain. It is told as forfeited.
      windows: w that they count with; `units` are taken to be stated for one.
      mechanisms: Bit i is set if mechanism i may be among them.
      rates: Of the non-Gaussian ones. If there is none for such a mechanism, nothing
        bounds what was paid, and everything counts as spent.
    """

    form: Annotated[int, uint(3, 3)]
    chain: ChainId
    task: TaskId
    below: Uint
    releases: Uint
    units: Uint
    spare: Uint
    windows: Annotated[int, uint(WINDOWS_MAX, 1)]
    mechanisms: Uint
    rates: Annotated[tuple[ReleasePrice, ...], many(RATES_MAX)]

    @property
    def kinds(self) -> frozenset[int]:
        """Mechanisms that may be among them."""
        return frozenset(at for at in range(8) if self.mechanisms >> at & 1)

    @property
    def is_exposed(self) -> bool:
        """True if something may have been released without noise."""
        return NONE in self.kinds

    @property
    def draws_labels(self) -> bool:
        """True if labels may have been drawn of which nothing is known here."""
        return LABEL_RESPONSE in self.kinds

    @property
    def is_gaussian(self) -> bool:
        """True if all of it adds up on the exact curve."""
        return all(number in GAUSSIAN for number in self._noisy)

    @property
    def curve_units(self) -> int:
        """Units on the exact curve: as if all of it was for records."""
        # One above the largest charge is more than any budget has room for, and stays a
        # number that can be packed and added.
        return min(self.units * self.windows**2, CHARGE_MAX + 1)

    @property
    def _noisy(self) -> frozenset[int]:
        return self.kinds - {NONE, LABEL_RESPONSE}

    @cached_property
    def costs(self) -> Costs:
        """At each Renyi order the most that so many units can have bought."""
        # Gaussian noise is always taken to be among them: the chain's total may hold a
        # lost charge of a mechanism that its mask does not name.
        tables = [gaussian_costs(self.curve_units)]
        rated = {rate.mechanism for rate in self.rates}
        if any(at not in GAUSSIAN and at not in rated for at in self._noisy):
            return (COST_MAX,) * len(ORDERS)
        for rate in self.rates:
            schedule = (rate.sampling_micro, rate.steps)
            each = release_costs(
                rate.mechanism, rate.sigma_micro, *schedule, self.windows
            )
            # Rounded up, and never fewer than the releases that are known by number.
            bought = max(-(-self.units // rate.units), self.releases)
            tables.append(tuple(min(COST_MAX, bought * cost) for cost in each))
        return tuple(max(costs) for costs in zip(*tables, strict=True))

    def widened(self, windows: int) -> "ProvenReleases":
        """The same releases, once it is known that a sample stood in more records."""
        return self if windows <= self.windows else replace(self, windows=windows)


class WidenedWindows(Structure, frozen=True):
    """Everything before counts as if a sample could stand in so many records."""

    form: Annotated[int, uint(4, 4)]
    windows: Annotated[int, uint(WINDOWS_MAX, 1)]


class CarriedEntry(Structure, frozen=True):
    """An entry of another ledger that had the same data set before."""

    form: Annotated[int, uint(5, 5)]
    ledger: Annotated[bytes, exactly(LEDGER_ID_BYTES)]
    payload: Annotated[bytes, binary(_ENTRY_BYTES_MAX)]


class BudgetSpent(Structure, frozen=True):
    """The owner's word that everything counts as spent, and why."""

    form: Annotated[int, uint(6, 6)]
    why: Annotated[str, text(256)]


Priced = Charge | ProvenReleases
Entry = (
    Charge
    | LedgerOwner
    | PinnedTask
    | ProvenReleases
    | WidenedWindows
    | CarriedEntry
    | BudgetSpent
)
OWNER = structure(LedgerOwner, 64)
BELIEF = structure(PinnedTask, 128)
PROVEN = structure(ProvenReleases, _ENTRY_BYTES_MAX)
WIDENED = structure(WidenedWindows, 16)
CARRIED = structure(CarriedEntry, 2048)
SPENT = structure(BudgetSpent, 512)
_FORMS: dict[int, Codec[Any]] = {
    1: OWNER,
    2: BELIEF,
    3: PROVEN,
    4: WIDENED,
    5: CARRIED,
    6: SPENT,
}


def read_entry(payload: bytes) -> Entry:
    """Decodes an entry of the journal.

    Raises:
      DecodeError, LimitError: If it is none.
      ConfigError: If it is a charge that could not be added up.
    """
    if len(payload) <= _FORM_AT:
        raise DecodeError("too short for an entry")
    # In a charge this byte is msgpack's type byte of the chain's id, which is above
    # every form's number.
    codec = _FORMS.get(payload[_FORM_AT])
    if codec is not None:
        entry: Entry = codec.unpack(payload)
        return entry
    charge = CHARGE.unpack(payload)
    charge.check()
    return charge


def rates_of(charges: Iterable[Charge]) -> tuple[ReleasePrice, ...]:
    """Prices of the non-Gaussian mechanisms among some releases.

    Of releases for overlapping windows that is not known, since they state more. None
    is given where there are more kinds than an entry holds.
    """
    rates = {
        ReleasePrice(
            charge.mechanism,
            charge.sigma_micro,
            charge.sampling_micro,
            charge.steps,
            charge.units,
        )
        for charge in charges
        if not (charge.is_gaussian or charge.is_exposed)
        and charge.units
        and charge.windows == 1
    }
    if len(rates) > RATES_MAX:
        return ()
    return tuple(sorted(rates, key=RATE_ORDER))

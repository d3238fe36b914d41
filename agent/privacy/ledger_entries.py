"""What the privacy ledger's journal holds: entries that are added and never taken back.

A charge is an array of nine fields; every other entry begins with the number of its
form. What an entry costs is a function of the entry alone, so that a ledger that is
read again is the ledger that was written.

Letters: `w` windows, the records that one raw sample can stand in.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from starling.protocol.errors import DecodeError
from starling.protocol.ids import DIGEST_BYTES, ChainId, Digest, TaskId, Version
from starling.protocol.learning.task import MICRO
from starling.protocol.privacy.gaussian_dp import CHARGE_MAX, charge_from_sigma
from starling.protocol.privacy.mechanisms import (
    GAUSSIAN,
    NONE,
    RECORD_GAUSSIAN,
    release_costs,
)
from starling.protocol.privacy.renyi_dp import COST_MAX, ORDERS, Costs, gaussian_costs
from starling.protocol.schema.msgpack_codec import (
    Codec,
    binary,
    exactly,
    many,
    record,
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
_CHAIN = exactly(DIGEST_BYTES)
_FORM_AT = 1


@dataclass(frozen=True)
class Charge:
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
    def kinds(self) -> frozenset[int]:
        """Its mechanism."""
        return frozenset({self.mechanism})

    @property
    def is_exposed(self) -> bool:
        """Whether it was released without noise."""
        return self.mechanism == NONE

    @property
    def is_gaussian(self) -> bool:
        """Whether it adds up on the exact curve."""
        return self.mechanism in GAUSSIAN

    @property
    def curve_units(self) -> int:
        """What it adds on the exact curve: more than stated once `w` was raised."""
        if self.mechanism != RECORD_GAUSSIAN:
            return self.units
        return max(self.units, charge_from_sigma(self.sigma_micro, self.windows))

    @property
    def costs(self) -> Costs:
        """What it costs at each Renyi order; it has noise."""
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


CHARGE = structure(
    Charge,
    256,
    _CHAIN,
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
class LedgerOwner:
    """Which ledger this is: data sets name it, so that no other one takes them."""

    form: int
    ledger: bytes


@dataclass(frozen=True)
class PinnedTask:
    """What a task was when it was first believed.

    Attributes:
      form: Of the entry.
      chain: Whose task.
      task: Its number.
      terms: Hash of its whole packed spec.
    """

    form: int
    chain: ChainId
    task: TaskId
    terms: Digest


@dataclass(frozen=True)
class ReleasePrice:
    """What a unit of a non-Gaussian mechanism buys: one release's noise and charge."""

    mechanism: int
    sigma_micro: int
    sampling_micro: int
    steps: int
    units: int


@dataclass(frozen=True)
class ProvenReleases:
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

    form: int
    chain: ChainId
    task: TaskId
    below: int
    releases: int
    units: int
    spare: int
    windows: int
    mechanisms: int
    rates: tuple[ReleasePrice, ...]

    @property
    def kinds(self) -> frozenset[int]:
        """Mechanisms that may be among them."""
        return frozenset(at for at in range(8) if self.mechanisms >> at & 1)

    @property
    def is_exposed(self) -> bool:
        """Whether something may have been released without noise."""
        return NONE in self.kinds

    @property
    def is_gaussian(self) -> bool:
        """Whether all of it adds up on the exact curve."""
        return all(number in GAUSSIAN for number in self._noisy)

    @property
    def curve_units(self) -> int:
        """What it adds on the exact curve: as if all of it was for records."""
        return min(self.units * self.windows**2, CHARGE_MAX + 1)

    @property
    def _noisy(self) -> frozenset[int]:
        return self.kinds - {NONE}

    @cached_property
    def costs(self) -> Costs:
        """At each Renyi order the most that so many units can have bought."""
        tables = [gaussian_costs(self.curve_units)]
        rated = {rate.mechanism for rate in self.rates}
        if any(at not in GAUSSIAN and at not in rated for at in self._noisy):
            return (COST_MAX,) * len(ORDERS)
        for rate in self.rates:
            schedule = (rate.sampling_micro, rate.steps)
            each = release_costs(
                rate.mechanism, rate.sigma_micro, *schedule, self.windows
            )
            bought = max(-(-self.units // rate.units), self.releases)
            tables.append(tuple(min(COST_MAX, bought * cost) for cost in each))
        return tuple(max(costs) for costs in zip(*tables, strict=True))

    def widened(self, windows: int) -> "ProvenReleases":
        """The same releases, once it is known that a sample stood in more records."""
        return self if windows <= self.windows else replace(self, windows=windows)


@dataclass(frozen=True)
class WidenedWindows:
    """Everything before counts as if a sample could stand in so many records."""

    form: int
    windows: int


@dataclass(frozen=True)
class CarriedEntry:
    """An entry of another ledger that had the same data set before."""

    form: int
    ledger: bytes
    payload: bytes


@dataclass(frozen=True)
class BudgetSpent:
    """The owner's word that everything counts as spent, and why."""

    form: int
    why: str


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
_RATE = record(ReleasePrice, uint(7, 1), uint(), uint(MICRO), uint(), uint(least=1))
OWNER = structure(LedgerOwner, 64, uint(1, 1), exactly(LEDGER_ID_BYTES))
BELIEF = structure(PinnedTask, 128, uint(2, 2), _CHAIN, uint(), exactly(DIGEST_BYTES))
PROVEN = structure(
    ProvenReleases,
    _ENTRY_BYTES_MAX,
    uint(3, 3),
    _CHAIN,
    uint(),
    uint(),
    uint(),
    uint(),
    uint(),
    uint(WINDOWS_MAX, 1),
    uint(),
    many(_RATE, RATES_MAX),
)
WIDENED = structure(WidenedWindows, 16, uint(4, 4), uint(WINDOWS_MAX, 1))
CARRIED = structure(
    CarriedEntry, 2048, uint(5, 5), exactly(LEDGER_ID_BYTES), binary(_ENTRY_BYTES_MAX)
)
SPENT = structure(BudgetSpent, 512, uint(6, 6), text(256))
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
    codec = _FORMS.get(payload[_FORM_AT])
    if codec is not None:
        entry: Entry = codec.unpack(payload)
        return entry
    charge = CHARGE.unpack(payload)
    charge.check()
    return charge


def rates_of(charges: Iterable[Charge]) -> tuple[ReleasePrice, ...]:
    """What units of the non-Gaussian mechanisms among some releases buy.

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
    return tuple(
        sorted(rates, key=lambda rate: (rate.mechanism, rate.units, rate.sigma_micro))
    )

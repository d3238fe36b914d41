"""Snapshot of a running fleet, for the view and the report.

Times are seconds since the task was published. A figure that is not known (yet) is
None, and is shown as a dash, never as a zero.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from starling.fleet.attacks.attack_schedule import BoardAttack
from starling.protocol.wire.message_bodies import DevicePhase

CRASH_ONLY = "CRASH-ONLY: safe while nobody lies"
"""Said wherever a chain is shown whose genesis declares that model."""
SPARK_LEVELS = "▁▂▃▄▅▆▇█"
_RECENT = 10
"""Versions that the usual wait for one is measured by."""
_IDLE_S = 60.0
"""A fleet is idle after this without a version, and `_FAR_LONGER` usual waits."""
_FAR_LONGER = 10


@dataclass(frozen=True)
class VersionPoint:
    """One final version of the model.

    Attributes:
      version: From 0, the initial model.
      time_s: When it became final.
      updates: How many made it; 0 for the initial one.
      accuracy: On the held-out examples, in [0, 1].
      loss: On the held-out examples.
      staleness_mean: Of its updates, in versions.
      epsilon_max: Largest epsilon that any board's data had paid by then.
    """

    version: int
    time_s: float
    updates: int
    accuracy: float | None = None
    loss: float | None = None
    staleness_mean: float | None = None
    epsilon_max: float | None = None

    @property
    def is_evaluated(self) -> bool:
        """True once it was tried on held-out examples; numbers have a loss alone."""
        return self.accuracy is not None or self.loss is not None


@dataclass(frozen=True)
class DevicePoint:
    """One board.

    Attributes:
      id: Its device name.
      phase: `DevicePhase`, as it last said or its last will says.
      version: Model version that it holds.
      accepted: Updates accepted.
      refused: Updates refused, by reason.
      epsilon: What its data has paid, over all tasks.
      bytes_up: Bytes it published.
      bytes_down: Bytes it received.
      number: Its place in the fleet, from 1; 0 if it is not known.
      failed: Trainings that came to nothing.
      failure: Why the last of them did; empty without one.
    """

    id: str
    phase: DevicePhase = DevicePhase.INIT
    version: int | None = None
    accepted: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)
    epsilon: float = 0.0
    bytes_up: int = 0
    bytes_down: int = 0
    number: int = 0
    failed: int = 0
    failure: str = ""


@dataclass(frozen=True)
class CoordinatorPoint:
    """One coordinator.

    Attributes:
      id: Its device name.
      height: Of its chain.
      tip: Block id at that height, in hexadecimal.
      state_root: In that block, in hexadecimal.
      rounds: Consensus rounds beyond the first, over all heights.
      faults: Versions that validators attested otherwise than what became final.
      finality_s: Median time from a transaction's arrival to its certificate.
      round: Of the height that it decides.
      down: Whether it wrote nothing for some seconds.
      named: Validators that were outvoted on a version, as its chain says.
      number: From 1.
      hears: Numbers of the others that it heard of lately.
      signed: Whether its vote certifies the newest block.
      silence: Why it does not vote; empty if it does.
      convicted: Validators with what its chain proves that they did.
      split: Why the open version cannot become final; empty if it can.
      ordered: What the timeline has it do wrong now.
    """

    id: str
    height: int = 0
    tip: str = ""
    state_root: str = ""
    rounds: int = 0
    faults: int = 0
    finality_s: float | None = None
    round: int = 0
    down: bool = False
    named: tuple[str, ...] = ()
    number: int = 1
    hears: tuple[int, ...] = ()
    signed: bool = False
    silence: str = ""
    convicted: tuple[tuple[str, str], ...] = ()
    split: str = ""
    ordered: str = ""


@dataclass(frozen=True)
class HeldOutLoss:
    """Held-out losses of the task, by a quorum of coordinators.

    Attributes:
      best: Version with the lowest loss.
      best_loss: Its loss.
      newest: The newest version with a loss.
      newest_loss: Its loss.
      worse_by: Share of the best loss by which it is above it; None if that is zero.
      is_worse: Whether that is more than the task's margin.
      paused: Whether no leases are granted, as no version was better for too long.
      text: The same for people; empty while all is well.
    """

    best: int
    best_loss: float
    newest: int
    newest_loss: float
    worse_by: float | None = None
    is_worse: bool = False
    paused: bool = False
    text: str = ""


@dataclass(frozen=True)
class PrivacyTerms:
    """Privacy terms behind a shown epsilon.

    Attributes:
      unit: What one unit of protected data is.
      adjacency: How two data sets differ that must look alike.
      epsilon_cap: A board's data pays at most this.
      delta: Of that epsilon.
      noise_multiplier: Deviation of the noise over charged sensitivity; 0 where it is
        in the labels.
      clip: Norm to which each example's gradient is clipped.
      releases: Updates that the cap allows a board.
    """

    unit: str
    adjacency: str
    epsilon_cap: float
    delta: float
    noise_multiplier: float
    clip: float
    releases: int

    @property
    def delta_text(self) -> str:
        """Delta, for people."""
        return f"{self.delta:g}"

    @property
    def drawn_text(self) -> str:
        """Draws of noise or labels and their place, for people."""
        if not self.noise_multiplier:
            return "each label drawn once on its board, inputs public"
        return "noise drawn on the board"

    @property
    def noise_text(self) -> str:
        """Place and size of the noise, for people."""
        if not self.noise_multiplier:
            return "in the labels, drawn once"
        return f"{self.noise_multiplier:.2f} x clip {self.clip:g}"


@dataclass(frozen=True)
class RunHeading:
    """Facts that do not change while a fleet runs.

    Attributes:
      title: What is trained, on what, by how many.
      until_version: Where it ends; 0 for nowhere.
      privacy: None without privacy.
      crash_only: Whether nothing holds if a coordinator lies.
      attacks: What boards were told to falsify, in a simulation.
      notes: What whoever looks at the run should know of its data.
    """

    title: str
    until_version: int
    privacy: PrivacyTerms | None
    crash_only: bool = False
    attacks: tuple[BoardAttack, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunEvent:
    """Something that happened and is worth a line of its own."""

    time_s: float
    text: str


@dataclass(frozen=True)
class FinalityPause:
    """A time in which no block was decided.

    Attributes:
      from_s: When the last block before it was seen.
      until_s: When the next one was; None if none was yet.
      why: As the coordinators' statuses say.
    """

    from_s: float
    until_s: float | None
    why: str

    @property
    def since(self) -> str:
        """Time at which it began, for people."""
        return clock_text(self.from_s)


@dataclass(frozen=True)
class RunSnapshot:
    """The fleet at `time_s`.

    Attributes:
      time_s: Since the task was published.
      versions: Final ones, rising.
      devices: By id.
      coordinators: By id.
      restarts: Processes that died and were started again.
      events: What else happened so far, in order.
      pauses: Of finality, in order; the last one may not have ended.
      quorum: How many coordinators decide; 0 if it is not known yet.
      held_out: Best and newest loss; None while no quorum has stated one.
    """

    time_s: float
    versions: tuple[VersionPoint, ...] = ()
    devices: tuple[DevicePoint, ...] = ()
    coordinators: tuple[CoordinatorPoint, ...] = ()
    restarts: int = 0
    events: tuple[RunEvent, ...] = ()
    pauses: tuple[FinalityPause, ...] = ()
    quorum: int = 0
    held_out: HeldOutLoss | None = None

    @property
    def paused(self) -> FinalityPause | None:
        """The pause that has not ended."""
        newest = self.pauses[-1] if self.pauses else None
        return newest if newest and newest.until_s is None else None

    @property
    def version(self) -> int:
        """Newest final version; 0 before there is another."""
        return self.versions[-1].version if self.versions else 0

    @property
    def accuracy(self) -> float | None:
        """Newest known accuracy."""
        known = [p.accuracy for p in self.versions if p.accuracy is not None]
        return known[-1] if known else None

    @property
    def losses(self) -> list[float]:
        """Those that are known, in order of the versions."""
        return [p.loss for p in self.versions if p.loss is not None]

    @property
    def accepted(self) -> int:
        """Updates accepted from all boards."""
        return sum(device.accepted for device in self.devices)

    @property
    def updates_per_s(self) -> float:
        """Updates that entered a version, over the time since the first version."""
        if not self.versions or not self.time_s:
            return 0.0
        made = sum(point.updates for point in self.versions)
        return made / max(self.versions[-1].time_s, 1e-3)

    @property
    def is_idle(self) -> bool:
        """True if no version came for a minute, and for far longer than usual."""
        recent = self.versions[-_RECENT - 1 :]
        if len(recent) < 2:
            return False
        usual_s = (recent[-1].time_s - recent[0].time_s) / (len(recent) - 1)
        waited_s = self.time_s - recent[-1].time_s
        return waited_s > max(_IDLE_S, _FAR_LONGER * usual_s)

    @property
    def bytes_up(self) -> int:
        """From all boards."""
        return sum(device.bytes_up for device in self.devices)

    @property
    def bytes_down(self) -> int:
        """To all boards."""
        return sum(device.bytes_down for device in self.devices)

    @property
    def epsilon_max(self) -> float:
        """The most that any board's data has paid."""
        return max((device.epsilon for device in self.devices), default=0.0)

    @property
    def height(self) -> int:
        """Of the longest chain."""
        return max((point.height for point in self.coordinators), default=0)

    @property
    def finality_s(self) -> float | None:
        """The slowest coordinator's."""
        times = [p.finality_s for p in self.coordinators if p.finality_s is not None]
        return max(times, default=None)

    def phases(self) -> list[tuple[DevicePhase, int]]:
        """Number of boards in each phase, in the phases' order."""
        counts = Counter(device.phase for device in self.devices)
        return sorted((DevicePhase(phase), n) for phase, n in counts.items())

    def refusals(self) -> list[tuple[str, int]]:
        """Number of refusals for each reason, most frequent first."""
        counts: Counter[str] = Counter()
        for device in self.devices:
            counts.update(device.refused)
        return sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))

    def remaining_s(self, until_version: int) -> float | None:
        """Time to that version at the pace so far."""
        if self.version < 1:
            return None
        pace = self.versions[-1].time_s / self.version
        waited = self.time_s - self.versions[-1].time_s
        return max(0.0, (until_version - self.version) * pace - waited)


def sparkline(values: list[float], width: int) -> str:
    """Small bars from the least to the largest of the values.

    Args:
      values: Oldest first; the newest ends the line.
      width: Most characters; more values are thinned out evenly.
    """
    if not values:
        return ""
    step = max(1.0, len(values) / width)
    count = min(width, len(values))
    # Counted from the end: the newest value always shows.
    shown = [values[len(values) - 1 - int(i * step)] for i in range(count)][::-1]
    low, high = min(shown), max(shown)
    top = len(SPARK_LEVELS) - 1
    scale = top / (high - low) if high > low else 0.0
    return "".join(SPARK_LEVELS[round((value - low) * scale)] for value in shown)


def bytes_text(count: float) -> str:
    """A number of bytes for people: `950 B`, `12.3 kB`, `4.5 MB`."""
    for unit in ("B", "kB", "MB"):
        if count < 999.5:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def clock_text(seconds: float | None) -> str:
    """A duration as `m:ss`, or in days and hours; a dash if it is not known."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(int(seconds), 60)
    if minutes >= 24 * 60:
        return f"{minutes // (24 * 60)} d {minutes // 60 % 24} h"
    return f"{minutes}:{rest:02d}"

"""A board whose disk, trainer and network are in memory."""

import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from starling.agent.machine import begin, step
from starling.agent.privacy.ledger import PrivacyLedger
from starling.agent.privacy.ledger_entries import Charge, read_entry
from starling.agent.round.readiness import condition
from starling.agent.step import effects as f
from starling.agent.step import events as e
from starling.agent.step.effects import Effect, SpoolEntry
from starling.agent.step.ongoing_work import (
    PendingUpload,
)
from starling.agent.step.state import (
    AgentState,
    ReadinessCondition,
)
from starling.protocol.ids import Digest, H
from starling.protocol.privacy.gaussian_dp import Budget
from starling.protocol.wire.chunks import CHUNK, split
from starling.protocol.wire.envelope import Envelope
from starling.protocol.wire.message_bodies import UPLOAD
from tests.unit.agent.fake_coordinator import (
    CAP,
    PINNED,
    TOPICS,
    FakeCoordinator,
    manifest,
    settings,
)


class PowerCut(Exception):
    """The board loses power before it carries out an effect."""


@dataclass
class Disk:
    """What outlives a power cut.

    Attributes:
      journal: The privacy ledger's.
      spool: Uploads by base version.
      accepted: Update ids with a receipt.
      blobs: By digest.
      progress: The newest manifest and whom to trust.
      boot: Starts.
      proofs: Of final uploads, by base version.
      labels: The label journal's.
    """

    journal: list[bytes] = field(default_factory=list)
    spool: dict[int, tuple[SpoolEntry, bytes]] = field(default_factory=dict)
    accepted: set[Digest] = field(default_factory=set)
    blobs: dict[Digest, bytes] = field(default_factory=dict)
    progress: f.PersistTrust | None = None
    boot: int = 0
    proofs: dict[int, bytes] = field(default_factory=dict)
    labels: list[bytes] = field(default_factory=list)

    def charged(self) -> set[int]:
        """Base versions that were paid for."""
        return {charge.base for charge in self.charges()}

    def charges(self) -> list[Charge]:
        """The charges among the journal's entries."""
        entries = [read_entry(payload) for payload in self.journal]
        return [entry for entry in entries if isinstance(entry, Charge)]


class BoardHarness:
    """A board whose effects act upon a `Disk` and a `FakeCoordinator`."""

    def __init__(
        self,
        disk: Disk,
        meadow: FakeCoordinator,
        cut_before: Callable[[int], bool] = lambda number: False,
        cap: Budget | None = CAP,
        **changes: object,
    ) -> None:
        """Starts from the disk.

        Args:
          disk: What it finds.
          meadow: Whom it speaks to.
          cut_before: Whether the power goes before the effect of this number.
          cap: The owner's budget.
          **changes: Of the settings.
        """
        self.disk, self.meadow, self.cut_before = disk, meadow, cut_before
        disk.boot += 1
        self.settings = settings(disk.boot, **changes)
        self.now_s = 0.0
        self.effects_done = 0
        self.noised: list[int] = []
        self.log: list[Effect] = []
        self.inbox: deque[e.Event] = deque()
        manifest_bytes = disk.progress.manifest if disk.progress else None
        waiting = [
            PendingUpload(entry, entry.update in disk.accepted, 0.0)
            for entry, _ in sorted(disk.spool.values(), key=lambda pair: pair[0].base)
        ]
        self.state, effects = begin(
            self.settings,
            disk.progress.trusted if disk.progress else PINNED,
            PrivacyLedger.load(cap, disk.journal),
            frozenset(disk.blobs),
            waiting,
            manifest_bytes,
            self.now_s,
        )
        self.do(effects)

    def step(self, event: e.Event) -> tuple[Effect, ...]:
        """One event, and its effects carried out."""
        self.state, effects = step(self.settings, self.state, event, self.now_s)
        self.do(effects)
        return effects

    def do(self, effects: tuple[Effect, ...]) -> None:
        """Carries out effects, unless the power goes."""
        for effect in effects:
            if self.cut_before(self.effects_done):
                raise PowerCut
            self.effects_done += 1
            self.log.append(effect)
            self.inbox.extend(self.carry_out(effect))

    def carry_out(self, effect: Effect) -> list[e.Event]:
        """One effect upon disk, trainer or network."""
        match effect:
            case f.LoadBundle() | f.StartTraining() | f.ResumeTraining():
                return [self.work(effect)]
            case f.PublishBestEffort(topic, payload, _):
                said = topic == TOPICS.say(self.settings.device)
                return self.meadow.receive(payload) if said else []
            case f.PublishSpooled(entry, index):
                chunk = split(self.disk.spool[entry.base][1])[index]
                answers = self.meadow.take(CHUNK.pack(chunk))
                return [e.ChunkDelivered(entry.update, index, taken=True), *answers]
            case f.RenewLease(entry, granted):
                return [e.LeaseRenewed(self.renew(entry, granted))]
            case _:
                self.write(effect)
        return []

    def work(
        self, effect: f.LoadBundle | f.StartTraining | f.ResumeTraining
    ) -> e.Event:
        """What the trainer answers, at once."""
        match effect:
            case f.LoadBundle(bundle):
                assert bundle in self.disk.blobs
                return e.BundleLoaded(bundle)
            case f.StartTraining(order, _):
                assert {order.bundle, order.theta} <= self.disk.blobs.keys()
                return e.TrainerReady()
            case f.ResumeTraining():
                return self.draw_noise()

    def renew(self, entry: SpoolEntry, granted: Envelope) -> SpoolEntry:
        """Another lease beside a spooled update."""
        upload = UPLOAD.unpack(self.disk.spool[entry.base][1])
        content = UPLOAD.pack(replace(upload, lease=granted))
        renewed = replace(entry, digest=H(content), size=len(content))
        self.disk.spool[entry.base] = (renewed, content)
        return renewed

    def write(self, effect: Effect) -> None:
        """One effect upon the disk."""
        disk = self.disk
        match effect:
            case f.PersistTrust():
                disk.progress = effect
            case f.StoreBlob(digest, content):
                assert H(content) == digest
                disk.blobs[digest] = content
            case f.KeepBlobs(digests):
                disk.blobs = {d: c for d, c in disk.blobs.items() if d in digests}
            case f.Spend(entry):
                disk.journal.append(entry)
            case f.SpoolUpload(upload, content):
                assert upload.base not in disk.spool
                disk.spool[upload.base] = (upload, content)
            case f.MarkAccepted(upload):
                disk.accepted.add(upload.update)
            case f.KeepProof(upload, proof):
                disk.proofs[upload.base] = proof
            case f.DeleteSpooled(upload, _):
                disk.spool.pop(upload.base, None)
            case f.AdvanceBootCount(boot):
                disk.boot = boot
            case _:
                self.adopt(effect)

    def adopt(self, effect: Effect) -> None:
        """A model for inference; what is left changes nothing on the disk."""
        if isinstance(effect, f.AdoptModel):
            assert {effect.bundle, effect.inference} <= self.disk.blobs.keys()
        else:
            assert isinstance(effect, f.StopTraining | f.RunChecks | f.Note)

    def draw_noise(self) -> e.TrainingFinished:
        """The trainer's result: never the same bytes twice."""
        assert self.state.training is not None
        base = self.state.training.order.base
        assert base in self.disk.charged()
        self.noised.append(base)
        fresh = struct.pack("<4I", base, self.disk.boot, self.effects_done, 0)
        return e.TrainingFinished(fresh, H(fresh))

    def run(self, until: Callable[[], bool], turns_max: int = 2000) -> None:
        """Lives, with time going on whenever nothing else happens."""
        for _ in range(turns_max):
            if until():
                return
            if self.inbox:
                self.step(self.inbox.popleft())
                continue
            if self.state.wake_at_s == float("inf"):
                self.step(self.meadow.others())
                continue
            self.now_s = max(self.now_s, self.state.wake_at_s)
            self.step(e.WakeTimeReached())
        raise AssertionError(f"not there after {turns_max} turns")


def connected(board: BoardHarness) -> BoardHarness:
    """Connects a board and shows it the newest version."""
    board.step(e.BrokerConnected())
    board.step(e.ManifestArrived(manifest(board.meadow.head, board.meadow.spec)))
    return board


def state_of(board: BoardHarness) -> AgentState:
    """The state without what changes with every signature."""
    return replace(board.state, serial=0, draws=0, wake_at_s=0.0)


def fresh(**changes: object) -> BoardHarness:
    return BoardHarness(Disk(), FakeCoordinator(), **changes)  # type: ignore[arg-type] # tests name real fields


def is_condition(board: BoardHarness, wanted: ReadinessCondition) -> bool:
    return condition(board.settings, board.state, board.now_s) is wanted


def until_training(board: BoardHarness) -> BoardHarness:
    """A board that has its lease, and whose trainer has not yet answered."""
    board.run(lambda: board.state.training is not None)
    board.inbox.clear()
    return board


def until_spooled(board: BoardHarness) -> BoardHarness:
    """A board whose update is spooled, and to which nobody has answered."""
    board.meadow.lose_uploads = 1 << 30
    board.run(lambda: bool(board.state.waiting))
    board.inbox.clear()
    return board


def names(effects: tuple[f.Effect, ...]) -> list[str]:
    return [type(effect).__name__ for effect in effects]

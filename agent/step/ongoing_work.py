"""Work that an agent has under way: downloads, check-ins, trainings, uploads."""

from dataclasses import dataclass

from starling.agent.step.effects import SpoolEntry
from starling.agent.step.events import TrainingFinished
from starling.agent.training.trainer_messages import TrainingOrder
from starling.protocol.ids import Digest, PublicKey, Version
from starling.protocol.wire.chunks import ChunkAssembly
from starling.protocol.wire.envelope import Envelope


@dataclass(frozen=True)
class BlobDownload:
    """A blob that is being pulled.

    Attributes:
      assembly: What has come.
      asked: Indices that were asked for and have not come.
      again_at_s: When to ask again for what is missing.
      attempt: How often nothing useful came.
      envelope: Id of the last CHUNK_REQUEST; None before.
      base: An older version, from which chunks may come as differences; None where
        they are to come whole.
    """

    assembly: ChunkAssembly
    asked: frozenset[int]
    again_at_s: float
    attempt: int
    envelope: Digest | None = None
    base: Digest | None = None


@dataclass(frozen=True)
class AdoptedModel:
    """Model that inference uses."""

    version: Version
    bundle: Digest
    inference: Digest


@dataclass(frozen=True)
class PendingCheckIn:
    """A check-in that waits for its lease.

    Attributes:
      version: For which base version.
      envelope: Id of the CHECK_IN.
      again_at_s: When to check in again.
    """

    version: Version
    envelope: Digest
    again_at_s: float


@dataclass(frozen=True)
class OngoingTraining:
    """A training under way.

    Attributes:
      order: What is trained.
      lease: What allows it.
      spent: Whether its charge is on disk; only then may data be read.
      staleness_max: The task's.
      started_s: When the trainer was first let at the data; nothing before depends on
        them.
      release_s: When its update may leave; never before.
      running: Whether this trainer was let at the data; never before `spent`.
      empty: Whether it trains on no record, since an attempt failed.
      skipped: Records at which attempts crashed; they are left out of the next one.
      finished: The result, held until `release_s`.
    """

    order: TrainingOrder
    lease: Envelope
    spent: bool
    staleness_max: int
    started_s: float = 0.0
    release_s: float = float("inf")
    running: bool = False
    empty: bool = False
    skipped: tuple[int, ...] = ()
    finished: TrainingFinished | None = None


@dataclass(frozen=True)
class OngoingUpload:
    """An upload on its way.

    Attributes:
      update: Which one.
      next: Index of the first chunk not yet published.
      in_flight: Published, and not yet answered by the broker.
      again_at_s: When to send everything again; None while chunks are to be sent.
      attempt: How often all of it was sent.
    """

    update: Digest
    next: int
    in_flight: frozenset[int]
    again_at_s: float | None
    attempt: int


@dataclass(frozen=True)
class PendingUpload:
    """A spooled upload and what coordinators said about it.

    Attributes:
      entry: What is in the spool.
      accepted: Whether a coordinator has it durably.
      send_at_s: Not to be sent before.
      refused_by: Coordinators that do not want it.
      refusal: The last reason that they gave, 0 before.
      unleased: Whether its lease counts no more, and it waits for another one.
    """

    entry: SpoolEntry
    accepted: bool
    send_at_s: float
    refused_by: frozenset[PublicKey] = frozenset()
    refusal: int = 0
    unleased: bool = False

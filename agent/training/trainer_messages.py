"""Messages between the agent's process and its trainer, without numpy.

A trainer is a subprocess that reads `TrainerJob`s from its standard input and writes
`TrainerReport`s to its standard output, each packed and led by its length in 4 bytes.
For a training job it tries the model on a record of zeros and reports READY. It touches
no data and draws no random number before it reads `GO`; after that it answers RESULT,
whatever the data are. Where a task has labels drawn it says DRAWN in between, and waits
for another `GO` until what it drew is on the disk.
"""

from enum import IntEnum
from typing import Annotated

from starling.agent.privacy.label_entries import BATCH, BATCHES_MAX
from starling.protocol.crypto.sealed_blob import BLOB_BYTES_MAX
from starling.protocol.ids import Digest, TaskId, Version
from starling.protocol.learning.local_optimiser import NO_PERSONAL, PersonalPolicy
from starling.protocol.learning.task import (
    DIMENSION_MAX,
    PLEDGE_MAX,
    PrivacyPolicy,
    TrainingPolicy,
)
from starling.protocol.schema.msgpack_codec import (
    Byte,
    Flag,
    Structure,
    Uint,
    binary,
    many,
    structure,
    text,
    uint,
)

GO = b"go"
"""The frame that lets a trainer read the data and draw its noise."""
NO_DATA = "no data: "
"""What the detail of a result begins with that was made without reading any data."""
LENGTH_BYTES = 4
PATH_CHARS_MAX = 4096
DETAIL_CHARS_MAX = 2000
SKIPPED_MAX = 64
"""Records at which trainers crash, one after the other, before all are left out."""
RECORDS_MAX = 1 << 28
"""Of a data set; as many as sums of clipped gradients have room for."""
COMPLAINTS_MAX = 16
COMPLAINT_CHARS_MAX = 160
THREADS_MAX = 256
ENGINE_NAMES = ("ort", "ort-training")
"""What can run a bundle; the first is on every board."""

_ABI_MAX = 1 << 16


class TrainingOrder(Structure, frozen=True):
    """One training, named by the base version that it uses up.

    Attributes:
      task: Which task.
      base: Model version to train from.
      bundle: Digest of the stored bundle.
      theta: Digest of the stored parameters, (d,) little-endian float32.
      dimension: d.
      codec: How the vector is encoded.
      pledge: Its weight, and how many clips long its sum may be; no count of records.
      training: The task's.
      privacy: The task's.
      windows: Records that one raw sample can stand in.
      personal: What the board trains for itself after the update.
    """

    task: TaskId
    base: Version
    bundle: Digest
    theta: Digest
    dimension: Annotated[int, uint(DIMENSION_MAX, 1)]
    codec: Byte
    pledge: Annotated[int, uint(PLEDGE_MAX, 1)]
    training: TrainingPolicy
    privacy: PrivacyPolicy
    windows: Annotated[int, uint(1 << 10, 1)]
    personal: PersonalPolicy = NO_PERSONAL


class TrainerJobKind(IntEnum):
    """Kind of a trainer's job."""

    LOAD = 0
    """Check the graphs, load them, see that there are data files."""
    TRAIN = 1
    COUNT = 2
    """Read the data set, to tell its owner about it and nobody else."""
    PERSONALISE = 3
    """Train the board's own model; nothing of it is sent."""


class TrainerLimits(Structure, frozen=True):
    """Limits of a trainer's resources.

    Attributes:
      threads: Of the engine.
      micro_batch: Records that are computed together, where the noise is not for a
        record; bounds memory.
      memory_mb: Private memory in MiB; 0 for no limit.
      niceness: Added to the priority of the process.
      engine: One of `ENGINE_NAMES`.
    """

    threads: Annotated[int, uint(THREADS_MAX, 1)]
    micro_batch: Annotated[int, uint(1 << 16, 1)]
    memory_mb: Annotated[int, uint(1 << 30)]
    niceness: Annotated[int, uint(19)]
    engine: Annotated[str, text(32)] = ENGINE_NAMES[0]


class TrainerJob(Structure, frozen=True):
    """A question to a trainer.

    Attributes:
      kind: `TrainerJobKind`.
      bundle_path: The packed bundle.
      theta_path: The parameters; for TRAIN and PERSONALISE.
      data_path: Folder of the data set; empty for none, which trains on no record.
      label: CSV column that is the target; empty for the last one.
      limits: What it may use.
      order: What to train; for TRAIN and PERSONALISE.
      head_path: Where the board's own parameters are kept; empty to forget them.
      trusted: 1 where the owner lets the bundle's own graph clip.
      skipped: Numbers of records that count as none.
      personal_path: Where the board's own model is kept; for PERSONALISE only.
      labels_path: The label journal; for tasks that have labels drawn.
      labels_micro: Epsilon that each label may pay in all, in units of 10^-6.
      label_losses: How often labels may have been drawn that the journal forgot.
    """

    kind: Annotated[int, uint(max(TrainerJobKind))]
    bundle_path: Annotated[str, text(PATH_CHARS_MAX)]
    theta_path: Annotated[str, text(PATH_CHARS_MAX)]
    data_path: Annotated[str, text(PATH_CHARS_MAX)]
    label: Annotated[str, text(256)]
    limits: TrainerLimits
    order: TrainingOrder | None
    head_path: Annotated[str, text(PATH_CHARS_MAX)] = ""
    trusted: Flag = 0
    skipped: Annotated[
        tuple[Annotated[int, uint(RECORDS_MAX)], ...], many(SKIPPED_MAX)
    ] = ()
    personal_path: Annotated[str, text(PATH_CHARS_MAX)] = ""
    labels_path: Annotated[str, text(PATH_CHARS_MAX)] = ""
    labels_micro: Uint = 0
    label_losses: Uint = 0


JOB = structure(TrainerJob, 32 * 1024)


def one_line(text: str) -> str:
    """A detail as it may stand in a report, a log and a status."""
    line = "".join(c if c.isprintable() else " " for c in text)
    return line[:DETAIL_CHARS_MAX]


def readable(job: TrainerJob) -> tuple[str, ...]:
    """The folders that a trainer needs for a job, and for others like it."""
    paths = (job.bundle_path, job.theta_path, job.head_path, job.personal_path)
    files = (*paths, job.labels_path)
    folders = {file.rpartition("/")[0] or "/" for file in files if file}
    return tuple(sorted(folders | {job.data_path} - {""}))


class ConfinementReport(Structure, frozen=True):
    """Confinement of a trainer by the kernel; see `sandbox.confinement`.

    Attributes:
      landlock: The ABI of Landlock that holds; 0 for none.
      seccomp: 1 if system calls are filtered.
    """

    landlock: Annotated[int, uint(_ABI_MAX)]
    seccomp: Flag


class TrainerReportKind(IntEnum):
    """Kind of a trainer's answer."""

    LOADED = 0
    READY = 1
    RESULT = 2
    FAILED_MODEL = 3
    FAILED_DATA = 4
    FAILED_TRAINING = 5
    COUNTED = 6
    PERSONALISED = 7
    DRAWN = 8
    """Labels were drawn; nothing is computed from them before another `GO`."""


class DataFacts(Structure, frozen=True):
    """Facts about the data set for its owner; nothing of it leaves the board.

    Attributes:
      records: That can be used.
      unusable: That cannot, each of which counts as none.
      duplicates: Usable ones that stand there more than once; each counts every time.
      complaints: The first few reasons, by file and row and without any value.
    """

    records: Uint
    unusable: Uint
    duplicates: Uint
    complaints: Annotated[
        tuple[Annotated[str, text(4 * COMPLAINT_CHARS_MAX)], ...], many(COMPLAINTS_MAX)
    ]


class LabelFacts(Structure, frozen=True):
    """Facts about drawn labels for the data's owner; nothing of it leaves the board.

    Attributes:
      answers: Records that have an answer.
      drawn: Of these, drawn now.
      outdated: Whose label became another one, and has no budget for it.
      left_out: Records without an answer, for want of budget.
      most_micro: The dearest label's account, in units of 10^-6.
    """

    answers: Uint
    drawn: Uint
    outdated: Uint
    left_out: Uint
    most_micro: Uint


class TrainerReport(Structure, frozen=True):
    """An answer of a trainer.

    Attributes:
      kind: `TrainerReportKind`.
      detail: What went wrong, or figures for the log that stay on the board.
      payload: The encoded vector, RESULT only.
      found: What the data set is like, RESULT and COUNTED only; stays on the board.
      head: The parameters that stay on the board, little-endian float32; empty if
        there are none. (k,) in a RESULT, (d,), the board's own model, in PERSONALISED.
        The agent writes them, since a trainer writes no file.
      confinement: Of the trainer; None where the agent itself speaks of its end.
      batches: Labels that were drawn, packed `LabelBatch`es, DRAWN only.
      labels: Of the drawn labels, DRAWN only; stays on the board.
    """

    kind: Annotated[int, uint(max(TrainerReportKind))]
    detail: Annotated[str, text(4 * DETAIL_CHARS_MAX)] = ""
    payload: Annotated[bytes, binary(BLOB_BYTES_MAX)] = b""
    found: DataFacts | None = None
    head: Annotated[bytes, binary(4 * DIMENSION_MAX)] = b""
    confinement: ConfinementReport | None = None
    batches: Annotated[
        tuple[Annotated[bytes, binary(BATCH.bytes_max)], ...], many(BATCHES_MAX)
    ] = ()
    labels: LabelFacts | None = None


_VECTOR_BYTES_MAX = BLOB_BYTES_MAX + 4 * DIMENSION_MAX
_LABEL_BYTES_MAX = BATCHES_MAX * BATCH.bytes_max
REPORT = structure(TrainerReport, max(_VECTOR_BYTES_MAX, _LABEL_BYTES_MAX) + 80 * 1024)

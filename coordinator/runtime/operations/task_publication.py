"""Publication of a task, its privacy price said before; and its resumption."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from starling.coordinator.runtime import command_inbox
from starling.coordinator.runtime.evaluation.evaluator import pinned_root
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.operations.chain_decision import (
    ChainDecision,
    boards_enrolled,
    held_out_loss,
)
from starling.coordinator.runtime.operations.decided_submission import submit_and_wait
from starling.coordinator.task_file.privacy_statement import (
    PrivacyStatement,
    promise,
)
from starling.coordinator.task_file.reward_settings import rewards_text
from starling.coordinator.task_file.task_settings import (
    TaskPublication,
    TaskSettings,
    publication,
)
from starling.durable.files import read_limited
from starling.protocol.errors import (
    ConfigError,
    OperationError,
    ProtocolError,
    StorageError,
)
from starling.protocol.ids import TaskId
from starling.protocol.learning.progress_guard import RESUME, Resume
from starling.protocol.learning.task import TASK
from starling.protocol.model.training_bundle import (
    CONTENT_FILES,
    FILE_BYTES_MAX,
    MANIFEST,
    manifest_from_json,
    pack_bundle,
    unpack_bundle,
)
from starling.protocol.privacy.clipping_functions import weights_lost
from starling.protocol.privacy.mechanisms import RECORD_DPSGD, RECORD_GAUSSIAN
from starling.protocol.schema.toml_settings import load_settings
from starling.protocol.wire.envelope import MessageKind
from starling.protocol.wire.message_bodies import CLOSE, Close


@dataclass(frozen=True)
class TaskDraft:
    """A task that could be published.

    Attributes:
      made: What would be handed in.
      privacy: What it costs the boards' owners.
      warning: About the fleet that it meets; empty if all is well.
    """

    made: TaskPublication
    privacy: PrivacyStatement
    warning: str

    @property
    def name(self) -> str:
        """Its name, by its publisher."""
        return self.made.spec.name

    def lines(self) -> tuple[str, ...]:
        """The warning, what it costs in privacy, and how it pays; for people."""
        warned = (f"warning: {self.warning}",) if self.warning else ()
        spec = self.made.spec
        rewards = f"rewards: {rewards_text(spec)}"
        paid = (rewards,) if spec.pool or spec.rewards.use_price else ()
        return (*warned, *self.privacy.lines(), *paid)


@dataclass(frozen=True)
class ResumedTask:
    """A task that was to go on.

    Attributes:
      version: From which.
      decision: Of the chain.
      text: What happened, for people.
    """

    version: int
    decision: ChainDecision
    text: str


def draft(
    home: CoordinatorHome,
    bundle: Path,
    text: str,
    file: str,
    *,
    force: bool,
    roots: Sequence[Path] = (),
) -> TaskDraft:
    """Makes a task and compares it with the fleet; nothing is handed in.

    Args:
      home: Of the coordinator.
      bundle: A bundle's folder.
      text: Content of a `task.toml`.
      file: Its name, for messages.
      force: Whether to make it though so few boards would wait for ever.
      roots: Root sets whose digests the task pins, beside those in `text`.

    Raises:
      ConfigError: Naming file, key and bound.
    """
    settings = _with_roots(load_settings(TaskSettings, text, file), roots)
    made = publication(settings, _read_bundle(bundle), file)
    warnings = [compared(settings.buffer, boards_enrolled(home), force=force)]
    if made.spec.privacy.mechanism in (RECORD_GAUSSIAN, RECORD_DPSGD):
        warnings.append(_weights_lost(made.bundle))
    warning = "; ".join(filter(None, warnings))
    return TaskDraft(made, promise(made.spec), warning)


def _with_roots(settings: TaskSettings, files: Sequence[Path]) -> TaskSettings:
    pinned = [pinned_root(file, "--root").hex() for file in files]
    roots = " ".join([settings.scores.roots, *pinned]).strip()
    return replace(settings, scores=replace(settings.scores, roots=roots))


def publish(home: CoordinatorHome, drafted: TaskDraft, wait_s: float) -> ChainDecision:
    """Publishes a task.

    Args:
      home: Of the coordinator, with the operator's key.
      drafted: The task.
      wait_s: For the chain's decision, at most.

    Raises:
      OperationError: If the chain refuses it.
    """
    made = drafted.made
    # Blobs first: the coordinator must have them when the transaction that names them
    # comes.
    command_inbox.drop_blob(home.inbox, made.bundle)
    command_inbox.drop_model(home.inbox, made.model)
    body, failed = TASK.pack(made.spec), f"{drafted.name!r} is not published"
    return submit_and_wait(home, MessageKind.TASK, body, wait_s, failed)


def published_text(drafted: TaskDraft, decision: ChainDecision) -> str:
    """Text of a decision to publish a task, for people."""
    name = repr(drafted.name)
    return decision.text(f"published {name}", f"whether {name} is published")


def resume_task(home: CoordinatorHome, number: int, wait_s: float) -> ResumedTask:
    """Lets a task go on that pauses.

    Args:
      home: Of the coordinator, with the operator's key.
      number: The task's.
      wait_s: For the chain's decision, at most.

    Raises:
      OperationError: If no quorum stated a held-out loss of it, or the chain refuses.
    """
    known = held_out_loss(home, number)
    if known is None:
        raise OperationError(f"no quorum stated a held-out loss of task {number} yet")
    # Named, so that an operator who looked at an older state resumes nothing else.
    body = RESUME.pack(Resume(TaskId(number), known.newest))
    failed = f"task {number} is not resumed"
    decision = submit_and_wait(home, MessageKind.RESUME, body, wait_s, failed)
    done = f"task {number} goes on from version {known.newest}"
    text = decision.text(done, f"whether task {number} goes on")
    return ResumedTask(known.newest, decision, text)


def close_task(home: CoordinatorHome, number: int, wait_s: float) -> ChainDecision:
    """Ends a task for good; what boards were leased before still counts.

    Args:
      home: Of the coordinator, with the operator's key.
      number: The task's.
      wait_s: For the chain's decision, at most.

    Raises:
      OperationError: If there is no such task, it was closed before, or the chain
        refuses otherwise.
    """
    body = CLOSE.pack(Close(TaskId(number)))
    failed = f"task {number} is not closed"
    return submit_and_wait(home, MessageKind.CLOSE, body, wait_s, failed)


def _weights_lost(bundle: bytes) -> str:
    manifest = manifest_from_json(unpack_bundle(bundle)[MANIFEST])
    return weights_lost(manifest.loss_settings.class_weights, manifest.clipping)


def compared(buffer: int, boards: int, *, force: bool) -> str:
    """Warning to the publisher of a task that wants more updates than there are boards.

    Args:
      buffer: K, updates that make a version.
      boards: That may take part today; each gives one update for a version.
      force: Whether to publish whatever is the case.

    Returns:
      A warning; empty if all is well.

    Raises:
      ConfigError: If so few boards would wait for ever.
    """
    counted = f"buffer = {buffer}, and {boards} boards are admitted"
    if not boards:
        return f"{counted} yet"
    if boards < (buffer + 1) // 2 and not force:
        # Half a buffer is enough once the task's patience is over.
        raise ConfigError(
            f"{counted}: each gives one update for a version and half a buffer is the "
            f"least, so that no version would ever be made; take buffer = "
            f"{max(1, boards // 2)}, admit boards first, or add --force",
            key="buffer",
        )
    if boards < buffer:
        return f"{counted}: each version waits until the task's patience is over"
    return ""


def _read_bundle(folder: Path) -> bytes:
    try:
        files = {
            name: read_limited(folder / name, FILE_BYTES_MAX)
            for name in (*CONTENT_FILES, MANIFEST)
        }
        return pack_bundle(files)
    except (ProtocolError, StorageError) as error:
        raise ConfigError(
            f"no bundle: {error}; `starling compile --out` makes one", file=str(folder)
        ) from error

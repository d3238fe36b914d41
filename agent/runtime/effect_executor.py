"""Carries out the agent's effects, one after the other, each completely.

A full disk stops everything until there is room again: the effect is tried anew, and
nothing after it happens before it has succeeded. Any other refusal of the disk ends the
process, which its service manager starts again.
"""

import errno
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, assert_never

from starling.agent.runtime.status_file import utc_text
from starling.agent.runtime.storage.agent_home import AgentHome
from starling.agent.runtime.storage.blob_store import BlobStore
from starling.agent.runtime.storage.proof_store import ProofFolder
from starling.agent.runtime.storage.spool import Spool, SpoolIndex
from starling.agent.runtime.storage.trusted_state_file import (
    StoredTrust,
    keep_proof,
    write_progress,
)
from starling.agent.step import effects as f
from starling.agent.step import events as e
from starling.agent.trainer.client import TrainerProcess
from starling.agent.training.trainer_messages import (
    TrainerJob,
    TrainerJobKind,
    TrainerLimits,
    TrainingOrder,
)
from starling.broker.link_events import MqttMessage
from starling.broker.runtime.mqtt_link import MqttLink
from starling.durable.files import write_atomic
from starling.durable.journal import Journal
from starling.protocol.errors import LimitError, StorageError, TransportError
from starling.protocol.ids import Digest

LOG = logging.getLogger("agent")
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class TrainerSetup:
    """Settings that a trainer needs beside its order.

    Attributes:
      data: Folder of the data set.
      label: Target column of CSV files.
      limits: What the trainer may use.
      trusted: Whether the bundle's own graph may clip.
    """

    data: str
    label: str
    limits: TrainerLimits
    trusted: bool = False


@dataclass
class EffectExecutor:
    """Everything that effects act upon.

    Attributes:
      home: The agent's home.
      work: What a trainer needs to know.
      journal: The privacy ledger's.
      spool: Uploads that wait.
      index: Their index.
      proofs: Of those that are final.
      blobs: Bundles and models.
      trainer: The subprocess.
      link: To the broker.
      topic_up: Where upload chunks go.
      post: Puts an event before the core, later.
      wait_for_space: Called while the disk is full; False to give up.
      job: Kind and bundle of the trainer's job.
      in_flight: Chunk by publish id.
      bytes_up: Published since the start.
      last_update: The last one that was accepted since the start, and when.
    """

    home: AgentHome
    work: TrainerSetup
    journal: Journal
    spool: Spool
    index: SpoolIndex
    proofs: ProofFolder
    blobs: BlobStore
    trainer: TrainerProcess
    link: MqttLink
    topic_up: str
    post: Callable[[e.Event], None]
    wait_for_space: Callable[[str], bool]
    job: tuple[TrainerJobKind, Digest] | None = None
    in_flight: dict[int, tuple[Digest, int]] = field(default_factory=dict)
    bytes_up: int = 0
    last_update: dict[str, Any] | None = None

    def carry_out(self, effects: tuple[f.Effect, ...]) -> None:
        """Does all of it, in order.

        Raises:
          StorageError: If the disk refuses for another reason than being full.
        """
        for effect in effects:
            self._until_done(partial(self._do, effect))

    def close(self) -> None:
        """Gives the journal and the index back, for another run in this process."""
        self.journal.close()
        self.index.close()

    def keep_head(self, bundle: Digest, content: bytes) -> None:
        """Writes the parameters of a bundle that stay on the board.

        Raises:
          StorageError: If the disk refuses for another reason than being full.
        """
        file = self.home.head(bundle)
        self._until_done(partial(write_atomic, file, content))

    def _until_done(self, action: Callable[[], None]) -> None:
        while True:
            try:
                action()
                break
            except StorageError as error:
                if not _is_full(error) or not self.wait_for_space(str(error)):
                    raise

    def _do(self, effect: f.Effect) -> None:
        match effect:
            case f.PublishBestEffort() | f.PublishSpooled():
                self._publish(effect)
            case f.SpoolUpload() | f.MarkAccepted() | f.DeleteSpooled():
                self._spool(effect)
            case f.RenewLease(entry, lease):
                self.post(e.LeaseRenewed(self.spool.renew(entry, lease)))
            case f.KeepProof(entry, proof):
                self.proofs.keep(entry.task, entry.base, proof)
            case f.LoadBundle() | f.StartTraining() | f.ResumeTraining():
                self._train(effect)
            case f.StopTraining(why):
                LOG.warning("training stopped: %s", why)
                self.trainer.stop()
            case f.Spend(entry):
                self.journal.append(entry)
            case f.AdvanceBootCount(boot):
                self.index.leap(boot)
            case f.Note(text, warns):
                LOG.log(logging.WARNING if warns else logging.INFO, "%s", text)
            case _:
                self._keep(effect)

    def _keep(
        self, effect: f.PersistTrust | f.StoreBlob | f.KeepBlobs | f.AdoptModel
    ) -> None:
        match effect:
            case f.PersistTrust(trusted, manifest):
                path = self.home.state / "progress"
                write_progress(path, StoredTrust(trusted, manifest))
            case f.StoreBlob(digest, content):
                self.blobs.write(digest, content)
            case f.KeepBlobs(digests):
                self.blobs.keep(digests)
            case f.AdoptModel():
                # What is believed by now proves it, or a newer version.
                keep_proof(self.home.state / "progress", self.home.models)
                self.blobs.adopt(effect)
                LOG.info("version %d is used for inference", effect.version)
            case _:
                assert_never(effect)

    def _spool(self, effect: f.SpoolUpload | f.MarkAccepted | f.DeleteSpooled) -> None:
        entry = effect.entry
        match effect:
            case f.SpoolUpload():
                self.spool.write(entry, effect.content)
                self.index.note_released(time.time())
                LOG.info("version %d trained; %d bytes spooled", entry.base, entry.size)
            case f.MarkAccepted():
                self.index.mark_accepted(entry)
                moment = utc_text(time.time())
                self.last_update = {"version": entry.base, "accepted": moment}
                LOG.info("update for version %d accepted", entry.base)
            case f.DeleteSpooled():
                self.spool.delete(entry)
                self.index.mark_gone(entry, effect.why)
                LOG.info("update for version %d is %s", entry.base, effect.why)
            case _:
                assert_never(effect)

    def _train(self, effect: f.LoadBundle | f.StartTraining | f.ResumeTraining) -> None:
        match effect:
            case f.LoadBundle(bundle):
                self._ask(TrainerJobKind.LOAD, bundle, self.work.data)
            case f.StartTraining(order, empty, skipped):
                LOG.info("training from version %d", order.base)
                data = "" if empty else self.work.data
                self._ask(TrainerJobKind.TRAIN, order.bundle, data, order, skipped)
            case f.ResumeTraining():
                self.trainer.resume()
            case _:
                assert_never(effect)

    def count_records(self, bundle: Digest) -> None:
        """Has the data set read for its owner; gives way to any other job."""
        self._ask(TrainerJobKind.COUNT, bundle, self.work.data)

    def _ask(
        self,
        kind: TrainerJobKind,
        bundle: Digest,
        data: str,
        order: TrainingOrder | None = None,
        skipped: tuple[int, ...] = (),
    ) -> None:
        if self.trainer.busy:
            # Only an answer that nobody waits for any more can be in the way.
            self.trainer.stop()
        self.job = (kind, bundle)
        # The trainer works in another folder than we do.
        path = str(self.blobs.path(bundle).absolute())
        theta = "" if order is None else str(self.blobs.path(order.theta).absolute())
        head = str(self.home.head(bundle).absolute())
        label, limits, trusted = self.work.label, self.work.limits, self.work.trusted
        chosen = (order, head, int(trusted), skipped)
        self.trainer.ask(TrainerJob(kind, path, theta, data, label, limits, *chosen))

    def _publish(self, effect: f.PublishBestEffort | f.PublishSpooled) -> None:
        match effect:
            case f.PublishBestEffort(topic, payload, retain):
                try:
                    self.link.publish(MqttMessage(topic, payload, retain))
                    self.bytes_up += len(payload)
                except (TransportError, LimitError) as error:
                    LOG.debug("not published: %s", error)
            case f.PublishSpooled(entry, index):
                payload = self.spool.chunk(entry, index)
                try:
                    number = self.link.publish(MqttMessage(self.topic_up, payload))
                except (TransportError, LimitError) as error:
                    LOG.debug("not published: %s", error)
                    self.post(e.ChunkDelivered(entry.update, index, taken=False))
                    return
                self.bytes_up += len(payload)
                self.in_flight[number] = (entry.update, index)
            case _:
                assert_never(effect)


def _is_full(error: StorageError) -> bool:
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in _FULL

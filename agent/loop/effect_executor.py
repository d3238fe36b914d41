"""Carries out the agent's effects through its ports, in order, each one completely."""

from typing import assert_never

from starling.agent.loop.ports import AgentPorts
from starling.agent.step import effects as f
from starling.agent.step import events as e
from starling.broker.link_events import MqttMessage
from starling.protocol.errors import LimitError, TransportError
from starling.protocol.ids import Digest

_Kept = (
    f.PersistTrust
    | f.StoreBlob
    | f.KeepBlobs
    | f.AdoptModel
    | f.SpoolUpload
    | f.RenewLease
    | f.MarkAccepted
    | f.KeepProof
    | f.DeleteSpooled
)

_Run = f.LoadBundle | f.StartTraining | f.ResumeTraining | f.StopTraining | f.RunChecks


class AgentEffectExecutor:
    """The meaning of each effect.

    Attributes:
      in_flight: Chunk by publish id.
      bytes_up: Published since the start.
    """

    def __init__(self, ports: AgentPorts, topic_up: str) -> None:
        """Has done nothing yet.

        Args:
          ports: The world.
          topic_up: Where chunks of uploads go.
        """
        self.in_flight: dict[int, tuple[Digest, int]] = {}
        self.bytes_up = 0
        self._ports = ports
        self._topic_up = topic_up

    def carry_out(self, effects: tuple[f.Effect, ...]) -> None:
        """Does all of it, in order.

        Raises:
          StorageError: If the disk refuses; nothing after that happens.
        """
        for effect in effects:
            self._do(effect)

    def _do(self, effect: f.Effect) -> None:
        ports = self._ports
        match effect:
            case f.PublishBestEffort(topic, payload, retain):
                self.publish(MqttMessage(topic, payload, retain))
            case f.PublishSpooled():
                self._publish_spooled(effect)
            case (
                f.LoadBundle()
                | f.StartTraining()
                | f.ResumeTraining()
                | f.StopTraining()
                | f.RunChecks()
            ):
                self._run(effect)
            case f.Spend() | f.KeepLabels():
                self._account(effect)
            case f.AdvanceBootCount(boot):
                ports.store.advance_boot(boot)
            case f.Note(text, warns):
                ports.monitor.note(text, warns=warns)
            case _:
                self._keep(effect)

    def _account(self, effect: f.Spend | f.KeepLabels) -> None:
        match effect:
            case f.Spend(entry):
                self._ports.store.spend(entry)
            case f.KeepLabels(batches):
                self._ports.store.keep_labels(batches)
            case _:
                assert_never(effect)

    def _run(self, effect: _Run) -> None:
        trainer = self._ports.trainer
        match effect:
            case f.LoadBundle(bundle):
                trainer.load(bundle)
            case f.StartTraining():
                trainer.start(effect)
            case f.ResumeTraining():
                trainer.resume()
            case f.StopTraining(why):
                trainer.stop(why)
            case f.RunChecks():
                if self._ports.check is not None:
                    self._ports.check()
            case _:
                assert_never(effect)

    def _keep(self, effect: _Kept) -> None:
        store = self._ports.store
        match effect:
            case f.PersistTrust(trusted, manifest):
                store.put_progress(trusted, manifest)
            case f.StoreBlob(digest, content):
                store.put_blob(digest, content)
            case f.KeepBlobs(digests):
                store.keep_blobs(digests)
            case f.AdoptModel():
                store.adopt(effect)
            case f.SpoolUpload(entry, content):
                store.spool(entry, content)
            case f.RenewLease(entry, lease):
                # The core learns the new digest and size by an event: its chunks are of
                # another content.
                self._ports.put(e.LeaseRenewed(store.renew(entry, lease)))
            case f.MarkAccepted(entry):
                store.mark_accepted(entry)
            case f.KeepProof(entry, proof):
                store.keep_proof(entry, proof)
            case f.DeleteSpooled(entry, why):
                store.delete_spooled(entry, why)
            case _:
                assert_never(effect)

    def publish(self, message: MqttMessage) -> int | None:
        """Publishes a message; None if the connection does not take it."""
        try:
            number = self._ports.bus.publish(message)
        # The core repeats in its own time what is not answered; of chunks it hears by
        # `ChunkDelivered`.
        except (TransportError, LimitError):
            return None
        self.bytes_up += len(message.payload)
        return number

    def _publish_spooled(self, effect: f.PublishSpooled) -> None:
        entry, index = effect.entry, effect.index
        payload = self._ports.store.chunk(entry, index)
        spans = self._ports.spans
        context = "" if spans is None else spans.context(entry)
        message = MqttMessage(self._topic_up, payload, traceparent=context)
        number = self.publish(message)
        if number is None:
            # Put, and not stepped: all effects of a step come before the next event.
            self._ports.put(e.ChunkDelivered(entry.update, index, taken=False))
        else:
            # The broker's PUBACK names the packet only, and not what was in it.
            self.in_flight[number] = (entry.update, index)

"""A coordinator among several: it gossips, and may lack what a job needs."""

from coordinator import effects as e
from coordinator import events as c
from coordinator.aggregation.job import Closed, Vector, recompute
from coordinator.effects import Effect
from coordinator.events import Event
from coordinator.ledger.node import Gossip
from coordinator.ledger.views import Member
from coordinator.rim.publishing import Publisher
from coordinator.rim.tally import Tally
from coordinator.rim.wholes import update_of
from coordinator.state import Settings
from protocol.errors import AggregationError, ProtocolError
from protocol.ids import Digest
from protocol.task import TaskSpec
from tests.sim.law import Law
from tests.sim.office import AGGREGATION_S, Chest, Office
from tests.sim.post import Broker
from tests.sim.timeline import Timeline


class CouncilOffice(Office):
    """One of several."""

    def __init__(
        self,
        index: int,
        time: Timeline,
        broker: Broker,
        law: Law,
        settings: Settings,
        store: Chest,
    ) -> None:
        super().__init__(time, broker, law, settings, store, f"office{index}")

    @property
    def height(self) -> int:
        """Of its stored chain."""
        header = self.store.tip().header
        return 0 if header is None else header.height

    def _do(self, effect: Effect) -> None:
        match effect:
            case Gossip() | e.Tell() | e.Give() | e.GiveKey() | e.PublishChunks():
                tally = Tally(0)
                Publisher(self.settings, self.store, self._outgoing, tally).say(effect)
            case e.Secure(task, digests):
                absent = [one for one in digests if self.store.blob(one) is None]
                self._put(c.Secured(task, tuple(absent)))
            case e.Recall(known, other):
                self._put(c.Recalled(update_of(self.store, known), other))
            case e.Aggregate():
                event = self._computed(effect)
                self.later(self.time.about(AGGREGATION_S), lambda: self._put(event))
            case _:
                super()._do(effect)

    def _computed(self, asked: e.Aggregate) -> Event:
        """As `coordinator.rim.workers`: says what it lacks, or cannot open."""
        assert self.state is not None
        spec = self.state.tasks[asked.task].spec
        lacks = self._lacks(asked, spec)
        if lacks is not None:
            return lacks
        before = asked.version - 1
        model = self.store.model(asked.task, before) if before else spec.initial
        assert model is not None

        def fetch(member: Member) -> Vector:
            found = self._upload(member)
            content_key = asked.keys.get(member.transaction)
            return Vector(found.update, found.blob, content_key)

        key, start = self.settings.gate.key, self._loaded(model)
        try:
            made = recompute(key, spec, asked.job, start, fetch)
        except (AggregationError, ProtocolError) as error:
            closed = error.updates if isinstance(error, Closed) else ()
            return c.AggregationFailed(
                asked.task, asked.version, str(error), closed=closed
            )
        return c.Aggregated(asked.task, asked.version, made)

    def _lacks(self, asked: e.Aggregate, spec: TaskSpec) -> Event | None:
        members = [member.transaction for member in asked.job.members]
        uploads = [one for one in members if self.store.upload(one) is None]
        before = asked.version - 1
        model = self.store.model(asked.task, before) if before else spec.initial
        wholes: list[Digest] = []
        if model is not None:
            parts = (model.theta, model.momentum, model.average)
            wholes = [one for one in parts if self.store.blob(one) is None]
        if model is not None and not uploads and not wholes:
            return None
        return c.AggregationFailed(
            asked.task, asked.version, "lacks", tuple(uploads), tuple(wholes)
        )

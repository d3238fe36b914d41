"""Spans of a coordinator's part of an update, from its receipt to its final version.

They are made of what the core orders. The updates of one version are computed together:
each has a span of that computation in its own trace, with the same times.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from starling.broker.link_events import MessageArrived
from starling.coordinator.chain.gossip_messages import JOURNAL_ENTRY
from starling.coordinator.chain.node.node import JournalVote, StoreBlock
from starling.coordinator.chain.state import transaction_codec
from starling.coordinator.chain.state.task_records import AggregationJob
from starling.coordinator.step.effects import (
    ComputeVersion,
    Effect,
    StoreModel,
    StoreUpload,
    StoreVersion,
)
from starling.coordinator.step.events import ChunkArrived, Event
from starling.protocol.errors import ProtocolError
from starling.protocol.ids import BlockHash, DeviceId, Digest
from starling.protocol.wire.chunks import CHUNK
from starling.protocol.wire.envelope import MessageKind
from starling.protocol.wire.trace_context import (
    Facts,
    Span,
    SpanKind,
    Tracer,
    parent_span,
    traceparent,
)

BOARDS_MAX = 1 << 12
"""Boards whose upload is under way; of others a span begins with the last chunk."""
UPDATES_MAX = 1 << 14
"""That wait for their version; what comes after that has no parent."""
VERSIONS_MAX = 1 << 8
"""That are computed, and not final."""
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class _Arrival:
    """Chunks of one upload, so far.

    Attributes:
      device: Who sends it.
      digest: Of the whole.
      context: `traceparent` of the first one.
      began_ns: When that came.
    """

    device: DeviceId
    digest: Digest
    context: str
    began_ns: int


@dataclass(frozen=True, slots=True)
class _Step:
    """The newest step of an update here.

    Attributes:
      span: Its id; empty if the update came with a block, or before our start.
      ended_ns: When it was over.
    """

    span: bytes
    ended_ns: int


class CoordinatorSpans:
    """Watches one coordinator's loop."""

    def __init__(self, tracer: Tracer, ignored: Callable[[DeviceId], None]) -> None:
        """Knows no update yet.

        Args:
          tracer: The world.
          ignored: Counts a board's update whose `traceparent` was none of its trace.
        """
        self._tracer = tracer
        self._ignored = ignored
        self._heard: _Arrival | None = None
        self._heard_ns = 0
        self._arriving: OrderedDict[DeviceId, _Arrival] = OrderedDict()
        self._newest: OrderedDict[Digest, _Step] = OrderedDict()
        self._seen: dict[int, tuple[int, BlockHash | None]] = {}
        self._committing: list[Span] = []
        self._jobs: OrderedDict[tuple[int, int], tuple[AggregationJob, int]]
        self._jobs = OrderedDict()

    def context(self, update: Digest) -> str:
        """`traceparent` of a message about an update; empty if it is unknown here."""
        step = self._newest.get(update)
        return traceparent(update, step.span) if step is not None else ""

    def message_taken(self, event: Event, message: MessageArrived) -> None:
        """The event that is taken next is this message."""
        self._heard, self._heard_ns = None, self._tracer.now_ns()
        if not isinstance(event, ChunkArrived):
            return
        try:
            digest = CHUNK.unpack(event.payload).digest
        except ProtocolError:
            return
        device, known = event.device, self._arriving.get(event.device)
        if known is None or known.digest != digest:
            known = _Arrival(device, digest, message.traceparent, self._heard_ns)
            _keep(self._arriving, device, known, BOARDS_MAX)
        self._heard = known

    def stepped(self, effects: Sequence[Effect]) -> None:
        """An event was taken; nothing of what it caused is done yet."""
        for effect in effects:
            match effect:
                case StoreUpload(transaction):
                    self._admitted(transaction)
                case JournalVote():
                    self._voted(effect)
                case StoreBlock():
                    self._decided(effect)
                case _:
                    pass
        self._heard = None

    def done(self, effects: Sequence[Effect]) -> None:
        """All that a batch of steps caused was done."""
        now_ns = self._tracer.now_ns()
        commits = [replace(span, ended_ns=now_ns) for span in self._committing]
        self._committing.clear()
        if commits:
            self._tracer.write(commits)
        for effect in effects:
            match effect:
                case ComputeVersion(task, version, job):
                    _keep(self._jobs, (task, version), (job, now_ns), VERSIONS_MAX)
                case StoreModel(task, version):
                    self._computed((task, version), "aggregate", now_ns)
                case StoreVersion(task, version):
                    self._computed((task, version), "finalise", now_ns)
                    self._forget((task, version))
                case _:
                    pass

    def _admitted(self, update: Digest) -> None:
        """An update passed all checks; what another coordinator sent has no arrival."""
        came = self._heard
        if came is None:
            return
        self._arriving.pop(came.device, None)
        parent = parent_span(came.context, update)
        if parent is None and came.context:
            self._ignored(came.device)
        heard_ns, kind = self._heard_ns, SpanKind.CONSUMER
        received = self._end(
            update, "receive", parent or b"", came.began_ns, heard_ns, kind
        )
        now_ns = self._tracer.now_ns()
        self._end(update, "check", received.span, received.ended_ns, now_ns)

    def _voted(self, effect: JournalVote) -> None:
        """A height's block was seen; it is ours if its entry is no vote."""
        entry = JOURNAL_ENTRY.unpack(effect.payload)
        seen = self._seen.get(entry.height, (self._tracer.now_ns(), None))
        if entry.proposal is not None and entry.vote is None:
            seen = (seen[0], entry.proposal.block_id)
        self._seen[entry.height] = seen

    def _decided(self, stored: StoreBlock) -> None:
        """Each update gets its commit's id before anybody is told of the block."""
        header, now_ns = stored.block.header, self._tracer.now_ns()
        seen_ns, own = self._seen.get(header.height, (now_ns, None))
        self._seen = {at: seen for at, seen in self._seen.items() if at > header.height}
        facts = (
            ("starling.height", header.height),
            ("starling.proposer", header.proposer),
        )
        for update in _updates(stored):
            step = self._newest.get(update)
            if step is not None and own == header.block_id():
                step = self._end(update, "propose", step.span, step.ended_ns, seen_ns)
            span, parent = self._tracer.fresh_id(), step.span if step else b""
            commit = Span(update, span, parent, "commit", seen_ns, 0, facts=facts)
            self._committing.append(commit)
            self._note(update, _Step(span, now_ns))

    def _computed(self, version: tuple[int, int], name: str, now_ns: int) -> None:
        job, began_ns = self._jobs.get(version, (None, 0))
        if job is None:
            return
        facts = (("starling.task", version[0]), ("starling.version", version[1]))
        for member in job.members:
            step = self._newest.get(member.transaction)
            parent = step.span if step else b""
            self._end(member.transaction, name, parent, began_ns, now_ns, facts=facts)
        self._jobs[version] = (job, now_ns)

    def _forget(self, version: tuple[int, int]) -> None:
        job, _ = self._jobs.pop(version, (None, 0))
        for member in job.members if job is not None else ():
            self._newest.pop(member.transaction, None)

    def _end(
        self,
        update: Digest,
        name: str,
        parent: bytes,
        began_ns: int,
        ended_ns: int,
        kind: SpanKind = SpanKind.INTERNAL,
        facts: Facts = (),
    ) -> _Step:
        span = self._tracer.fresh_id()
        self._tracer.write(
            (Span(update, span, parent, name, began_ns, ended_ns, kind, facts),)
        )
        step = _Step(span, ended_ns)
        self._note(update, step)
        return step

    def _note(self, update: Digest, step: _Step) -> None:
        _keep(self._newest, update, step, UPDATES_MAX)


def _updates(stored: StoreBlock) -> Iterator[Digest]:
    """Ids of a block's updates."""
    transactions = stored.block.transactions
    for packed, result in zip(transactions, stored.results, strict=True):
        if transaction_codec.unpack(packed).kind == MessageKind.UPDATE:
            yield result.identity


def _keep(kept: OrderedDict[_Key, _Value], key: _Key, value: _Value, most: int) -> None:
    kept[key] = value
    if len(kept) > most:
        kept.popitem(last=False)

"""Spans of a board's part of an update: train, sign, publish, and prove.

They are made of what the core is told and orders, after it is done. An update has no id
before it is signed, so the span of its training is written with its signature's.
"""

from dataclasses import dataclass

from starling.agent.step import effects as f
from starling.agent.step import events as e
from starling.protocol.ids import Digest
from starling.protocol.wire.chunks import chunk_count
from starling.protocol.wire.trace_context import (
    Span,
    SpanKind,
    Tracer,
    parent_span,
    traceparent,
)


@dataclass
class _Departure:
    """An update on its way out.

    Attributes:
      span: Id of its publishing.
      last: Index of its last chunk.
      signed: Span of its signature; empty if that was before the last start.
      began_ns: When its first chunk was handed over; 0 before.
      ended: Whether the broker had all of it once.
    """

    span: bytes
    last: int
    signed: bytes = b""
    began_ns: int = 0
    ended: bool = False


class AgentSpans:
    """Watches one agent's loop."""

    def __init__(self, tracer: Tracer) -> None:
        """Knows no update yet.

        Args:
          tracer: The world.
        """
        self._tracer = tracer
        self._leaving: dict[Digest, _Departure] = {}
        self._began_ns = self._trained_ns = self._taken_ns = 0
        self._heard = ""
        self._ignored = 0

    def taken(self, event: e.Event, context: str) -> None:
        """An event goes to the core now.

        Args:
          event: The event.
          context: `traceparent` of the message that it is, if it is one.
        """
        self._taken_ns, self._heard = self._tracer.now_ns(), context
        if isinstance(event, e.TrainingFinished):
            self._trained_ns = self._taken_ns

    def context(self, entry: f.SpoolEntry) -> str:
        """`traceparent` of a chunk that is about to be published."""
        leaving = self._departure(entry)
        # Chunks are sent again after a loss; the span is from the first of them on.
        leaving.began_ns = leaving.began_ns or self._tracer.now_ns()
        return traceparent(entry.update, leaving.span)

    def done(self, event: e.Event, effects: tuple[f.Effect, ...]) -> None:
        """An event was taken, and its effects were carried out."""
        for effect in effects:
            match effect:
                case f.StartTraining():
                    self._began_ns = self._tracer.now_ns()
                case f.SpoolUpload(entry):
                    self._signed(entry)
                case f.KeepProof(entry):
                    self._proven(entry)
                case f.DeleteSpooled(entry):
                    self._leaving.pop(entry.update, None)
                case _:
                    pass
        if isinstance(event, e.ChunkDelivered) and event.taken:
            self._delivered(event)

    def _departure(self, entry: f.SpoolEntry) -> _Departure:
        found = self._leaving.get(entry.update)
        if found is None:
            last = chunk_count(entry.size) - 1
            found = _Departure(self._tracer.fresh_id(), last)
            self._leaving[entry.update] = found
        return found

    def _signed(self, entry: f.SpoolEntry) -> None:
        train, sign = self._tracer.fresh_id(), self._tracer.fresh_id()
        update, leaving = entry.update, self._departure(entry)
        leaving.signed = sign
        # Its first chunk may have been handed over in the same step.
        signed_ns = leaving.began_ns or self._tracer.now_ns()
        facts = (
            ("starling.update", update.hex()),
            ("starling.task", entry.task),
            ("starling.base_version", entry.base),
        )
        trained = (self._began_ns, self._trained_ns)
        self._tracer.write(
            (
                Span(update, train, b"", "train", *trained, facts=facts),
                Span(update, sign, train, "sign", self._taken_ns, signed_ns),
            )
        )

    def _delivered(self, event: e.ChunkDelivered) -> None:
        leaving = self._leaving.get(event.update)
        if leaving is None or leaving.ended or event.index != leaving.last:
            return
        leaving.ended = True
        span, parent = leaving.span, leaving.signed
        times_ns = (leaving.began_ns, self._taken_ns)
        kind = SpanKind.PRODUCER
        publish = Span(event.update, span, parent, "publish", *times_ns, kind)
        self._tracer.write((publish,))

    def _proven(self, entry: f.SpoolEntry) -> None:
        update, leaving = entry.update, self._departure(entry)
        # Only of this update's trace: the context comes with a message, which anybody
        # at the broker may have put there.
        parent = parent_span(self._heard, update)
        if parent is None and self._heard:
            self._ignored += 1
        facts = (("starling.ignored_parents", self._ignored),)
        times_ns = (self._taken_ns, self._tracer.now_ns())
        prove = Span(
            update,
            self._tracer.fresh_id(),
            parent or leaving.span,
            "prove",
            *times_ns,
            SpanKind.CONSUMER,
            facts if self._ignored else (),
        )
        self._tracer.write((prove,))

"""Trace of an update, from its training to its proof, over all machines it comes to.

Whoever holds an update knows its trace: the trace id is the head of the update's id. So
no coordinator takes anybody's word for it, no one can put spans into another's trace,
and it names no board beyond what the chain says of the update. Messages about an update
name their sender's span, as an MQTT 5 user property.

Source: W3C Trace Context (2021), sections 3.2 and 4.3; OpenTelemetry protocol 1.x,
`opentelemetry/proto/trace/v1/trace.proto`.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from starling.protocol.ids import Digest

TRACEPARENT = "traceparent"
"""Name of the user property."""
TRACEPARENT_CHARS = 55
TRACE_ID_BYTES = 16
SPAN_ID_BYTES = 8
Facts = tuple[tuple[str, int | str], ...]
"""Attributes by name."""
_FORM = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}", re.ASCII)


class SpanKind(IntEnum):
    """Kind of a span, by its number in the protocol."""

    INTERNAL = 1
    PRODUCER = 4
    CONSUMER = 5


@dataclass(frozen=True, slots=True)
class Span:
    """One step of an update's way, done.

    Attributes:
      update: Id of the update, whose trace it is of.
      span: Its id, `SPAN_ID_BYTES` and not all 0.
      parent: Id of the step that led to it; empty if that is not known.
      name: A verb.
      began_ns: Unix time, by the clock of whoever did it.
      ended_ns: Unix time.
      kind: Whether it hands the update over, or takes it.
      facts: More of it.
    """

    update: Digest
    span: bytes
    parent: bytes
    name: str
    began_ns: int
    ended_ns: int
    kind: SpanKind = SpanKind.INTERNAL
    facts: Facts = ()


def trace_id(update: Digest) -> bytes:
    """Trace of an update, `TRACE_ID_BYTES`."""
    return update[:TRACE_ID_BYTES]


def traceparent(update: Digest, span: bytes) -> str:
    """Value of the property in a message about an update: sampled, version 00."""
    return f"00-{trace_id(update).hex()}-{span.hex()}-01"


def parent_span(value: str, update: Digest) -> bytes | None:
    """Span that a message about an update names; None if it is to be ignored.

    It is ignored if its form is not version 00's, or its trace is another update's.

    Args:
      value: Of the property, from anybody.
      update: What the message is about.
    """
    found = _FORM.fullmatch(value)
    if found is None or bytes.fromhex(found[1]) != trace_id(update):
        return None
    span = bytes.fromhex(found[2])
    # All zeros are no span id (W3C Trace Context, section 3.2).
    return span if any(span) else None


@dataclass(frozen=True)
class Tracer:
    """World of whoever makes spans.

    Attributes:
      now_ns: Unix time.
      fresh_id: `SPAN_ID_BYTES` random bytes.
      write: Keeps spans, or loses them; raises nothing.
    """

    now_ns: Callable[[], int]
    fresh_id: Callable[[], bytes]
    write: Callable[[Sequence[Span]], None]

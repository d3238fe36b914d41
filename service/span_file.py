"""Spans as lines of OpenTelemetry's JSON, in a file of each process.

Nothing here opens a connection: a board talks to its broker alone. A collector's
`otlpjsonfile` receiver reads the files and follows their rotation. Spans are for
people: a file that cannot be written loses them, and stops nothing.

OpenTelemetry's own library is not used: with its exporter it costs a board 14 more
packages, 19 MB of memory (an idle agent has 26 MB) and a thread that talks to some
address, for what is written here.

Source: OpenTelemetry protocol, "File exporter", and protocol specification 1.x, "JSON
Protobuf encoding": ids in hex, 64-bit integers as strings.
"""

import argparse
import json
import logging
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from starling.durable.files import refusal, storage_errors, write_all
from starling.protocol.wire.trace_context import (
    SPAN_ID_BYTES,
    Facts,
    Span,
    Tracer,
    trace_id,
)
from starling.service.repeated_warnings import RepeatedWarnings

VARIABLE = "STARLING_SPANS"
"""Names the folder to a process and those that it starts; none by default."""
FILE_BYTES_MAX = 8 << 20
"""After which the file becomes `NAME.1.jsonl`, and the one of that name goes."""
log = logging.getLogger("starling.spans")


def add_spans(verb: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Adds `--spans`."""
    verb.add_argument(
        "--spans",
        type=Path,
        metavar="DIR",
        help="write OpenTelemetry spans of each update there, as lines of JSON"
        f" (default: where {VARIABLE} says, or none)",
    )


def use_spans(options: argparse.Namespace) -> None:
    """Has this process, and those that it starts, write spans as the option says."""
    if options.spans is not None:
        os.environ[VARIABLE] = str(options.spans.absolute())


def open_tracer(service: str, instance: str) -> Tracer | None:
    """Tracer of this process's spans; None if nobody asked for any.

    Args:
      service: What it is, such as `agent`.
      instance: Which one of them.

    Raises:
      StorageError: If there can be no file.
    """
    folder = os.environ.get(VARIABLE)
    if not folder:
        return None
    file = SpanFile(Path(folder), service, instance)
    return Tracer(time.time_ns, lambda: os.urandom(SPAN_ID_BYTES), file.write)


class SpanFile:
    """The file of one process."""

    def __init__(self, folder: Path, service: str, instance: str) -> None:
        """Opens it, behind what an earlier run wrote.

        Raises:
          StorageError: If there can be no file.
        """
        self._path = folder / f"{service}-{instance}.jsonl"
        self._resource = (
            ("service.name", f"starling-{service}"),
            ("service.instance.id", instance),
        )
        self._told = RepeatedWarnings()
        with storage_errors(self._path):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self._open()

    def write(self, spans: Sequence[Span]) -> None:
        """Appends a line; a disk that refuses it loses the spans."""
        try:
            # Asked of the file: it may hold what an earlier run wrote.
            if os.fstat(self._file).st_size >= FILE_BYTES_MAX:
                # Gone already where the last try could not open another file.
                with suppress(FileNotFoundError):
                    self._path.replace(self._path.with_suffix(".1.jsonl"))
                fresh = self._open()
                os.close(self._file)
                self._file = fresh
            write_all(self._file, json_line(self._resource, spans))
        except OSError as error:
            text = f"spans are lost: {self._path}: {refusal(error)}"
            if self._told.is_new(text, time.monotonic()):
                log.warning("%s", text)

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        return os.open(self._path, flags, 0o640)


def json_line(resource: Facts, spans: Sequence[Span]) -> bytes:
    """One `ExportTraceServiceRequest`, on a line."""
    document = {
        "resourceSpans": [
            {
                "resource": {"attributes": _attributes(resource)},
                "scopeSpans": [
                    {
                        "scope": {"name": "starling"},
                        "spans": [_span(span) for span in spans],
                    }
                ],
            }
        ]
    }
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def _span(span: Span) -> dict[str, Any]:
    made = {
        "traceId": trace_id(span.update).hex(),
        "spanId": span.span.hex(),
        "parentSpanId": span.parent.hex(),
        "name": span.name,
        "kind": int(span.kind),
        "startTimeUnixNano": str(span.began_ns),
        "endTimeUnixNano": str(span.ended_ns),
        "attributes": _attributes(span.facts),
    }
    # Defaults are left out in protobuf's JSON; a root span has no parent.
    return {key: value for key, value in made.items() if value not in ("", [])}


def _attributes(facts: Facts) -> list[dict[str, Any]]:
    return [{"key": name, "value": _value(value)} for name, value in facts]


def _value(value: int | str) -> dict[str, str]:
    if isinstance(value, int):
        return {"intValue": str(value)}
    return {"stringValue": value}

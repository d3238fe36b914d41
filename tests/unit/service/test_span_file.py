"""Lines of OpenTelemetry's JSON, and a disk that refuses them."""

import argparse
import json
import logging
import os
from pathlib import Path

import pytest

from starling.protocol.errors import StorageError
from starling.protocol.ids import H
from starling.protocol.wire.trace_context import Span, SpanKind, trace_id
from starling.service import span_file
from starling.service.span_file import (
    VARIABLE,
    SpanFile,
    add_spans,
    open_tracer,
    use_spans,
)

UPDATE = H(b"an update")
SPAN = Span(
    UPDATE,
    b"\x01" * 8,
    b"\x02" * 8,
    "publish",
    1_700_000_000_000_000_001,
    1_700_000_000_000_000_002,
    SpanKind.PRODUCER,
    (("starling.task", 3), ("starling.update", "ab")),
)


def test_span_is_written_as_the_protocol_s_json(tmp_path: Path) -> None:
    SpanFile(tmp_path, "agent", "ann").write((SPAN,))

    (line,) = (tmp_path / "agent-ann.jsonl").read_text().splitlines()
    (resource,) = json.loads(line)["resourceSpans"]
    assert resource["resource"]["attributes"] == [
        {"key": "service.name", "value": {"stringValue": "starling-agent"}},
        {"key": "service.instance.id", "value": {"stringValue": "ann"}},
    ]
    assert resource["scopeSpans"][0]["spans"] == [
        {
            "traceId": trace_id(UPDATE).hex(),
            "spanId": "01" * 8,
            "parentSpanId": "02" * 8,
            "name": "publish",
            "kind": 4,
            "startTimeUnixNano": "1700000000000000001",
            "endTimeUnixNano": "1700000000000000002",
            "attributes": [
                {"key": "starling.task", "value": {"intValue": "3"}},
                {"key": "starling.update", "value": {"stringValue": "ab"}},
            ],
        }
    ]


def test_file_that_is_full_is_set_aside_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(span_file, "FILE_BYTES_MAX", 600)
    file = SpanFile(tmp_path, "agent", "ann")

    for _ in range(7):
        file.write((SPAN,))

    older, newer = tmp_path / "agent-ann.1.jsonl", tmp_path / "agent-ann.jsonl"
    assert len(list(tmp_path.iterdir())) == 2
    assert len(older.read_text().splitlines()) == 2
    assert len(newer.read_text().splitlines()) == 1


def test_disk_that_refuses_loses_spans_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = SpanFile(tmp_path, "agent", "ann")

    def full(descriptor: int, content: bytes) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(span_file, "write_all", full)
    with caplog.at_level(logging.WARNING):
        file.write((SPAN,))
        file.write((SPAN,))

    (record,) = caplog.records
    assert "spans are lost" in record.message
    assert "disk full" in record.message


def test_file_that_cannot_be_followed_by_another_takes_spans_once_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(span_file, "FILE_BYTES_MAX", 1)
    file = SpanFile(tmp_path, "agent", "ann")
    file.write((SPAN,))
    opened = os.open

    def refused(*_: object) -> int:
        raise OSError(24, os.strerror(24))

    monkeypatch.setattr(os, "open", refused)
    for _ in range(2):
        file.write((SPAN,))
    # Nobody else gets the number of a file that is still written to.
    taken = opened(tmp_path / "stranger", os.O_RDWR | os.O_CREAT, 0o600)
    file.write((SPAN,))
    monkeypatch.setattr(os, "open", opened)
    file.write((SPAN,))
    os.close(taken)

    assert (tmp_path / "stranger").read_bytes() == b""
    assert len((tmp_path / "agent-ann.1.jsonl").read_text().splitlines()) == 1
    assert len((tmp_path / "agent-ann.jsonl").read_text().splitlines()) == 1


def test_folder_that_cannot_be_is_an_error_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="agent-ann"):
        SpanFile(tmp_path / "file", "agent", "ann")


def test_nobody_asked_nothing_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert open_tracer("agent", "ann") is None


def test_option_holds_for_processes_that_are_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.chdir(tmp_path)
    parser = argparse.ArgumentParser()
    add_spans(parser)

    use_spans(parser.parse_args([]))
    assert open_tracer("agent", "ann") is None
    use_spans(parser.parse_args(["--spans", "here"]))
    tracer = open_tracer("agent", "ann")

    assert tracer is not None
    assert len(tracer.fresh_id()) == 8
    assert os.environ[VARIABLE] == str(tmp_path / "here")
    assert (tmp_path / "here" / "agent-ann.jsonl").exists()

"""One update is one trace, over a board, a broker, a coordinator and its chain."""

import json
from pathlib import Path
from typing import Any

import pytest

from starling.coordinator.runtime.storage.sqlite_schema import CHAIN_FILE
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.protocol.errors import EXIT_CONFIG, EXIT_DONE
from starling.protocol.wire.envelope import ENVELOPE, MessageKind
from tests.e2e.fleet.fleet_process import run
from tests.e2e.required_mosquitto import require_mosquitto

pytestmark = pytest.mark.e2e

PARENTS = {
    "train": None,
    "sign": "train",
    "publish": "sign",
    "receive": "publish",
    "check": "receive",
    "propose": "check",
    "commit": "propose",
    "aggregate": "commit",
    "finalise": "aggregate",
    "prove": "commit",
}
BOARD_S = {"train", "sign", "publish", "prove"}


def read_spans(folder: Path) -> dict[str, dict[str, Any]]:
    """By trace and name, with the service of each."""
    traces: dict[str, dict[str, Any]] = {}
    for path in folder.glob("*.jsonl"):
        for line in path.read_text().splitlines():
            (resource,) = json.loads(line)["resourceSpans"]
            service = resource["resource"]["attributes"][0]["value"]["stringValue"]
            for span in resource["scopeSpans"][0]["spans"]:
                named = traces.setdefault(span["traceId"], {})
                assert span["name"] not in named
                named[span["name"]] = {**span, "service": service}
    return traces


def updates_of(coordinator: Path) -> list[str]:
    """Ids of all updates in the chain."""
    store = SqliteStore.open(coordinator / "state" / CHAIN_FILE)
    chain_id, found, height = store.genesis.chain_id(), [], 1
    while (stored := store.block(height)) is not None:
        envelopes = [ENVELOPE.unpack(each) for each in stored.block.transactions]
        updates = [each for each in envelopes if each.kind == MessageKind.UPDATE]
        found += [each.identity(chain_id).hex() for each in updates]
        height += 1
    store.close()
    return found


def test_update_of_a_fleet_is_one_trace_with_the_right_parents(tmp_path: Path) -> None:
    require_mosquitto()
    home, spans = tmp_path / "home", tmp_path / "spans"
    words = ["--devices", "1", "--buffer", "1", "--privacy", "none"]
    words += ["--until-version", "3", "--home", str(home), "--spans", str(spans)]

    done = run(*words)

    assert done.returncode == EXIT_DONE, done.stderr
    traces = read_spans(spans)
    updates = updates_of(home / "coordinator")
    assert len(updates) >= 3
    assert {each[:32] for each in updates} <= traces.keys()
    for update in updates[:3]:
        trace = traces[update[:32]]
        assert trace.keys() == PARENTS.keys()
        for name, parent in PARENTS.items():
            above = None if parent is None else trace[parent]["spanId"]
            assert trace[name].get("parentSpanId") == above, name
            role = "agent" if name in BOARD_S else "coordinator"
            assert trace[name]["service"] == f"starling-{role}"
    refused = json.loads((home / "coordinator" / "status.json").read_text())
    assert refused["updates"]["refused"] == {}


def test_virtual_fleet_has_no_spans(tmp_path: Path) -> None:
    done = run("--virtual", "--spans", str(tmp_path / "spans"))

    assert done.returncode == EXIT_CONFIG
    assert "--spans" in done.stderr

"""`starling reputation`: what the chain thinks of each board."""

import argparse
import json
import sys
from typing import Any

from starling.coordinator.chain.tasks.reputations import REPUTATIONS
from starling.coordinator.runtime.storage.sqlite_schema import CHAIN_FILE
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.protocol.errors import EXIT_DONE
from starling.protocol.ids import DeviceId, device_name
from starling.protocol.learning.board_reputation import (
    MILLION,
    BoardReputation,
    opinion,
)
from starling.service.arguments import command, home_of

_EXAMPLES = """\
  starling reputation --home coordinator/
  starling reputation --home coordinator/ --json
  starling chain export --home coordinator/ --out audit/ --vectors
  starling reputation --home audit/

The home may be that of a running coordinator, or a copy that `chain export --vectors`
wrote. Boards whose updates were never scored are not listed.
"""


def main(argv: list[str]) -> int:
    """Prints the reputations of a chain's boards, the worst first.

    Returns:
      The exit status.

    Raises:
      ConfigError, StorageError: Printed by the caller.
    """
    options = parser().parse_args(argv)
    store = SqliteStore.read(home_of(options) / "state" / CHAIN_FILE)
    # A running coordinator may write between two reads.
    with store.one_moment():
        tip = store.tip()
    store.close()
    # A quarantine ends by the chain's time, the same for everybody who reads it.
    now_ms = tip.header.time_ms if tip.header is not None else 0
    prefix = REPUTATIONS.prefix
    found = [
        _document(
            DeviceId(key.removeprefix(prefix)), REPUTATIONS.codec.unpack(packed), now_ms
        )
        for key, packed in tip.tree.items(prefix)
    ]
    found.sort(key=lambda row: (row["expectation"], row["board"]))
    height = tip.header.height if tip.header is not None else 0
    text = (
        json.dumps({"height": height, "boards": found})
        if options.json
        else "\n".join(_lines(found, height))
    )
    sys.stdout.write(text + "\n")
    return EXIT_DONE


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = command("reputation", "What the chain thinks of each board.", _EXAMPLES)
    made.add_argument(
        "--home",
        metavar="DIR",
        help="the coordinator's folder, or a copy of it (default: $STARLING_HOME)",
    )
    made.add_argument("--json", action="store_true", help="print one JSON document")
    return made


def _document(board: DeviceId, known: BoardReputation, now_ms: int) -> dict[str, Any]:
    held = opinion(known)
    return {
        "board": device_name(board),
        "expectation": known.expectation_ppm / MILLION,
        "belief": held.belief / MILLION,
        "disbelief": held.disbelief / MILLION,
        "uncertainty": held.uncertainty / MILLION,
        "scored": known.scored,
        "quarantines": known.quarantines,
        "quarantined": known.is_quarantined(now_ms),
        "until_ms": known.until_ms,
    }


def _lines(found: list[dict[str, Any]], height: int) -> list[str]:
    if not found:
        return [f"height {height}: no update was scored; see `scores` of task.toml"]
    head = (
        f"{'board':<34}{'expected':>9}{'belief':>8}{'disbelief':>11}"
        f"{'uncertain':>11}{'scored':>8}  quarantine"
    )
    return [f"height {height}", head, *[_line(row) for row in found]]


def _line(row: dict[str, Any]) -> str:
    told = "never"
    if row["quarantines"]:
        state = "now" if row["quarantined"] else "over"
        told = f"{state}, {row['quarantines']} in all"
    return (
        f"{row['board']:<34}{row['expectation']:>9.3f}{row['belief']:>8.3f}"
        f"{row['disbelief']:>11.3f}{row['uncertainty']:>11.3f}"
        f"{row['scored']:>8}  {told}"
    )

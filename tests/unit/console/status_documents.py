"""Status documents as a coordinator writes them, small and of any content."""

import copy
from typing import Any

from starling.console import status_facts
from starling.console.pages.layout import PageFrame
from starling.console.status_facts import StatusFacts

Document = dict[str, Any]
NOW_MS = 1_800_000_000_000
HOSTILE = "<script>alert(1)</script>\"'&\N{RIGHT-TO-LEFT OVERRIDE}\x00"


def version(number: int, accuracy: float | None = 0.5) -> Document:
    return {
        "version": number,
        "time_ms": NOW_MS - 10_000 + 1000 * number,
        "updates": 3 if number else 0,
        "accuracy": accuracy,
        "loss": None if accuracy is None else 2.0 - accuracy,
        "evaluation_failures": 0,
        "staleness_mean": 1.5,
        "epsilon_max": 0.5 * number,
    }


def board(name: str, phase: str = "TRAINING", **values: Any) -> Document:  # noqa: ANN401 - as in JSON
    return {
        "id": name,
        "phase": phase,
        "updates_accepted": 2,
        "updates_refused": {},
        "ignored": 0,
        "bytes_up": 1000,
        "bytes_down": 2000,
        "epsilon": 1.25,
        **values,
    }


_TASK: Document = {
    "task": 0,
    "name": "digits",
    "head": 3,
    "buffer": 4,
    "pending": 1,
    "job": None,
    "computing": None,
    "sought": None,
    "lacking": 0,
    "attested": {"by_digest": {"ab" * 32: ["north"]}, "split": False},
    "leases": 2,
    "lease_places": 5,
    "waiting": 6,
    "versions": [version(0, 0.1), version(1, 0.6), version(2, 0.8), version(3, 0.7)],
}
_DOCUMENT: Document = {
    "state": "running",
    "id": "a" * 26,
    "pid": 1,
    "started_ms": NOW_MS - 60_000,
    "now_ms": NOW_MS,
    "chain": {
        "height": 17,
        "tip": "cd" * 32,
        "state_root": "ef" * 32,
        "boards": 2,
        "waiting": 9,
        "time_ms": NOW_MS - 1000,
        "heartbeat_s": 10,
        "diverged": None,
    },
    "consensus": {
        "validators": 4,
        "index": 0,
        "learns": False,
        "pinned": None,
        "quorum": 3,
        "fault_model": "byzantine",
        "height": 18,
        "round": 0,
        "silence": "",
        "passed_over": [],
        "missing": [],
        "fork": None,
        "step": "propose",
        "rounds": 5,
        "signed_by": ["north", "south", "east"],
        "outvoted": {},
        "convicted": {},
        "wanted": 0,
        "peers": [],
    },
    "finality_s": 0.04,
    "tasks": [_TASK],
    "phases": {"TRAINING": 1, "LOST": 1},
    "updates": {"accepted": 12, "refused": {"STALE": 4}, "passing": {"NOT_HERE": 1}},
    "refused_peers": [],
    "traffic": {
        "bytes_up": 5000,
        "bytes_down": 7000,
        "dropped": {"boards": 2},
        "ignored": {"b" * 26: 3},
        "wants_dropped": 0,
    },
    "privacy": {"epsilon_max": 1.25, "delta": 1e-5, "unit": "record"},
    "broker": "connected",
    "broker_rights": "",
    "disk": {"free_bytes": 10**10, "trouble": ""},
    "stall": {
        "stalled": False,
        "block_age_s": 1.5,
        "step_age_s": 1.5,
        "missing_prevotes": [],
        "missing_precommits": [],
        "why": [],
    },
    "devices": [board("b" * 26), board("c" * 26, "LOST")],
}


def document() -> Document:
    """A whole document, to be changed at will."""
    return copy.deepcopy(_DOCUMENT)


def facts(made: Document | None = None, age_s: float = 1.0) -> StatusFacts:
    return status_facts.read(document() if made is None else made, age_s)


def frame(made: Document | None = None, age_s: float = 1.0) -> PageFrame:
    return PageFrame("meadow", facts(made, age_s))

"""Text that `starling coordinator status` prints of a `status.json`."""

from pathlib import Path
from typing import Any

from starling.coordinator.runtime.operations.process_liveness import lives
from starling.coordinator.runtime.status.status_reader import read_status
from starling.protocol.chain.genesis import FaultModel
from starling.protocol.errors import OperationError

NOT_OF_THIS_RELEASE = (
    LookupError,
    TypeError,
    AttributeError,
    ValueError,
    OverflowError,
)
"""Raised by whoever looks into a document of another form."""


def status_shown(
    path: Path, more: dict[str, Any], *, as_text: bool
) -> tuple[dict[str, Any], str]:
    """The status that a coordinator last wrote, and its text.

    Args:
      path: Of `status.json`.
      more: What is looked at now.
      as_text: Whether the text is wanted; else it is empty.

    Raises:
      OperationError: If there is none, or none that can be read.
      StorageError: If the disk refuses.
    """
    document = read_status(path)
    if document is None:
        raise OperationError("no status yet: the coordinator has not run here")
    try:
        # A process that is killed writes no last status.
        if document["state"] != "stopped" and not lives(document["pid"]):
            document["state"] = f"not running, was: {document['state']}"
        document |= more
        return document, status_text(document).rstrip("\n") if as_text else ""
    except NOT_OF_THIS_RELEASE as error:
        raise OperationError(
            f"{path}: not of this release; the coordinator writes it anew once it runs"
        ) from error


def status_text(document: dict[str, Any]) -> str:
    """One line per fact."""
    rows = [
        ("state", document["state"]),
        ("broker", document["broker"]),
        *_certificate_rows(document.get("certificates", {})),
        *_outside_rows(document),
        ("height", document["chain"]["height"]),
        *_stall_rows(document),
        *_consensus_rows(document.get("consensus")),
        ("boards", document["chain"]["boards"]),
        ("accepted", document["updates"]["accepted"]),
    ]
    rows += [
        (f"refused {peer['name']}", _counts(peer["reasons"]))
        for peer in document.get("refused_peers", [])
    ]
    refused = document["updates"]["refused"]
    rows += [(f"refused {reason.lower()}", count) for reason, count in refused.items()]
    passing = document["updates"].get("passing")
    if passing:
        rows.append(("refused in passing", _counts(passing)))
    rows += _overload_rows(document.get("traffic", {}))
    rows += _vector_rows(document.get("vectors"))
    for task in document["tasks"]:
        newest = task["versions"][-1] if task["versions"] else {}
        accuracy = newest.get("accuracy")
        shown = "" if accuracy is None else f", accuracy {100 * accuracy:.2f} %"
        waits = _waits(task, document["chain"])
        rows.append((f"task {task['task']}", f"version {task['head']}{waits}{shown}"))
        rows += _held_out_rows(task)
        if ends := [task[why] for why in ("closed", "ended") if task.get(why)]:
            rows.append((f"task {task['task']} ENDED", "; ".join(ends)))
        rows += _reward_rows(task)
        rows += _split_rows(task)
    return "".join(f"{name:<24} {value}\n" for name, value in rows)


def _certificate_rows(found: dict[str, str]) -> list[tuple[str, Any]]:
    """Rows of the ends of certificates, and of those that wait to be renewed."""
    names = {"tls.expiry": "certificate", "tls.renewals": "renewals"}
    for name in found:
        if name.startswith("tls.expiry-"):
            names[name] = f"certificate {name.removeprefix('tls.expiry-')}"
    return [(names[name], text) for name, text in found.items() if name in names]


def _held_out_rows(task: dict[str, Any]) -> list[tuple[str, Any]]:
    """Rows of a task's best held-out loss by a quorum, and of what got worse."""
    found = task.get("held_out")
    if found is None:
        return []
    name = f"task {task['task']}"
    rows = [(f"{name} best", f"version {found['best']}, loss {found['best_loss']:.4f}")]
    if found["text"]:
        rows.append(
            (f"{name} {'PAUSES' if found['paused'] else 'WORSE'}", found["text"])
        )
    return rows


def _reward_rows(task: dict[str, Any]) -> list[tuple[str, Any]]:
    """Row of what a task pays, and how; none where it pays nothing."""
    found = task.get("rewards")
    if found is None:
        return []
    aside = f", {found['set_aside']} set aside" if found["set_aside"] else ""
    left = f"{found['pool']} credits left, {found['version']} a version{aside}"
    return [(f"task {task['task']} rewards", f"{left}; {found['text']}")]


def _waits(task: dict[str, Any], chain: dict[str, Any]) -> str:
    """Updates that the next version has and wants, and the boards that make it."""
    if "buffer" not in task:
        # Written by an earlier release.
        return ""
    updates = f"{task['pending']} of {task['buffer']} updates"
    return f", {updates}, {chain['boards']} boards"


def _overload_rows(traffic: dict[str, Any]) -> list[tuple[str, Any]]:
    """Rows of what was dropped under overload, by name; none in calm weather."""
    rows = [
        (f"no room for {lane}", f"{count} messages dropped")
        for lane, count in traffic.get("dropped", {}).items()
    ]
    rows += [
        ("beyond its allowance", f"{name}: {count} messages dropped")
        for name, count in traffic.get("ignored", {}).items()
    ]
    return rows


def _vector_rows(vectors: dict[str, int] | None) -> list[tuple[str, Any]]:
    """Row of the vectors that a trace could use; none of an earlier release's file."""
    if vectors is None:
        return []
    used, most = vectors["bytes"] / (1 << 20), vectors["bytes_max"] >> 20
    return [("vectors kept", f"{vectors['kept']}, {used:.1f} of {most} MiB")]


def _counts(reasons: dict[str, int]) -> str:
    """Counts of refusals by name."""
    return ", ".join(f"{name.lower()} {count}" for name, count in reasons.items())


def _outside_rows(document: dict[str, Any]) -> list[tuple[str, Any]]:
    """Rows of problems around the coordinator."""
    texts = [document.get("broker_rights"), document.get("disk", {}).get("trouble")]
    parts = [text.partition(": ") for text in texts if text]
    return [(name, text) for name, _, text in parts]


def _stall_rows(document: dict[str, Any]) -> list[tuple[str, Any]]:
    """Since when nothing was decided, and why if that is too long."""
    stall = document.get("stall")
    if stall is None:
        # Written by an earlier release.
        return []
    rows: list[tuple[str, Any]] = [
        ("last block", f"{stall['block_age_s']:.0f} s ago"),
    ]
    if stall["stalled"]:
        rows.append(("STANDS STILL", f"for {stall['block_age_s']:.0f} s"))
        rows += [("because", text) for text in stall["why"]]
    diverged = document["chain"].get("diverged")
    if diverged is not None:
        computed = diverged["computed"] or "none"
        roots = f"certified {diverged['certified'][:16]}, here {computed[:16]}"
        text = f"{roots}; {diverged['detail']}"
        rows.append((f"STATE DIFFERS at {diverged['height']}", text))
    return rows


def _consensus_rows(consensus: dict[str, Any] | None) -> list[tuple[str, Any]]:
    """Rows of consensus and of the other coordinators."""
    if consensus is None:
        # Written by an earlier release.
        return []
    decides = f"{consensus['quorum']} of {consensus['validators']} decide"
    # Said each time: in such a chain a single coordinator that lies can fork it.
    if consensus["fault_model"] != FaultModel.BYZANTINE.name.lower():
        decides += f"; {consensus['fault_model'].upper()}-ONLY: safe while nobody lies"
    rows: list[tuple[str, Any]] = [("consensus", decides)]
    if consensus["validators"] > 1:
        rows.append(("round", f"{consensus['round']}, {consensus['step']}"))
    if consensus.get("passed_over"):
        rows.append(("passed over", ", ".join(consensus["passed_over"])))
    rows += _halt_rows(consensus)
    rows += _own_rows(consensus)
    rows += [
        (
            peer["name"],
            f"{'learning' if peer.get('learner') else 'deciding'} {peer['height']}, "
            f"heard {peer['silent_s']:.1f} s ago",
        )
        for peer in consensus["peers"]
    ]
    rows += [
        (f"{name} outvoted", f"{count} versions")
        for name, count in consensus["outvoted"].items()
    ]
    rows += [
        (f"{name} convicted", offence)
        for name, offence in consensus.get("convicted", {}).items()
    ]
    return rows


def _own_rows(consensus: dict[str, Any]) -> list[tuple[str, Any]]:
    """Rows of why this coordinator does not vote, and of its chain's gap."""
    rows: list[tuple[str, Any]] = []
    if consensus.get("index", 0) is None:
        learns = "learns, and decides once a motion adds it"
        role = learns if consensus.get("learns") else "no part in the chain"
        rows.append(("no validator", role))
    elif consensus.get("silence"):
        rows.append(("does not vote", consensus["silence"]))
    pinned = consensus.get("pinned")
    if pinned is not None and consensus["height"] <= pinned:
        rows.append(("pinned", f"height {pinned}, not reached yet"))
    return rows


def _halt_rows(consensus: dict[str, Any]) -> list[tuple[str, Any]]:
    """Rows of why finality is halted: too few validators, or a fork."""
    rows: list[tuple[str, Any]] = []
    missing = consensus.get("missing", [])
    heard = consensus["validators"] - len(missing)
    # Below a quorum no height is decided, in whatever round (Tendermint waits, and does
    # not fork).
    if heard < consensus["quorum"]:
        who = ", ".join(f"{one['name']} for {one['silent_s']:.0f} s" for one in missing)
        text = f"heard from {heard} of {consensus['validators']}; missing {who}"
        rows.append(("no quorum", text))
    fork = consensus.get("fork")
    if fork is not None:
        liars = ", ".join(fork["liars"]) or "nobody can be named"
        rows.append((f"FORK at {fork['height']}", f"more lied than allowed: {liars}"))
    return rows


def _split_rows(task: dict[str, Any]) -> list[tuple[str, Any]]:
    """Row of an open job that cannot end, since too many attested wrongly."""
    attested = task.get("attested", {})
    if not attested.get("split"):
        return []
    sides = [", ".join(names) for names in attested["by_digest"].values()]
    version = task["head"] + 1
    text = f"version {version} cannot become final, digests differ: {' | '.join(sides)}"
    return [(f"task {task['task']}", text)]

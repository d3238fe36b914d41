"""Checks of `starling coordinator check` on a coordinator's last status.

Pure: from the status document to rows. `coordinator.cli.self_check` adds what only a
look at the machine tells.
"""

from typing import Any

from starling.broker.health_checks import HealthCheck, Verdict

BLOCKS_LATE = 2
"""Heartbeats without a block after which there is a warning."""
CLOCK_OFF_S = 60.0
"""Header time lags a heartbeat behind; beyond that and this a clock is wrong."""
UNTRIED_MAX = 3
"""Newest versions that may be without an evaluation, which takes its time."""
_MEND_PEER = "look at its log, and tell its operator"


def check_status(document: dict[str, Any]) -> list[HealthCheck]:
    """Checks that need nothing but the status.

    Args:
      document: Of `status.json`.
    """
    return [
        _condition(document),
        _last_block(document),
        _votes(document),
        _state_root(document),
        _vote_allowed(document),
        _quorum(document),
        *_broker(document),
        _disk(document),
        _clock(document),
        _refused(document),
        _evaluation(document),
        _progress(document),
        _dissent(document),
    ]


def _condition(document: dict[str, Any]) -> HealthCheck:
    name, state = "process.condition", document["state"]
    if state == "running":
        return HealthCheck(name, Verdict.OK, state)
    return HealthCheck(name, Verdict.FAIL, state, "run: starling coordinator run")


def _last_block(document: dict[str, Any]) -> HealthCheck:
    name, stall = "chain.last-block", document["stall"]
    heartbeat_s = document["chain"]["heartbeat_s"]
    age_s, height = stall["block_age_s"], document["chain"]["height"]
    found = f"height {height}, {age_s:.0f} s ago"
    if stall["stalled"]:
        why = "; ".join(stall["why"])
        fix = "see the table of stalls in docs/coordinator.md"
        return HealthCheck(name, Verdict.FAIL, f"{found}: stands still: {why}", fix)
    if age_s > BLOCKS_LATE * heartbeat_s:
        fix = "wait for one more heartbeat, and check again"
        return HealthCheck(
            name, Verdict.WARN, f"{found}, heartbeat {heartbeat_s} s", fix
        )
    return HealthCheck(name, Verdict.OK, found)


def _votes(document: dict[str, Any]) -> HealthCheck:
    name, stall, consensus = "consensus.votes", document["stall"], document["consensus"]
    place = f"round {consensus['round']}, {consensus['step']}"
    kinds = ("prevotes", "precommits")
    missing = [
        f"{kind} of {', '.join(stall[f'missing_{kind}'])}"
        for kind in kinds
        if stall[f"missing_{kind}"]
    ]
    if missing and (stall["stalled"] or consensus["round"]):
        found = f"{place}: missing {'; '.join(missing)}"
        verdict = Verdict.FAIL if stall["stalled"] else Verdict.WARN
        return HealthCheck(name, verdict, found, "see whether those coordinators run")
    return HealthCheck(name, Verdict.OK, place)


def _state_root(document: dict[str, Any]) -> HealthCheck:
    name, found = "chain.state-root", document["chain"]["diverged"]
    if found is None:
        return HealthCheck(
            name, Verdict.OK, "no certified header differs from what we get"
        )
    computed = found["computed"] or "none"
    text = (
        f"block {found['height']}: certified {found['certified']}, here {computed}: "
        f"{found['detail']}"
    )
    fix = "stop it, run the release that the others run, and: chain verify"
    return HealthCheck(name, Verdict.FAIL, text, fix)


def _vote_allowed(document: dict[str, Any]) -> HealthCheck:
    name, consensus = "consensus.may-vote", document["consensus"]
    if consensus["fork"] is not None:
        text = f"the chain forked at {consensus['fork']['height']}"
        return HealthCheck(name, Verdict.FAIL, text, "decide with the other operators")
    if consensus["silence"]:
        fix = "wait, or do what it says"
        return HealthCheck(name, Verdict.WARN, f"no: {consensus['silence']}", fix)
    if consensus["index"] is None:
        fix = "starling coordinator motion validator-add, or stop it"
        return HealthCheck(name, Verdict.WARN, "no: it is no validator", fix)
    return HealthCheck(name, Verdict.OK, "yes")


def _quorum(document: dict[str, Any]) -> HealthCheck:
    name, consensus = "consensus.quorum", document["consensus"]
    gone, count = consensus["missing"], consensus["validators"]
    found = f"hears {count - len(gone)} of {count}, {consensus['quorum']} decide"
    if not gone:
        return HealthCheck(name, Verdict.OK, found)
    who = ", ".join(f"{one['name']} for {one['silent_s']:.0f} s" for one in gone)
    few = count - len(gone) < consensus["quorum"]
    verdict = Verdict.FAIL if few else Verdict.WARN
    fix = "start them, or mend the way to them"
    return HealthCheck(name, verdict, f"{found}; silent: {who}", fix)


def _broker(document: dict[str, Any]) -> list[HealthCheck]:
    brokers = document["broker"]
    connected = all(part.endswith("connected") for part in brokers.split("; "))
    connected = connected and "disconnected" not in brokers
    verdict = Verdict.OK if connected else Verdict.FAIL
    fix = "" if connected else "run: starling broker check"
    rows = [HealthCheck("broker.connection", verdict, brokers, fix)]
    rights, name = document["broker_rights"], "broker.rights"
    if rights:
        fix = "run: starling coordinator init again, and reload the broker"
        return [*rows, HealthCheck(name, Verdict.FAIL, rights, fix)]
    return [*rows, HealthCheck(name, Verdict.OK, "the broker takes what we publish")]


def _disk(document: dict[str, Any]) -> HealthCheck:
    name, disk = "disk.free", document["disk"]
    if disk["trouble"]:
        return HealthCheck(
            name, Verdict.WARN, disk["trouble"], "make room, or it will end"
        )
    free = disk["free_bytes"]
    found = "cannot be told" if free is None else f"{free / 1e9:.1f} GB"
    return HealthCheck(name, Verdict.OK, found)


def _clock(document: dict[str, Any]) -> HealthCheck:
    name, header_ms = "clock.header-time", document["chain"]["time_ms"]
    if header_ms is None:
        return HealthCheck(name, Verdict.OK, "no block yet")
    decided_ms = document["now_ms"] - 1000 * document["stall"]["block_age_s"]
    off_s = (decided_ms - header_ms) / 1000
    found = f"ours {off_s:+.0f} s from the last block's"
    if abs(off_s) > CLOCK_OFF_S + 2 * document["chain"]["heartbeat_s"]:
        return HealthCheck(
            name, Verdict.WARN, found, "set the clock; it is for display only"
        )
    return HealthCheck(name, Verdict.OK, found)


def _refused(document: dict[str, Any]) -> HealthCheck:
    name, peers = "peers.refused", document["refused_peers"]
    if not peers:
        return HealthCheck(name, Verdict.OK, "nothing")
    found = "; ".join(
        f"{peer['name']}: "
        + ", ".join(f"{why.lower()} {n}" for why, n in sorted(peer["reasons"].items()))
        for peer in peers
    )
    return HealthCheck(name, Verdict.WARN, found, _MEND_PEER)


def _evaluation(document: dict[str, Any]) -> HealthCheck:
    name = "tasks.evaluation"
    untried = [f"task {t['task']}" for t in document["tasks"] if _is_untried(t)]
    found = [*map(_failed_trial, document["tasks"])]
    if untried:
        found.append(f"{', '.join(untried)}: the last {UNTRIED_MAX} versions untried")
    text = "; ".join(filter(None, found))
    if text:
        return HealthCheck(
            name, Verdict.WARN, text, "look for 'not evaluated' in its log"
        )
    return HealthCheck(
        name, Verdict.OK, "versions are tried, or there is no data for it"
    )


def _progress(document: dict[str, Any]) -> HealthCheck:
    name = "tasks.progress"
    losses = [(task["task"], task.get("held_out")) for task in document["tasks"]]
    found = [(number, loss) for number, loss in losses if loss and loss["text"]]
    if not found:
        return _watched(name, document)
    text = "; ".join(f"task {number} {loss['text']}" for number, loss in found)
    if any(loss["paused"] for _, loss in found):
        fix = "publish a task with smaller steps, or: starling coordinator resume-task"
        return HealthCheck(name, Verdict.FAIL, text, fix)
    fix = "publish a task with a smaller learning_rate or momentum"
    return HealthCheck(name, Verdict.WARN, text, fix)


def _watched(name: str, document: dict[str, Any]) -> HealthCheck:
    """Of tasks of which no loss got worse: whether anybody would know it if one did."""
    # A status that an earlier release wrote says nothing of evaluators.
    known = [
        (t["task"], t["evaluators"]) for t in document["tasks"] if "evaluators" in t
    ]
    unwatched = [
        f"task {number}: {who['found']} of {who['needed']} coordinators"
        for number, who in known
        if who["found"] < who["needed"] and (who["found"] or who["relied_on"])
    ]
    if not unwatched:
        return HealthCheck(name, Verdict.OK, "no held-out loss got worse")
    text = f"nobody sees if a version gets worse: {'; '.join(unwatched)} that evaluate"
    fix = "set evaluation.data at as many coordinators as decide"
    return HealthCheck(name, Verdict.WARN, text, fix)


def _is_untried(task: dict[str, Any]) -> bool:
    """True if versions were evaluated once, and the newest are not."""
    losses = [version["loss"] for version in task["versions"]]
    newest = losses[-UNTRIED_MAX:]
    tried = any(loss is not None for loss in losses)
    return tried and len(newest) == UNTRIED_MAX and newest == [None] * UNTRIED_MAX


def _failed_trial(task: dict[str, Any]) -> str:
    """Last failed evaluation of a version, if none after it succeeded."""
    for version in reversed(task["versions"]):
        if version["loss"] is not None:
            break
        failures = version["evaluation_failures"]
        if failures:
            where = f"task {task['task']}: version {version['version']}"
            return f"{where} could not be tried, {failures} times"
    return ""


def _dissent(document: dict[str, Any]) -> HealthCheck:
    name, consensus = "tasks.dissent", document["consensus"]
    split = [task for task in document["tasks"] if task["attested"]["split"]]
    if split:
        found = "; ".join(
            f"task {task['task']}: version {task['head'] + 1} cannot become final"
            for task in split
        )
        return HealthCheck(name, Verdict.FAIL, found, "mend whoever computes wrongly")
    named = [f"{who} outvoted {n}" for who, n in consensus["outvoted"].items()]
    convicted = consensus["convicted"].items()
    named += [f"{who} convicted: {what}" for who, what in convicted]
    if named:
        return HealthCheck(name, Verdict.WARN, ", ".join(named), _MEND_PEER)
    return HealthCheck(name, Verdict.OK, "none")

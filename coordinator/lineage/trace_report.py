"""A trace in words, and as plain values."""

from typing import Any

from starling.coordinator.lineage.contribution_evidence import (
    ContributionEvidence,
    Measure,
)
from starling.coordinator.lineage.suspects import (
    COPY_REASON,
    BoardEvidence,
)
from starling.coordinator.lineage.version_trace import VersionLoss, VersionTrace
from starling.protocol.ids import device_name

UPDATES_SHOWN = 5
"""Of a suspect, the worst first."""
_EXAMPLES = {Measure.HARM: "held-out examples", Measure.BLAME: "the inputs"}


def document(trace: VersionTrace) -> dict[str, Any]:
    """A trace as JSON holds it."""
    together = trace.together
    return {
        "from": trace.first,
        "version": trace.last,
        "updates": trace.updates,
        "exact": True,
        "losses": _losses(trace.as_it_is),
        "without": [device_name(each) for each in together.without] if together else [],
        "without_suspects": together and _losses(together),
        "suspects": [_board(each, trace) for each in trace.boards if each.suspected],
        "others": [_board(each, trace) for each in trace.boards if not each.suspected],
    }


def lines(trace: VersionTrace, task: int) -> list[str]:
    """A trace for people."""
    said = [
        f"task {task}: versions {trace.first + 1} to {trace.last} made again from "
        f"{trace.updates} updates, each as the chain has it"
    ]
    for measure, loss in trace.as_it_is.losses.items():
        text = f"version {trace.last} loses {loss:.4f} on {_EXAMPLES[measure]}"
        if trace.together is not None:
            loss = trace.together.losses[measure]
            text += f"; without {_left_out(trace, trace.together)} {loss:.4f}"
        said.append(text)
    if Measure.HARM not in trace.as_it_is.losses:
        said.append("without held-out examples (--data) nobody's harm is known")
    suspects = trace.suspects
    if not suspects:
        return [*said, f"nothing speaks against any of {len(trace.boards)} boards"]
    said.append(f"{len(suspects)} of {len(trace.boards)} boards are suspected:")
    said += [f"  {device_name(each.board)}  {_words(each)}" for each in suspects]
    names = " ".join(device_name(each.board) for each in suspects)
    return [
        *said,
        "evidence is no proof: ask the owners; then, to go on without them:",
        f"  starling coordinator rollback {task} --without {names}",
    ]


def _left_out(trace: VersionTrace, together: VersionLoss) -> str:
    """The boards without which a loss is: the suspects, unless others were named."""
    if {*together.without} == {each.board for each in trace.suspects}:
        return "the boards below"
    return ", ".join(device_name(each) for each in together.without)


def _words(one: BoardEvidence) -> str:
    parts = []
    for reason in one.reasons:
        if reason == COPY_REASON:
            whom = ", ".join(device_name(each) for each in one.copied[:UPDATES_SHOWN])
            parts.append(f"{one.copies} near copies, of {whom}")
            continue
        measure = Measure(reason)
        deviation, limit = one.deviations[measure], one.limits[measure]
        parts.append(f"{reason} {deviation:+.1f} (limit {limit:.1f})")
    return f"{one.updates} updates: {'; '.join(parts)}"


def _board(one: BoardEvidence, trace: VersionTrace) -> dict[str, Any]:
    alone = next((each for each in trace.alone if each.without == (one.board,)), None)
    shown: dict[str, Any] = {
        "board": device_name(one.board),
        "updates": one.updates,
        "reasons": list(one.reasons),
        "deviations": {str(key): value for key, value in one.deviations.items()},
        "limits": {str(key): value for key, value in one.limits.items()},
        "copies": one.copies,
        "copied": [device_name(each) for each in one.copied],
        "losses_without": alone and _losses(alone),
    }
    if one.suspected:
        # Of suspects only: a long lineage has thousands of readings.
        own = [each for each in trace.evidence if each.board == one.board]
        shown["contributions"] = [_contribution(each) for each in own]
    return shown


def _contribution(one: ContributionEvidence) -> dict[str, Any]:
    return {
        "update": one.transaction.hex(),
        "version": one.version,
        "base": one.base,
        "copies": [device_name(each) for each in sorted(one.copies)],
        **{
            str(measure): {
                "value": reading.value,
                "off": reading.off,
                "spread": reading.spread,
            }
            for measure, reading in one.readings.items()
        },
    }


def _losses(one: VersionLoss) -> dict[str, float]:
    return {str(measure): loss for measure, loss in one.losses.items()}

"""One coordinator of a running fleet, from what its status says."""

from collections.abc import Mapping
from typing import Any

from starling.fleet.monitor.run_snapshot import CoordinatorPoint, HeldOutLoss

SILENT_AFTER_S = 3.5
"""Coordinators tell each other each second where they are."""


def validator_name(number: int) -> str:
    """A coordinator's name in the genesis."""
    return f"coordinator {number}"


def number_of(name: str) -> int:
    """A coordinator's number, from what the genesis calls it: `coordinator[ -]N`."""
    return int(name.replace("-", " ").rpartition(" ")[2])


def coordinator_point(
    number: int, status: Mapping[str, Any], *, down: bool
) -> CoordinatorPoint:
    """A coordinator as its status says that it is.

    Args:
      number: The coordinator's, from 1.
      status: Its document, or the keys `chain`, `consensus`, `finality_s` and `tasks`.
      down: Whether it does not run.
    """
    chain = status["chain"]
    consensus = status.get("consensus", {})
    return CoordinatorPoint(
        status.get("id", str(number)),
        chain["height"],
        chain["tip"] or "",
        chain["state_root"] or "",
        rounds=consensus.get("rounds", 0),
        faults=sum(consensus.get("outvoted", {}).values()),
        finality_s=status.get("finality_s"),
        round=consensus.get("round", 0),
        down=down,
        named=tuple(sorted(consensus.get("outvoted", {}))),
        number=number,
        hears=tuple(
            number_of(peer["name"])
            for peer in consensus.get("peers", [])
            if peer["silent_s"] < SILENT_AFTER_S
        ),
        signed=validator_name(number) in consensus.get("signed_by", []),
        silence=consensus.get("silence", ""),
        convicted=tuple(sorted(consensus.get("convicted", {}).items())),
        split=_split(status),
    )


def held_out_loss(status: Mapping[str, Any]) -> HeldOutLoss | None:
    """Held-out losses of the first task; None while the status knows none."""
    for task in status.get("tasks", [])[:1]:
        found = task.get("held_out")
        if found is not None:
            names = HeldOutLoss.__dataclass_fields__
            return HeldOutLoss(**{name: found[name] for name in names})
    return None


def _split(status: Mapping[str, Any]) -> str:
    for task in status.get("tasks", [])[:1]:
        attested = task.get("attested", {})
        if attested.get("split"):
            groups = attested["by_digest"].values()
            shown = " | ".join(
                " ".join(str(number_of(name)) for name in sorted(names))
                for names in sorted(groups, key=lambda names: sorted(names))
            )
            return (
                f"version {task['head'] + 1} cannot become final, attested digests "
                f"are split {shown}"
            )
    return ""

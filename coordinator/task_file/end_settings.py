"""The section of `task.toml` that says when a task is over."""

from dataclasses import dataclass
from datetime import UTC, datetime

from starling.protocol.errors import ConfigError
from starling.protocol.learning.end_policy import EndPolicy
from starling.protocol.learning.progress_guard import LOSS_MAX
from starling.protocol.learning.task import MICRO
from starling.protocol.schema.toml_settings import setting


@dataclass(frozen=True)
class EndSection:
    """End of the task; guard.patience is its end at convergence."""

    version: int = setting(0, "Its last version; 0 for none.", least=0, most=1 << 40)
    until: str = setting(
        "",
        "Time in UTC at which it ends by the chain's clock, as 2027-03-31 or "
        "2027-03-31 18:00; empty for never.",
    )
    loss: float = setting(
        0.0,
        "Held-out loss of a quorum that is good enough; 0 for none.",
        least=0.0,
        most=LOSS_MAX / MICRO,
    )
    unpaid: bool = setting(
        default=False,
        doc="Whether it ends while its pool has no credits.",
    )


def end_policy(section: EndSection) -> EndPolicy:
    """The section in the integers of the chain.

    Raises:
      ConfigError: If `until` is no time.
    """
    until_ms = 0
    if section.until:
        try:
            until = datetime.fromisoformat(section.until)
        except ValueError as error:
            detail = f"{section.until[:40]!r} is no time such as 2027-03-31 18:00"
            raise ConfigError(detail, key="end.until") from error
        if until.tzinfo is None:
            # Never the zone of the operator's machine: the same file gives the same
            # task everywhere.
            until = until.replace(tzinfo=UTC)
        until_ms = max(0, round(until.timestamp() * 1000))
    return EndPolicy(
        section.version, until_ms, round(section.loss * MICRO), int(section.unpaid)
    )

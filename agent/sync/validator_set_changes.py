"""Notice of validator set changes, before a board follows them.

A set of validators is believed because the one before it signed for it. Whoever slept
through several changes believes keys that were retired since; nothing but a newer
enrolment could tell it otherwise. So its operator is shown from where to where it is
led: by one change as a matter of course, by more of them as a warning.
"""

from collections.abc import Iterable

from starling.agent.step.agent_step import AgentStep
from starling.agent.step.state import FollowedTransitions
from starling.protocol.chain.light_client import TrustedState, ValidatorSetTransition
from starling.protocol.dataclass_replace import evolve


def report_transitions(
    step: AgentStep, after: TrustedState, handovers: Iterable[ValidatorSetTransition]
) -> None:
    """Shows where what is about to be believed leads, if the validators change."""
    before = step.state.trusted
    heights = {each.header.height for each in handovers}
    changes = sum(before.height < height <= after.height for height in heights)
    if not changes:
        return
    led = FollowedTransitions(
        before.height,
        before.validators.digest(),
        after.height,
        after.validators.digest(),
        changes,
    )
    step.state = evolve(step.state, led=led)
    names = ", ".join(member.name for member in after.validators.members)
    text = (
        f"follows {changes} change(s) of the validators, from height {led.from_height} "
        f"and set {led.from_name} to height {led.to_height} and set {led.to_name}: "
        f"{names}"
    )
    if changes > 1:
        text += (
            ". Whoever has the keys of a quorum of any set in between could lead it "
            "there: compare it with what a coordinator shows, or enrol anew"
        )
    step.note(text, warns=changes > 1)

"""Notes how long nothing was decided, and a block that a quorum decided without us."""

import math
from dataclasses import replace

from starling.coordinator.chain.node.node import ChainState, StateDiverged
from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.protocol.dataclass_replace import evolve


def note(step: CoordinatorStep, after: ChainState) -> None:
    """Compares the ledger before and after a step that is being taken."""
    before, now_s, pace = step.state.ledger, step.now_s, step.state.pace
    decided = after.height != before.height
    if decided:
        pace = replace(pace, decided_at_s=now_s)
        if (
            step.state.diverged is not None
            and after.height >= step.state.diverged.height
        ):
            step.state = evolve(step.state, diverged=None)
    old, new = before.consensus, after.consensus
    stage = (new.height, new.round, new.step)
    if (old.height, old.round, old.step) != stage:
        pace = replace(pace, staged_at_s=now_s)
    if not after.mempool.size:
        if pace.waits_from_s != math.inf:
            pace = replace(pace, waits_from_s=math.inf)
    elif decided or pace.waits_from_s == math.inf:
        pace = replace(pace, waits_from_s=now_s)
    step.state = evolve(step.state, pace=pace)


def diverged(step: CoordinatorStep, found: StateDiverged) -> None:
    """Keeps and reports a decided block that is invalid here, once."""
    known = step.state.diverged
    if known is not None and known.block_id == found.block_id:
        return
    step.state = evolve(step.state, diverged=found)
    computed = "none" if found.computed is None else found.computed.hex()
    text = (
        f"our state differs: block {found.height} ({found.block_id.hex()}) is "
        f"certified with state root {found.certified.hex()}, here it gives {computed}: "
        f"{found.detail}"
    )
    if found.first_key:
        text += f"; the first key that it changes here is {found.first_key!r}"
    step.report(text, grave=True)

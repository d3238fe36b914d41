"""One liar of four, and an honest validator whose power goes: at every single step.

With one away and one lying no quorum is left, so that heights may wait until it is
back; then they go on, nothing is forked, signed twice or blamed on the honest.
"""

from functools import partial

import pytest

from starling.coordinator.chain.node.node import BlamePeer
from starling.coordinator.chain.state import board_records
from starling.protocol.errors import Reason
from tests.sim.consensus.byzantine_validators import (
    Asker,
    ByzantineValidators,
    Hurrier,
    LateLender,
    Leapfrogger,
    Lender,
    LiedTo,
    QuietLender,
    Replayer,
)
from tests.sim.consensus.byzantine_variants import (
    Driver,
    Forger,
    Splitter,
    WrongRoots,
)
from tests.sim.consensus.validator_network import Weather
from tests.unit.coordinator.fixtures.small_genesis import board_id

ATTACKS = [
    Asker,
    Driver,
    Forger,
    Hurrier,
    LateLender,
    Leapfrogger,
    Lender,
    QuietLender,
    Replayer,
    Splitter,
    WrongRoots,
]
COUNT, EVERY_S = 3, 0.5
WORST_S = 12.0
EFFECTS = 4
"""The power goes before the first to the fourth effect of a step, in turn."""
TRIED = 6
ACCUSES = {Reason.EQUIVOCATION, Reason.INVALID_BLOCK}


class PowerCut(LiedTo):
    """A world in which the first validator's power goes at one of its steps.

    Attributes:
      step: Which, from 0.
      steps: How many it has made.
    """

    step = -1
    steps = 0

    def _power_goes_after(self, node: int) -> int | None:
        if node != 0:
            return None
        self.steps += 1
        return self.step % EFFECTS if self.steps == self.step + 1 else None


def world(liars: type[ByzantineValidators], step: int) -> PowerCut:
    made = PowerCut(1, 4, (3,), liars, Weather(delay_s=0.02, calm_from_s=1e9))
    made.step = step
    # What was said while it was away it learns only by asking.
    made.witness.prompt = False
    for number in range(COUNT):
        made.submit(EVERY_S * number, made.world.register(number))
    return made


def is_final(made: PowerCut) -> bool:
    """Whether all is final everywhere, and whose power went is there again."""
    back = all(made.up) and (made.step < 0 or made.nodes[0].boots > 1)
    return back and all(
        board_records.board(node.state.tree, board_id(number)) is not None
        for node in made.nodes
        for number in range(COUNT)
    )


def steps_of(liars: type[ByzantineValidators]) -> int:
    made = world(liars, -1)
    made.run(EVERY_S * COUNT + WORST_S, partial(is_final, made))
    return made.steps


def cut(liars: type[ByzantineValidators], step: int) -> None:
    """Cuts the power at one step of the first validator, and wants nothing lost."""
    made = world(liars, step)
    made.run(EVERY_S * COUNT + 2 * WORST_S, partial(is_final, made))
    made.check_votes()
    honest = {node.settings.key.public for node in made.nodes}
    for node in made.nodes:
        assert node.state.fork is None
        blamed = [one for one in node.heard if isinstance(one, BlamePeer)]
        accused = {one.signer for one in blamed if one.reason in ACCUSES}
        assert not accused & honest, f"step {step}"


@pytest.mark.parametrize("liars", ATTACKS)
def test_power_cut_under_attack_loses_nothing(liars: type[ByzantineValidators]) -> None:
    count = steps_of(liars)
    assert count > TRIED
    for number in range(TRIED):
        cut(liars, number * count // TRIED)


@pytest.mark.soak
@pytest.mark.parametrize("liars", ATTACKS)
def test_power_cut_at_any_step_under_attack_loses_nothing(
    liars: type[ByzantineValidators],
) -> None:
    for step in range(steps_of(liars)):
        cut(liars, step)

"""A board's training with its result falsified; all that follows is the product's own.

`falsified` stands where `agent.training.local_training.train` does, in a virtual
board's thread or in a trainer's process, and returns the encoded vector that the board
then seals, signs and sends. Attacks that need to know what others send go through
`collusion` once the honest updates are known.
"""

from collections.abc import Callable, Sequence

import numpy as np

from starling.agent.training.local_training import train
from starling.agent.training.trainer_messages import TrainingOrder
from starling.agent.training.training_inputs import Real as Parameters
from starling.agent.training.training_inputs import Trainer, TrainingInputs
from starling.fleet.attacks.attack_schedule import (
    COLLUDING,
    AttackKind,
    BoardAttack,
)
from starling.fleet.attacks.update_attacks import (
    Real,
    flipped_labels,
    flipped_signs,
    free_ride,
    inner_product,
    little_is_enough,
    mimicked,
    poisoned,
    stretched,
    within,
)
from starling.protocol.dataclass_replace import evolve
from starling.protocol.learning.codec_terms import CODEC_TERMS
from starling.protocol.learning.task import Q24, PrivacyPolicy
from starling.protocol.learning.vector_codecs import (
    CODECS,
    MAGNITUDE_BITS,
    SCALE_BITS,
    Draw,
    GridVector,
    to_grid,
)
from starling.protocol.privacy.mechanisms import NONE, UNNOISED, update_radius

MARGIN = 0.98
"""Of the bound: rounding to the wire's steps makes a vector longer."""
STRETCH = 2.0
"""Times an attacker's own honest norm, where a task has no noise to hide in."""
_OPEN = PrivacyPolicy(NONE, 0, 0, 0, 0, 1)
_MOST = 2.0 ** (MAGNITUDE_BITS - SCALE_BITS) - 1.0


def falsified(
    attack: BoardAttack,
    trainer: Trainer,
    work: TrainingInputs,
    draw: Draw,
    rng: np.random.Generator,
    keep: Callable[[Parameters], None] | None = None,
    tell: Callable[[str], None] = lambda _said: None,
) -> bytes:
    """Trains as an attacker does; arguments and errors as `train`.

    Returns:
      The encoded vector. Where others must be known first, the honest one.
    """

    def honest(on: TrainingInputs) -> bytes:
        return train(trainer, on, draw, rng, keep, tell)

    def clean(on: TrainingInputs) -> Real:
        # Without noise and clip: an attacker need not keep what protects its own
        # records.
        open_order = evolve(on.order, privacy=_OPEN)
        return _mean(honest(evolve(on, order=open_order)), open_order)

    order, kind = work.order, attack.kind
    if kind in COLLUDING:
        return honest(work)
    if kind is AttackKind.FLIP_LABELS:
        classes = trainer.manifest.output.shape[-1]
        return honest(evolve(work, y=flipped_labels(work.y, classes)))
    if kind is AttackKind.RIDE_FREE and order.privacy.mechanism not in UNNOISED:
        # Of no records comes noise alone, which looks like everybody's.
        return honest(evolve(work, x=work.x[:0], y=work.y[:0]))
    if kind is AttackKind.FLIP_SIGNS:
        update = flipped_signs(_mean(honest(work), order), attack.amount)
    elif kind is AttackKind.RIDE_FREE:
        update = free_ride(order.dimension, rng)
    else:
        update = _aimed(attack, work, clean)
    return _encoded(update, order, draw)


def _aimed(
    attack: BoardAttack, work: TrainingInputs, clean: Callable[[TrainingInputs], Real]
) -> Real:
    """Attacks that make the most of the room which noise gives to the honest."""
    if attack.kind is AttackKind.BACKDOOR:
        x, y = poisoned(work.x, work.y, int(attack.amount))
        work = evolve(work, x=x, y=y)
    update = clean(work)
    reach = _reach(work.order, update)
    if attack.kind is AttackKind.NO_NOISE:
        return within(update, reach)
    turned = attack.kind is AttackKind.REACH_BOUND
    return stretched(flipped_signs(update) if turned else update, reach)


def collusion(
    attack: BoardAttack,
    order: TrainingOrder,
    own: bytes,
    known: Sequence[tuple[bytes, TrainingOrder]],
    draw: Draw,
) -> bytes:
    """Update of a board that knows what honest boards send.

    Args:
      attack: One of `attack_schedule.COLLUDING`.
      order: The attacker's.
      own: Its own honest update, encoded.
      known: Honest updates with their orders; its own stands in for none.
      draw: Random bytes, for rounding.
    """
    honest = np.stack([_mean(*each) for each in known or [(own, order)]])
    match attack.kind:
        case AttackKind.INNER_PRODUCT:
            update = inner_product(honest, attack.amount)
        case AttackKind.LITTLE:
            update = little_is_enough(honest, attack.amount)
        case _:
            update = mimicked(honest)
    return _encoded(within(update, _reach(order, _mean(own, order))), order, draw)


def _reach(order: TrainingOrder, own: Real) -> float:
    """Largest norm of a mean over examples that passes for honest."""
    if order.privacy.mechanism in UNNOISED:
        return STRETCH * float(np.linalg.norm(own))
    radius = update_radius(
        order.privacy, order.training, order.dimension, order.pledge, order.codec
    )
    growth = CODEC_TERMS[order.codec].spread_milli / 1000
    # The bound is on the decoded vector, which rounding has made longer by then.
    return MARGIN * radius / growth / Q24 / order.pledge


def _mean(payload: bytes, order: TrainingOrder) -> Real:
    grid = CODECS[order.codec].decode(payload, order.dimension)
    return grid.astype(np.float64) / (Q24 * order.pledge)


def _encoded(update: Real, order: TrainingOrder, draw: Draw) -> bytes:
    # Into the codec's range, in which all that an honest board sends is.
    held = np.clip(update * order.pledge, -_MOST, _MOST)
    vector = GridVector(to_grid(held), -SCALE_BITS)
    return CODECS[order.codec].encode(vector, draw)

"""A board that attacks as a timeline tells it; its trainer alone is not the product's.

The agent is started as `starling agent run` starts it, with a trainer in which
`fleet.attacks.falsified_training.falsified` stands for the training. It is a process of
its own with the same sandbox, and reads nothing more: the timeline is in its arguments.
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from starling.agent.runtime import process
from starling.agent.runtime.storage.agent_home import AgentHome
from starling.agent.trainer import worker
from starling.agent.training.local_training import train
from starling.agent.training.training_inputs import Real, Trainer, TrainingInputs
from starling.fleet.attacks.attack_schedule import (
    BoardAttack,
    attack_of,
    board_attacks,
)
from starling.fleet.attacks.falsified_training import falsified
from starling.protocol.learning.vector_codecs import Draw
from starling.sandbox import child_process

MODULE = "starling.fleet.runtime.faults.byzantine_board"
_TRAIN = "train"


def attacking(
    attacks: Sequence[BoardAttack],
    board: int,
    trainer: Trainer,
    work: TrainingInputs,
    draw: Draw,
    rng: np.random.Generator,
    keep: Callable[[Real], None] | None = None,
    tell: Callable[[str], None] = lambda _said: None,
) -> bytes:
    """Trains as a board is told for this version.

    Args:
      attacks: Of the whole fleet.
      board: Which board, from 1.
      trainer: This and the others as `agent.training.local_training.train`.
      work: What to train on.
      draw: Random bytes.
      rng: For the order of batches.
      keep: Takes what stays on the board.
      tell: Takes what the owner is told.
    """
    attack = attack_of(attacks, board, work.order.base)
    if attack is None:
        return train(trainer, work, draw, rng, keep, tell)
    return falsified(attack, trainer, work, draw, rng, keep, tell)


def main(argv: Sequence[str]) -> int:
    """Runs the board in a folder, or its trainer.

    Args:
      argv: The timeline, how many boards there are, which one this is, and the home;
        of a trainer `train` and the descriptor of its mark instead of the home.
    """
    text, boards, board, what = argv[0], int(argv[1]), int(argv[2]), argv[3]
    # The same module twice: the agent starts its trainer by the command below.
    if what == _TRAIN:
        attacks = board_attacks(text, boards)
        return worker.main(partial(attacking, attacks, board))
    command = (*child_process.command(MODULE), text, str(boards), str(board), _TRAIN)
    return process.run(AgentHome(Path(what)), command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

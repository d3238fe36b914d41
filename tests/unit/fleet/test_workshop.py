"""Threads that train for virtual boards."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from fleet.examples import Examples
from fleet.recipe import Shares
from fleet.rim.datasets import DataSet
from fleet.rim.workshop import Material, Workers
from protocol.mechanisms import NONE
from protocol.task import TrainingMode
from tests.contract.test_local_parameters import LOCAL_PACKED, TRAINER
from tests.contract.test_trainer import CLASSES, X, Y, order

DATA = Examples(X, Y)
THETA = TRAINER.theta.tobytes()
ORDER = replace(
    order(TrainingMode.LOCAL, NONE), dimension=TRAINER.theta.size, pledge=len(X)
)


@pytest.fixture
def workers() -> Iterator[Workers]:
    data = DataSet("small", DATA, DATA, DATA, CLASSES)
    shares = Shares(X.shape[1:], len(X), len(X))
    made = Workers(Material(data, [DATA, DATA], shares, LOCAL_PACKED), 1, 1)
    yield made
    made.close()


def test_workers_begin_with_the_parameters_that_a_board_kept(workers: Workers) -> None:
    first = workers.train(0, ORDER, THETA)()
    again = workers.train(0, ORDER, THETA)()

    assert again != first


def test_workers_keep_nothing_of_a_training_that_nobody_took(workers: Workers) -> None:
    untaken = workers.train(0, ORDER, THETA)
    workers.train(1, ORDER, THETA)()

    taken = workers.train(0, ORDER, THETA)()

    assert taken == untaken()

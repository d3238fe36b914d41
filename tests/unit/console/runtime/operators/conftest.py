"""A console of a home that admits and publishes, and an operator signed in."""

import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from starling.coordinator.runtime.home import CoordinatorHome
from tests.unit.console.conftest import RunningConsole, launch
from tests.unit.console.runtime.operator_home import Operator, new_token, operated_home


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> CoordinatorHome:
    return operated_home(tmp_path_factory.mktemp("operated"))


@pytest.fixture(scope="module")
def token(home: CoordinatorHome) -> str:
    return new_token(home, time.time())


@pytest.fixture(scope="module")
def console(home: CoordinatorHome) -> Iterator[RunningConsole]:
    with ExitStack() as stack:
        yield launch(stack, home.path, "--web", "0")


@pytest.fixture
def ana(console: RunningConsole, token: str) -> Operator:
    made = Operator(console)
    assert made.sign_in(token).status == 303
    return made

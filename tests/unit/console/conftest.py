"""A coordinator's home with a status and a chain, and a console that serves it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.storage.sqlite_schema import CHAIN_FILE
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from tests.contract.storage.filled_store import fill
from tests.unit.console.status_documents import Document, document
from tests.unit.coordinator.fixtures.small_chain import SmallChain

BLOCKS = 3
CONSOLE = (sys.executable, "-m", "starling", "console", "run")
STOP_TIMEOUT_S = 180.0


def write_status(home: Path, made: Document) -> None:
    """As a coordinator does: whole, or not at all."""
    unfinished = home / "status.new"
    unfinished.write_text(json.dumps(made))
    unfinished.replace(home / "status.json")


def set_up(folder: Path) -> Path:
    """A home with three blocks, three boards and a task."""
    made = CoordinatorHome(folder / "coordinator")
    made.state.mkdir(parents=True)
    world = SmallChain()
    store = SqliteStore.create(made.state / CHAIN_FILE, world.genesis)
    fill(store, world, BLOCKS)
    store.close()
    write_status(made.path, document())
    return made.path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return set_up(tmp_path)


@dataclass(frozen=True)
class RunningConsole:
    """A console in a process of its own."""

    child: subprocess.Popen[str]
    log: Path
    port: int


def launch(stack: ExitStack, home: Path, *words: str) -> RunningConsole:
    """Runs a console until the stack is left."""
    log = home.parent / "console.log"
    file = stack.enter_context(log.open("w"))
    child = subprocess.Popen(
        [*CONSOLE, *words, "--home", str(home)],
        stdout=subprocess.PIPE,
        stderr=file,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert child.stdout is not None
    stack.callback(child.stdout.close)
    stack.callback(child.wait, STOP_TIMEOUT_S)
    stack.callback(child.terminate)
    line = child.stdout.readline()
    assert line.startswith("console: http"), log.read_text()
    return RunningConsole(child, log, int(line.rsplit(":")[-1].strip(" /\n")))


Start = Callable[..., RunningConsole]


@pytest.fixture
def start(home: Path) -> Iterator[Start]:
    """Starts consoles of this test's own home."""
    with ExitStack() as stack:
        yield partial(launch, stack, home)


@pytest.fixture
def own_console(start: Start) -> RunningConsole:
    return start("--web", "0")


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningConsole]:
    """For tests that leave it as it is."""
    with ExitStack() as stack:
        yield launch(stack, set_up(tmp_path_factory.mktemp("shared")), "--web", "0")

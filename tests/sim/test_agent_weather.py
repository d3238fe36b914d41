"""One board in bad weather: loss, duplicates, disorder, forgeries, crashes, power cuts.

Each seed is a history of a few hundred strokes of fate. After every one the promises
must hold; after all of them the weather clears and learning must go on.
"""

import random
from dataclasses import replace

import pytest

from starling.agent.step import events as e
from starling.agent.step.state import WaitTimes
from starling.protocol.errors import Reason
from starling.protocol.ids import H
from starling.protocol.wire.chunks import CHUNK, split
from starling.protocol.wire.envelope import MessageKind
from tests.unit.agent.agent_harness import BoardHarness, Disk, PowerCut, connected
from tests.unit.agent.fake_coordinator import (
    BUNDLE,
    STRANGER,
    FakeCoordinator,
    accepted,
    coordinator_state,
    lease,
    manifest,
    refused,
    said_by,
    task_spec,
    theta,
)

SEEDS = range(40)
STROKES = 400
PACE = WaitTimes(show_s=0.0)
SPEC = task_spec(staleness_max=4)
FATES = {
    "deliver": 60,
    "wait": 12,
    "lose": 5,
    "repeat": 5,
    "shuffle": 4,
    "disconnect": 3,
    "forge": 6,
    "fail": 3,
    "others": 3,
    "cut": 3,
}


class Weather:
    """A board, and what befalls it."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.disk = Disk()
        self.meadow = FakeCoordinator(SPEC)
        self.noised: list[int] = []
        self.cut_at: int | None = None
        self.board = self.start()

    def start(self) -> BoardHarness:
        """The board begins from its disk, perhaps to lose power again at once."""
        while True:
            try:
                self.cut_at = None if self.rng.random() < 0.8 else self.rng.randrange(4)
                board = BoardHarness(
                    self.disk, self.meadow, lambda at: at == self.cut_at, pace=PACE
                )
                self.board = board
                self.cut_at = None
                return connected(board)
            except PowerCut:
                continue

    def stroke(self) -> None:
        """One thing happens."""
        fate = self.rng.choices(list(FATES), list(FATES.values()))[0]
        board = self.board
        try:
            getattr(self, f"do_{fate}")(board)
        except PowerCut:
            self.noised += board.noised
            self.start()
        self.check()

    def do_deliver(self, board: BoardHarness) -> None:
        if board.inbox:
            board.step(board.inbox.popleft())

    def do_wait(self, board: BoardHarness) -> None:
        board.now_s += self.rng.choice([0.1, 1.0, 10.0, 700.0])
        board.step(e.WakeTimeReached())

    def do_lose(self, board: BoardHarness) -> None:
        if board.inbox and not isinstance(board.inbox[0], _OWN | e.ChunkDelivered):
            board.inbox.popleft()

    def do_repeat(self, board: BoardHarness) -> None:
        if board.inbox:
            board.inbox.append(board.inbox[0])

    def do_shuffle(self, board: BoardHarness) -> None:
        waiting = list(board.inbox)
        self.rng.shuffle(waiting)
        board.inbox.clear()
        board.inbox.extend(waiting)

    def do_disconnect(self, board: BoardHarness) -> None:
        board.inbox = type(board.inbox)(x for x in board.inbox if isinstance(x, _OWN))
        board.step(e.BrokerDisconnected())
        self.do_wait(board)
        board.step(e.BrokerConnected())
        board.step(e.ManifestArrived(manifest(self.meadow.head, SPEC)))

    def do_forge(self, board: BoardHarness) -> None:
        update = next((w.entry.update for w in board.state.waiting), H(b"none"))
        version = self.meadow.head
        forgeries: list[e.Event] = [
            e.DownArrived(lease(version, STRANGER)),
            e.DownArrived(accepted(update, STRANGER)),
            e.DownArrived(said_by(MessageKind.LEASE, self.rng.randbytes(20))),
            e.DownArrived(self.rng.randbytes(100)),
            e.ManifestArrived(manifest(version + 3, SPEC, STRANGER)),
            e.ManifestArrived(manifest(self.rng.randrange(version + 1), SPEC)),
            e.ModelChunkArrived(CHUNK.pack(split(theta(version))[0])),
            e.ModelChunkArrived(
                CHUNK.pack(replace(split(BUNDLE)[0], data=bytes(65536)))
            ),
            e.CoordinatorStateArrived(coordinator_state(self.rng.randrange(2))),
            e.DownArrived(refused(update, self.rng.choice(list(Reason)), 1)),
            e.TrainerReady(),
            e.BundleLoaded(H(b"other")),
        ]
        board.step(self.rng.choice(forgeries))

    def do_fail(self, board: BoardHarness) -> None:
        stage = self.rng.choice(
            [e.FailureStage.TRAINING, e.FailureStage.TRAINING, e.FailureStage.DATA]
        )
        if board.state.training is not None:
            board.inbox = type(board.inbox)(
                x for x in board.inbox if not isinstance(x, _TRAINER)
            )
            record = self.rng.choice([None, 1, 2])
            board.step(e.TrainingFailed(stage, "weather", record))
        board.step(e.DataChanged())

    def do_others(self, board: BoardHarness) -> None:
        board.step(self.meadow.others())

    def do_cut(self, board: BoardHarness) -> None:
        board.cut_before = lambda at: at >= board.effects_done
        self.do_deliver(board)
        self.do_wait(board)
        board.cut_before = lambda at: False

    def check(self) -> None:
        """The promises."""
        for base, found in self.meadow.updates.items():
            assert len(found) == 1, f"two updates signed for version {base}"
        charged = self.disk.charged()
        assert len(charged) == len(self.disk.charges()), "a version was paid twice"
        assert set(self.noised + self.board.noised) <= charged, (
            "noise before its charge"
        )
        assert set(self.disk.spool) <= charged
        state = self.board.state
        assert state.asking is None or state.training is None
        waiting = {item.entry.base for item in state.waiting}
        assert waiting == set(self.disk.spool), "spool and state differ"
        assert state.ledger.charges.keys() == {
            (state.chain, 0, base) for base in charged
        }


_TRAINER = e.TrainerReady | e.TrainingFinished | e.TrainingFailed
_OWN = _TRAINER | e.BundleLoaded | e.LoadFailed
"""Comes from the board itself: it can be late, but not lost."""


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"seed {seed}")
def test_board_in_any_weather_keeps_its_promises_and_learns_again(seed: int) -> None:
    weather = Weather(seed)

    for _ in range(STROKES):
        weather.stroke()
    board = weather.board
    board.step(e.DataChanged())
    board.step(e.BrokerConnected())
    board.step(weather.meadow.others())
    # From here on nobody else makes versions: it is this board that must go on.
    weather.meadow.lonely = True
    taken = len(weather.meadow.updates)

    board.run(lambda: len(weather.meadow.updates) >= taken + 2)
    weather.check()

"""A board never says more than coordinators take of it, and what matters goes first."""

import itertools
from dataclasses import dataclass, field, replace

import pytest

from starling.agent.step import effects as f
from starling.agent.step import events as e
from starling.agent.step.send_rate import Priority, allowed_at_s, spend
from starling.agent.step.state import AgentState
from starling.coordinator.wire import rate_limit
from starling.coordinator.wire.rate_limit import TokenBuckets
from starling.protocol.ids import Digest, H, TaskId, Version
from starling.protocol.wire.chunks import CHUNK_BYTES, chunk_count
from starling.protocol.wire.envelope import ENVELOPE, MessageKind
from starling.protocol.wire.message_bodies import CHUNK_REQUEST
from starling.protocol.wire.token_bucket import (
    RateLimits,
    rates,
    upload_bytes_max,
)
from tests.unit.agent.agent_harness import BoardHarness, Disk, fresh
from tests.unit.agent.fake_coordinator import (
    OPEN,
    PINNED,
    FakeCoordinator,
    average,
    manifest,
    task_spec,
    theta,
)

NETWORK_HOLDS_S = 2.0
"""For so long the broker holds what a board says, and delivers it together."""


@dataclass
class Heard:
    """Everything that a board published.

    Attributes:
      sizes: Time and payload bytes of each message.
      asked: Digests of requested parts of models, in order.
    """

    sizes: list[tuple[float, int]] = field(default_factory=list)
    asked: list[Digest] = field(default_factory=list)


class OthersMakeVersions(FakeCoordinator):
    """A fleet so large that one board's update makes no version."""

    def take(self, payload: bytes) -> list[e.Event]:
        """Takes a chunk, and stays at its version."""
        self.last = self.head
        answers = super().take(payload)
        self.last = 1 << 30
        return answers


class HeardBoard(BoardHarness):
    """A board of which every message is written down."""

    def __init__(self, meadow: FakeCoordinator) -> None:
        """Starts on an empty disk, without a cap."""
        self.heard = Heard()
        super().__init__(Disk(), meadow, cap=None)

    def carry_out(self, effect: f.Effect) -> list[e.Event]:
        """Writes down what is published."""
        match effect:
            case f.PublishBestEffort(payload=payload):
                envelope = ENVELOPE.unpack(payload)
                self.heard.sizes.append((self.now_s, len(payload)))
                if envelope.kind == MessageKind.CHUNK_REQUEST:
                    request = CHUNK_REQUEST.unpack(envelope.body)
                    self.heard.asked.append(request.digest)
            case f.PublishSpooled(entry, index):
                size = min(CHUNK_BYTES, entry.size - index * CHUNK_BYTES)
                self.heard.sizes.append((self.now_s, size + 100))
            case _:
                pass
        return super().carry_out(effect)


def live(board: HeardBoard, versions_per_s: float, seconds: float) -> None:
    """Others make versions at a rate, and the board does what it can."""
    board.step(e.BrokerConnected())
    for number in range(int(versions_per_s * seconds)):
        due_s = number / versions_per_s
        while board.state.wake_at_s < due_s:
            board.now_s = board.state.wake_at_s
            board.step(e.WakeTimeReached())
            _settle(board)
        board.now_s = due_s
        board.step(board.meadow.others())
        _settle(board)


def _settle(board: BoardHarness) -> None:
    while board.inbox:
        board.step(board.inbox.popleft())


def refused(heard: Heard, limits: RateLimits, hold_s: float) -> int:
    """How much coordinators would drop, if the network holds messages for a time."""
    dropped, allowances = 0, TokenBuckets()
    for at_s, size in heard.sizes:
        held_s = (at_s // hold_s + 1) * hold_s if hold_s else at_s
        paid = rate_limit.spend(allowances, b"board", size, limits, held_s)
        dropped += paid is None
        allowances = paid or allowances
    return dropped


@pytest.mark.parametrize("hold_s", [0.0, NETWORK_HOLDS_S])
def test_board_in_a_quick_fleet_says_no_more_than_coordinators_take(
    hold_s: float,
) -> None:
    spec = task_spec(OPEN)
    board = HeardBoard(OthersMakeVersions(spec))

    live(board, versions_per_s=25.0, seconds=30.0)

    limits = rates(upload_bytes_max([spec]))
    assert refused(board.heard, limits, hold_s) == 0
    # Nor is it too shy: it says most of what it may.
    assert len(board.heard.sizes) > 0.8 * limits.messages_per_s * 30.0
    # Without waiting by itself it would have been refused at once.
    assert board.meadow.head * 3 > limits.messages_per_s * 30.0 + limits.messages_burst


def test_board_in_a_quick_fleet_goes_on_to_train_all_the_time() -> None:
    board = HeardBoard(OthersMakeVersions(task_spec(OPEN)))

    live(board, versions_per_s=25.0, seconds=30.0)

    moments = [at for at, _ in board.heard.sizes if at > 10.0]
    gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    assert max(gaps) < 1.0
    assert sum(map(len, board.meadow.updates.values())) > 60


def test_models_for_inference_are_passed_over_first() -> None:
    board = HeardBoard(OthersMakeVersions(task_spec(OPEN)))

    live(board, versions_per_s=25.0, seconds=30.0)

    asked, versions = set(board.heard.asked), range(board.meadow.head + 1)
    trains = sum(H(theta(version)) in asked for version in versions)
    infers = sum(H(average(version)) in asked for version in versions)
    assert infers < trains


def test_board_in_a_slow_fleet_never_waits() -> None:
    board = HeardBoard(OthersMakeVersions(task_spec(OPEN)))

    live(board, versions_per_s=1.0, seconds=60.0)

    asked = set(board.heard.asked)
    heads = range(1, board.meadow.head)
    assert {H(theta(version)) for version in heads} <= asked
    assert allowed_at_s(board.state, Priority.INFERENCE_MODEL) <= board.now_s


@pytest.mark.parametrize("dimension", [4, 21_840, 1_000_000, 16_000_000])
def test_longest_upload_always_has_room(dimension: int) -> None:
    spec = replace(task_spec(OPEN), dimension=dimension)
    board = fresh()
    offered = board.step(e.ManifestArrived(manifest(0)))
    assert offered
    assert board.state.offer is not None
    offer = replace(board.state.offer, spec=spec)
    state = replace(board.state, offer=offer, said=None)
    size = upload_bytes_max([spec])
    entry = f.SpoolEntry(TaskId(0), Version(0), H(b"u"), H(b"d"), size, 2)

    now_s, first_s = 0.0, float("inf")
    for _ in range(50):
        at_s = allowed_at_s(state, Priority.INFERENCE_MODEL)
        assert at_s < float("inf")
        if at_s > now_s:
            first_s = min(first_s, now_s)
            now_s = at_s
        upload = [f.PublishSpooled(entry, i) for i in range(chunk_count(size))]
        state = spend(state, upload, now_s)

    # Several at once, and in the long run about one each second.
    assert first_s == 0.0
    assert now_s < 60.0


def test_state_that_says_nothing_is_not_reckoned() -> None:
    state = AgentState(PINNED, fresh().state.ledger)
    note = f.Note("nothing is said")

    assert spend(state, [note], 1.0) is state
    assert allowed_at_s(state, Priority.INFERENCE_MODEL) == float("-inf")

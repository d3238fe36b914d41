"""The state machine against a slow, obvious one of lists and dictionaries."""

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from starling.coordinator.chain.state import task_records
from starling.protocol.ids import DeviceId, H
from tests.unit.coordinator.fixtures.small_chain import SmallChain, opened
from tests.unit.coordinator.fixtures.small_genesis import board_id
from tests.unit.coordinator.fixtures.small_task import SPEC
from tests.unit.coordinator.fixtures.state_invariants import check_invariants
from tests.unit.coordinator.fixtures.state_views import pending

BOARDS = 6
POLICY = SPEC.aggregation


@dataclass
class Naive:
    """One task with everything that ever happened in plain lists.

    Attributes:
      queue: Waiting updates as (board, base, height).
      signed: What each board ever signed, as (board, base).
      job: Members of the open job as (board, base).
    """

    head: int = 0
    height: int = 1
    queue: list[tuple[DeviceId, int, int]] = field(default_factory=list)
    signed: set[tuple[DeviceId, int]] = field(default_factory=set)
    revoked: set[DeviceId] = field(default_factory=set)
    job: list[tuple[DeviceId, int]] = field(default_factory=list)

    def update(self, board: DeviceId, base: int) -> bool:
        fresh = 0 <= self.head - base <= POLICY.staleness_max
        if board in self.revoked or (board, base) in self.signed or not fresh:
            return False
        self.signed.add((board, base))
        self.queue.append((board, base, self.height))
        self.cut(POLICY.buffer)
        return True

    def cut(self, least: int) -> None:
        if not self.job and len(self.queue) >= least:
            self.job = [entry[:2] for entry in self.queue[: POLICY.buffer]]
            self.queue = self.queue[POLICY.buffer :]

    def attest(self, version: int) -> bool:
        if not self.job or version != self.head + 1:
            return False
        self.head, self.job = version, []
        oldest = version - POLICY.staleness_max
        self.queue = [entry for entry in self.queue if entry[1] >= oldest]
        self.cut(POLICY.buffer)
        return True

    def end_block(self) -> None:
        if self.queue and self.height - self.queue[0][2] >= POLICY.patience:
            self.cut(-(-POLICY.buffer // 2))
        self.height += 1


class Twins(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world: SmallChain = opened(BOARDS)
        self.naive = Naive()

    @rule(board=st.integers(0, BOARDS - 1), behind=st.integers(-1, 4))
    def update(self, board: int, behind: int) -> None:
        base = max(0, self.naive.head - behind)
        accepted = self.world.do(self.world.update(board, base)).code == 0
        assert accepted == self.naive.update(board_id(board), base)

    @rule(base=st.integers(0, 3))
    def everybody_updates(self, base: int) -> None:
        for board in range(BOARDS):
            self.update(board, base)

    @rule(ahead=st.integers(0, 2))
    def attest(self, ahead: int) -> None:
        version = self.naive.head + ahead
        accepted = self.world.do(self.world.attest(version, H(b"v"))).code == 0
        assert accepted == self.naive.attest(version)

    @rule()
    def end_block(self) -> None:
        self.world.end_block()
        self.naive.end_block()

    @rule()
    def revoke(self) -> None:
        accepted = self.world.do(self.world.revoke(BOARDS - 1)).code == 0
        assert accepted == (board_id(BOARDS - 1) not in self.naive.revoked)
        self.naive.revoked.add(board_id(BOARDS - 1))

    @invariant()
    def same(self) -> None:
        tree = self.world.tree
        assert task_records.head(tree, 0) == self.naive.head
        waiting = [(e.board, e.base, e.height) for e in pending(tree, 0)]
        assert waiting == self.naive.queue
        job = task_records.open_job(tree, 0)
        members = [] if job is None else [(m.board, m.base) for m in job.members]
        assert members == self.naive.job
        if job is not None:
            table = POLICY.staleness_q15
            expected = [table[self.naive.head - base] for _, base in members]
            assert [member.weight_q15 for member in job.members] == expected
        check_invariants(tree)


TestTwins = Twins.TestCase
TestTwins.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)

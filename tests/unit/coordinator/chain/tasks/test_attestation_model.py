"""Jobs, liars and changing sets: attestations against a slow, obvious dictionary."""

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from starling.coordinator.chain.governance.validator_set import DELAY_BLOCKS
from starling.coordinator.chain.state import task_records, validator_records
from starling.coordinator.chain.state.task_records import REPLACEMENTS_MAX
from starling.protocol.ids import Digest, H
from tests.unit.coordinator.fixtures.small_chain import SmallChain, opened
from tests.unit.coordinator.fixtures.small_genesis import validator_key
from tests.unit.coordinator.fixtures.small_task import SPEC
from tests.unit.coordinator.fixtures.state_invariants import (
    check_invariants,
    check_members,
)

KEYS = 7
FIRST = 5
DIGESTS = [H(b"%d" % number) for number in range(3)]
BOARDS = SPEC.aggregation.buffer
numbers = st.integers(0, KEYS - 1)


@dataclass
class Naive:
    """One task of which a job is always open.

    Attributes:
      members: Who decides, by number.
      since: The first height that they decide.
      coming: Who will, from `coming_at` on.
      final: The digests of its versions, from 1 on.
      said: Every word of each member on the open job.
      outvoted: How often each one was, since it came.
    """

    members: set[int] = field(default_factory=lambda: set(range(FIRST)))
    since: int = 0
    coming: set[int] | None = None
    coming_at: int = 0
    final: list[Digest] = field(default_factory=list)
    said: dict[int, list[Digest]] = field(default_factory=dict)
    outvoted: dict[int, int] = field(default_factory=dict)

    def votes(self, digest: Digest) -> int:
        return sum(words[-1] == digest for words in self.said.values())

    def is_split(self) -> bool:
        silent = len(self.members) - len(self.said)
        return all(self.votes(digest) + silent < self.quorum() for digest in DIGESTS)

    def quorum(self) -> int:
        return 2 * len(self.members) // 3 + 1

    def attest(self, who: int, digest: Digest) -> bool:
        words = self.said.get(who, [])
        free = self.is_split() and len(words) <= REPLACEMENTS_MAX
        if who not in self.members or (words and (words[-1] == digest or not free)):
            return False
        self.said[who] = [*words, digest]
        self.count()
        return True

    def count(self) -> None:
        for digest in DIGESTS:
            if self.votes(digest) >= self.quorum():
                self.final.append(digest)
                for who, words in self.said.items():
                    wrong = set(words) != {digest}
                    self.outvoted[who] = self.outvoted.get(who, 0) + wrong
                self.said = {}
                return

    def end_block(self, height: int) -> None:
        if height == self.since:
            self.count()
            outvoted = self.outvoted.items()
            self.outvoted = {who: n for who, n in outvoted if who in self.members}
        if self.coming is not None and height + 1 == self.coming_at:
            self.members, self.since = self.coming, self.coming_at
            self.coming = None
            said = self.said.items()
            self.said = {who: words for who, words in said if who in self.members}


class Twins(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world: SmallChain = opened(BOARDS, validators=FIRST)
        self.naive = Naive()
        self.open_job()

    def open_job(self) -> None:
        if task_records.open_job(self.world.tree, 0) is None:
            base = len(self.naive.final)
            self.world.must(*(self.world.update(who, base) for who in range(BOARDS)))

    @rule(who=numbers, digest=st.sampled_from(DIGESTS))
    def attest(self, who: int, digest: Digest) -> None:
        self.world.validators = [validator_key(who)]
        attested = self.world.attest(len(self.naive.final) + 1, digest)
        accepted = self.world.do(attested).code == 0
        assert accepted == self.naive.attest(who, digest)
        self.open_job()

    @rule(digest=st.sampled_from(DIGESTS), first=numbers)
    def some_attest(self, digest: Digest, first: int) -> None:
        for who in range(first, first + 3):
            self.attest(who % KEYS, digest)

    @rule(who=numbers)
    def come_or_go(self, who: int) -> None:
        naive, world = self.naive, self.world
        present = [validator_key(number) for number in naive.members]
        world.validators = sorted(present, key=lambda key: key.public)
        voters = range(len(present))
        if who in naive.members:
            motion = world.leave(validator_key(who), voters=voters)
        else:
            motion = world.join(who, voters=voters)
        after = naive.members ^ {who}
        allowed = naive.coming is None and len(after) > 0
        assert (world.do(motion).code == 0) == allowed
        if allowed:
            naive.coming, naive.coming_at = after, world.height + DELAY_BLOCKS

    @rule(blocks=st.integers(1, 3), missed=st.integers(0, 3))
    def blocks_pass(self, blocks: int, missed: int) -> None:
        for _ in range(blocks):
            height = self.world.height
            self.world.end_block(missed % len(self.naive.members))
            self.naive.end_block(height)
            self.open_job()

    @invariant()
    def same(self) -> None:
        naive, tree = self.naive, self.world.tree
        head = len(naive.final)
        assert task_records.head(tree, 0) == head
        if naive.final:
            assert task_records.version(tree, 0, head) == naive.final[-1]
        for who in range(KEYS):
            known = validator_records.dissent(tree, 0, validator_key(who).public)
            assert (known.count if known else 0) == naive.outvoted.get(who, 0)
        check_invariants(tree)
        check_members(tree, self.world.genesis, self.world.height)


TestTwins = Twins.TestCase
TestTwins.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)

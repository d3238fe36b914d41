"""Credits, keys, convictions, operators, validators: against dictionaries."""

from dataclasses import dataclass, field, replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from starling.coordinator.chain.governance import credit_accounts
from starling.coordinator.chain.governance.chain_parameters import (
    JAIL_BLOCKS,
    parameter,
)
from starling.coordinator.chain.governance.validator_set import DELAY_BLOCKS
from starling.coordinator.chain.state import board_records, validator_records
from starling.coordinator.chain.state.board_records import CONVICTIONS_MAX
from starling.coordinator.chain.tasks.scores import scores
from starling.protocol.chain.credit_policy import CreditPolicy
from starling.protocol.chain.evidence import EVIDENCE, duplicate_updates
from starling.protocol.chain.governance import ChainParameter
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.ids import DeviceId, H
from starling.protocol.wire.envelope import Envelope, MessageKind
from starling.protocol.wire.message_bodies import CONTRIBUTION
from tests.unit.coordinator.fixtures.small_chain import SmallChain, opened
from tests.unit.coordinator.fixtures.small_genesis import (
    OPERATOR,
    STRANGER,
    board_id,
    board_key,
    key,
    validator_key,
)
from tests.unit.coordinator.fixtures.small_task import SPEC, contribution
from tests.unit.coordinator.fixtures.state_invariants import (
    check_invariants,
    check_members,
    check_supply,
)

BOARDS = 6
BUFFER = SPEC.aggregation.buffer
REWARD = 1_003
ECONOMY = CreditPolicy(100_000, 30_000, 500, 2_000)
boards = st.integers(0, BOARDS - 1)
amounts = st.sampled_from([1, 7, 200, 5_000, 60_000])


@dataclass
class Naive:
    """Everything in dictionaries, by id or by the number of a board."""

    balance: dict[DeviceId, int] = field(default_factory=dict)
    deposit: dict[DeviceId, int] = field(default_factory=dict)
    treasury: int = 0
    pool: int = 0
    burned: int = 0
    keys: dict[int, SigningKey] = field(default_factory=dict)
    jailed: dict[int, int] = field(default_factory=dict)
    convicted: dict[int, set[int]] = field(default_factory=dict)
    signed: set[tuple[int, int]] = field(default_factory=set)
    excluded: set[int] = field(default_factory=set)
    operators: set[bytes] = field(default_factory=set)
    members: list[SigningKey] = field(default_factory=list)
    coming: list[SigningKey] | None = None
    coming_at: int = 0
    heartbeat: tuple[int, int, int] = (60, 0, 60)
    head: int = 0
    outvoted: dict[bytes, list[int]] = field(default_factory=dict)

    def slash(self, who: DeviceId, percent: int, finder: DeviceId) -> None:
        lost = self.deposit[who] * percent // 100
        self.deposit[who] -= lost
        reward = lost // 10 if finder in self.balance and finder != who else 0
        if reward:
            self.balance[finder] += reward
        self.burned += lost - reward


class Twins(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        spec = replace(SPEC, pool=REWARD)
        self.world: SmallChain = opened(BOARDS, spec=spec, economy=ECONOMY)
        self.naive = Naive(
            balance={OPERATOR.identity: 30_000 - BOARDS * 2_000},
            treasury=100_000 - 30_000 - 500,
            keys={at: board_key(at) for at in range(BOARDS)},
            operators={OPERATOR.public},
            members=[validator_key(0)],
        )
        for at in range(BOARDS):
            self.naive.balance[board_id(at)] = 0
            self.naive.deposit[board_id(at)] = 2_000
        self.naive.balance[validator_key(0).identity] = 0
        self.naive.deposit[validator_key(0).identity] = 500

    def done(self, envelope: Envelope) -> bool:
        return self.world.do(envelope).code == 0

    def free(self, board: int) -> bool:
        naive = self.naive
        over = self.world.height > naive.jailed.get(board, 0)
        return over and board not in naive.excluded

    def present(self) -> list[SigningKey]:
        naive = self.naive
        if naive.coming is not None and self.world.height >= naive.coming_at:
            naive.members, naive.coming = naive.coming, None
        return naive.members

    def motion(self, kind: str, *what: object) -> Envelope:
        """Approved by all who are validators now."""
        present = sorted(self.present(), key=lambda one: one.public)
        self.world.validators = present
        made: Envelope = getattr(self.world, kind)(
            *what, voters=range(len(present)), who=OPERATOR
        )
        return made

    @rule(to=boards, amount=amounts)
    def operator_pays(self, to: int, amount: int) -> None:
        naive = self.naive
        enough = naive.balance[OPERATOR.identity] >= amount
        assert self.done(self.world.transfer(board_id(to), amount)) == enough
        if enough:
            naive.balance[OPERATOR.identity] -= amount
            naive.balance[board_id(to)] += amount

    @rule(who=boards, to=boards, amount=amounts, old=st.booleans())
    def board_pays(self, who: int, to: int, amount: int, old: bool) -> None:
        naive = self.naive
        present = naive.keys[who]
        signer = board_key(who) if old else present
        allowed = signer == present and naive.balance[board_id(who)] >= amount
        paid = self.world.transfer(board_id(to), amount, signer)
        assert self.done(paid) == allowed
        if allowed:
            naive.balance[board_id(who)] -= amount
            naive.balance[board_id(to)] += amount

    @rule(amount=amounts)
    def fund(self, amount: int) -> None:
        enough = self.naive.treasury >= amount
        assert self.done(self.world.fund(amount)) == enough
        if enough:
            self.naive.treasury -= amount
            self.naive.pool += amount

    @rule(who=boards, number=st.integers(0, 30))
    def rotate(self, who: int, number: int) -> None:
        naive, following = self.naive, key(9_500 + number)
        known = board_records.in_use(self.world.tree, following.public)
        allowed = not known and who not in naive.excluded
        moved = self.world.rotate(who, following, naive.keys[who])
        assert self.done(moved) == allowed
        if allowed:
            naive.keys[who] = following

    def _update(self, who: int, base: int, pledge: int = 16) -> Envelope:
        body = CONTRIBUTION.pack(contribution(who, base, pledge=pledge))
        return self.world.sign(self.naive.keys[who], MessageKind.UPDATE, body)

    @rule()
    def make_version(self) -> None:
        naive, base = self.naive, self.naive.head
        willing = [at for at in range(BOARDS) if self.free(at)]
        if len(willing) < BUFFER:
            return
        for who in willing[:BUFFER]:
            assert self.done(self._update(who, base))
        self.world.validators = sorted(self.present(), key=lambda one: one.public)
        quorum = 2 * len(self.world.validators) // 3 + 1
        for at in range(quorum):
            assert self.done(self.world.attest(base + 1, validator=at))
        naive.head += 1
        reward = min(REWARD, naive.pool)
        naive.pool -= reward
        for place, who in enumerate(willing[:BUFFER]):
            share = reward // BUFFER + (place < reward % BUFFER)
            naive.balance[board_id(who)] += share

    @rule(member=st.integers(0, 4))
    def attest_otherwise(self, member: int) -> None:
        naive, late = self.naive, validator_key(member)
        self.world.validators = [late]
        known = naive.outvoted.get(late.public, [0])
        allowed = late in self.present() and known[-1] < naive.head
        assert self.done(self.world.attest(naive.head, H(b"wrong"))) == allowed
        if allowed:
            naive.outvoted.setdefault(late.public, []).append(naive.head)

    @rule(who=boards, base=st.integers(0, 9))
    def accuse(self, who: int, base: int) -> None:
        naive = self.naive
        known = naive.convicted.setdefault(who, set())
        allowed = (not known or self.free(who)) and base not in known
        allowed = allowed and len(known) < CONVICTIONS_MAX
        twice = self._update(who, base), self._update(who, base, 32)
        body = EVIDENCE.pack(duplicate_updates(*twice))
        accusation = self.world.sign(OPERATOR, MessageKind.EVIDENCE, body)
        assert self.done(accusation) == allowed
        if allowed:
            known.add(base)
            last = len(known) == CONVICTIONS_MAX
            naive.slash(board_id(who), 100 if last else 10, OPERATOR.identity)
            naive.jailed[who] = self.world.height + JAIL_BLOCKS
            if last:
                naive.excluded.add(who)

    @rule(admitted=st.booleans())
    def operators(self, admitted: bool) -> None:
        naive = self.naive
        allowed = admitted != (STRANGER.public in naive.operators)
        changed = self.motion("operator", STRANGER, int(admitted))
        assert self.done(changed) == allowed
        if allowed and admitted:
            naive.operators.add(STRANGER.public)
            naive.balance.setdefault(STRANGER.identity, 0)
        elif allowed:
            naive.operators.remove(STRANGER.public)

    @rule(number=st.integers(0, 4))
    def join(self, number: int) -> None:
        naive, joining = self.naive, validator_key(number)
        present = self.present()
        allowed = joining not in present and naive.coming is None
        allowed = allowed and naive.balance[OPERATOR.identity] >= 500
        assert self.done(self.motion("join", number)) == allowed
        if allowed:
            naive.coming = [*present, joining]
            naive.coming_at = self.world.height + DELAY_BLOCKS
            naive.balance[OPERATOR.identity] -= 500
            naive.balance.setdefault(joining.identity, 0)
            naive.deposit.setdefault(joining.identity, 0)
            naive.deposit[joining.identity] += 500

    @rule(number=st.integers(0, 4))
    def leave(self, number: int) -> None:
        naive, leaving = self.naive, validator_key(number)
        present = self.present()
        allowed = leaving in present and len(present) > 1 and naive.coming is None
        assert self.done(self.motion("leave", leaving)) == allowed
        if allowed:
            naive.coming = [one for one in present if one != leaving]
            naive.coming_at = self.world.height + DELAY_BLOCKS

    @rule(value=st.integers(1, 100), ahead=st.integers(0, 5))
    def heartbeat(self, value: int, ahead: int) -> None:
        naive, height = self.naive, self.world.height
        present, at, before = naive.heartbeat
        allowed = ahead >= 2 and height >= at
        changed = self.motion(
            "parameter", ChainParameter.HEARTBEAT_S, value, height + ahead
        )
        assert self.done(changed) == allowed
        if allowed:
            del before
            naive.heartbeat = (value, height + ahead, present)

    @rule(value=st.integers(-10, 10))
    def score(self, value: int) -> None:
        self.world.validators = sorted(self.present(), key=lambda one: one.public)
        version = self.naive.head
        envelope = self.world.score(version, [value] * BUFFER)
        if self.done(envelope) and len(self.world.validators) == 1:
            found = scores(self.world.tree, 0, version)
            assert found is not None
            assert found.medians[0].influence == value

    @rule(blocks=st.sampled_from([1, 1, 2, JAIL_BLOCKS + 1]), missed=st.integers(0, 3))
    def blocks_pass(self, blocks: int, missed: int) -> None:
        # None is skipped that could be the first one of another set.
        made = min(blocks, DELAY_BLOCKS + 1)
        for _ in range(made):
            present = self.present()
            self.world.end_block(missed % len(present))
            keys = {one.public for one in present}
            outvoted = self.naive.outvoted.items()
            self.naive.outvoted = {who: of for who, of in outvoted if who in keys}
        self.world.height += blocks - made

    @invariant()
    def same(self) -> None:
        naive, tree = self.naive, self.world.tree
        for who, balance in naive.balance.items():
            held = credit_accounts.account(tree, who)
            deposit = naive.deposit.get(who, 0)
            assert held is not None
            assert (held.balance, held.deposit) == (balance, deposit)
        assert credit_accounts.treasury(tree) == naive.treasury
        assert credit_accounts.pool(tree, 0) == naive.pool
        assert credit_accounts.burned(tree) == naive.burned
        height = self.world.height
        keys = sorted(one.public for one in self.present())
        found = validator_records.validators(tree, self.world.genesis, height)
        assert [member.public for member in found.members] == keys
        value, at, before = naive.heartbeat
        expected = value if height >= at else before
        wanted = ChainParameter.HEARTBEAT_S
        assert parameter(tree, self.world.genesis, wanted, height) == expected
        for number in range(5):
            public = validator_key(number).public
            counted = validator_records.dissent(tree, 0, public)
            expected_count = len(naive.outvoted.get(public, []))
            assert (counted.count if counted else 0) == expected_count
        check_supply(tree, ECONOMY.supply)
        check_members(tree, self.world.genesis, height)
        check_invariants(tree)


TestTwins = Twins.TestCase
TestTwins.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)

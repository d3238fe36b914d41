"""Validators come and go one at a time, two heights later, and answer for the past."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from starling.coordinator.chain.governance import credit_accounts
from starling.coordinator.chain.governance.credit_accounts import Account
from starling.coordinator.chain.governance.validator_set import DELAY_BLOCKS
from starling.coordinator.chain.state import (
    board_records,
    task_records,
    validator_records,
)
from starling.coordinator.chain.storage import block_rows
from starling.coordinator.chain.storage.block_rows import BlockRow
from starling.coordinator.chain.verification import chain_replay
from starling.coordinator.chain.verification.block_damage import BlockDamage
from starling.protocol.chain.blocks import CERTIFICATE, HEADER
from starling.protocol.chain.credit_policy import CreditPolicy
from starling.protocol.chain.evidence import AGE_HEIGHTS_MAX
from starling.protocol.chain.genesis import VALIDATORS_MAX, FaultModel, ValidatorSet
from starling.protocol.chain.governance import VALIDATOR_CHANGE, ValidatorChange
from starling.protocol.chain.light_client import TrustedState, pin
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.errors import ProofError, Reason
from starling.protocol.ids import PublicKey, SealingKey
from starling.protocol.wire.envelope import Envelope, MessageKind
from starling.protocol.wire.message_bodies import REGISTER, Register
from tests.sim.consensus.validator_network import Bus
from tests.unit.coordinator.chain.governance.test_slashing import LIAR, double_vote
from tests.unit.coordinator.fixtures.single_validator import SingleValidator
from tests.unit.coordinator.fixtures.small_chain import SmallChain, opened
from tests.unit.coordinator.fixtures.small_genesis import (
    OPERATOR,
    STRANGER,
    genesis,
    newcomer,
    validator_key,
)

NEW = 40


def keys_at(world: SmallChain, height: int) -> list[bytes]:
    found = validator_records.validators(world.tree, world.genesis, height)
    return [member.public for member in found.members]


def old_keys(world: SmallChain) -> list[bytes]:
    return [key.public for key in world.validators]


def test_added_validator_decides_two_heights_later() -> None:
    world = opened(validators=4)
    world.must(world.join(NEW))
    assert keys_at(world, world.height + 1) == old_keys(world)
    joined = sorted([*old_keys(world), validator_key(NEW).public])
    assert keys_at(world, world.height + DELAY_BLOCKS) == joined
    assert keys_at(world, world.height + 1000) == joined


def test_removed_validator_decides_nothing_two_heights_later() -> None:
    world = opened(validators=4)
    world.must(world.leave(world.validators[0]))
    assert keys_at(world, world.height + 1) == old_keys(world)
    assert keys_at(world, world.height + DELAY_BLOCKS) == old_keys(world)[1:]


def test_second_change_waits_for_the_first() -> None:
    world = opened(validators=4)
    world.must(world.join(NEW))
    world.height += DELAY_BLOCKS - 1
    assert world.do(world.join(NEW + 1)).code == Reason.BUSY
    world.height += 1
    assert world.do(world.join(NEW + 1)).code == Reason.NOT_AUTHORISED
    world.must(world.join(NEW + 1, voters=range(4)))
    assert len(keys_at(world, world.height + DELAY_BLOCKS)) == 6


def _tombstoned(world: SmallChain) -> Envelope:
    world.must(double_vote(world))
    world.must(world.leave(world.validators[LIAR]))
    world.height += DELAY_BLOCKS
    added = next(
        number
        for number in range(4)
        if validator_key(number).public == world.validators[LIAR].public
    )
    return world.join(added, voters=[0, 1, 3])


REFUSALS: list[tuple[str, Callable[[SmallChain], Envelope], Reason]] = [
    ("too-few", lambda w: w.join(NEW, voters=(0, 1)), Reason.NOT_AUTHORISED),
    ("member", lambda w: w.join(0), Reason.ALREADY_KNOWN),
    ("no-member", lambda w: w.leave(STRANGER), Reason.NOT_ENROLLED),
    ("convicted", _tombstoned, Reason.NOT_AUTHORISED),
]


@pytest.mark.parametrize(
    ("make", "reason"),
    [pytest.param(make, reason, id=name) for name, make, reason in REFUSALS],
)
def test_change_refused_changes_nothing(
    make: Callable[[SmallChain], Envelope], reason: Reason
) -> None:
    world = opened(validators=4)
    envelope = make(world)
    before = world.tree.root()
    assert world.do(envelope).code == reason
    assert world.tree.root() == before


def test_boards_key_becomes_no_validators() -> None:
    world = opened(validators=1)
    world.must(world.operator(validator_key(NEW)))
    assert world.do(world.join(NEW)).code == Reason.ALREADY_KNOWN


def test_attestation_of_who_left_counts_no_more() -> None:
    world = opened(validators=4)
    world.must(*[world.update(number) for number in range(4)])
    world.must(world.attest(1, validator=0), world.attest(1, validator=1))
    world.must(world.leave(world.validators[0]))
    world.height += DELAY_BLOCKS
    # Three of three are needed now, and only two of those who are left agree.
    world.must(world.attest(1, validator=2))
    assert task_records.head(world.tree, 0) == 0
    world.must(world.attest(1, validator=3))
    assert task_records.head(world.tree, 0) == 1


def _register(world: SmallChain, who: SigningKey) -> Envelope:
    """As a board, by an operator that would be given its deposit."""
    return world.sign(
        OPERATOR, MessageKind.REGISTER, REGISTER.pack(Register(who.public))
    )


def _present(world: SmallChain) -> SigningKey:
    return world.validators[0]


def _coming(world: SmallChain) -> SigningKey:
    world.must(world.join(NEW, who=OPERATOR))
    return validator_key(NEW)


def _gone(world: SmallChain) -> SigningKey:
    world.must(world.leave(world.validators[0]))
    world.height += AGE_HEIGHTS_MAX
    return world.validators[0]


def _gone_for_long(world: SmallChain) -> SigningKey:
    who = _gone(world)
    # Evidence cannot reach it any more, but nobody gave its deposit back.
    world.height += DELAY_BLOCKS + 1
    return who


@pytest.mark.parametrize(
    "whose", [_present, _coming, _gone, _gone_for_long], ids=lambda f: f.__name__
)
def test_validators_key_becomes_no_boards(
    whose: Callable[[SmallChain], SigningKey],
) -> None:
    world = opened(validators=4, economy=ECONOMY)
    who = whose(world)
    assert world.do(_register(world, who)).code == Reason.ALREADY_KNOWN
    held = credit_accounts.account(world.tree, who.identity)
    assert held is not None
    assert held.deposit == ECONOMY.validator_deposit


@pytest.mark.parametrize("whose", [_present, _coming, _gone], ids=lambda f: f.__name__)
def test_board_rotates_to_no_validators_key(
    whose: Callable[[SmallChain], SigningKey],
) -> None:
    world = opened(validators=4, economy=ECONOMY)
    who = whose(world)
    assert world.do(world.rotate(0, who)).code == Reason.ALREADY_KNOWN


@pytest.mark.parametrize("point", [0, 1], ids=str)
def test_validator_to_whom_nobody_can_seal_is_refused(point: int) -> None:
    world = opened(validators=4)
    sealing = SealingKey(point.to_bytes(32, "little"))
    added = replace(newcomer(NEW), sealing=sealing)
    content = VALIDATOR_CHANGE.pack(ValidatorChange(added, None))
    assert world.do(world.motion(MessageKind.VALSET, content)).code == Reason.MALFORMED


def test_last_validator_stays() -> None:
    world = opened()
    assert world.do(world.leave(world.validators[0])).code == Reason.POLICY_MISMATCH


def test_set_is_bounded() -> None:
    world = opened(validators=VALIDATORS_MAX)
    assert world.do(world.join(NEW)).code == Reason.BUSY


def test_crash_only_chain_keeps_two_or_three() -> None:
    world = SmallChain(validators=3)
    world.genesis = genesis(3, FaultModel.CRASH)
    world.chain_id = world.genesis.chain_id()
    assert world.do(world.join(NEW)).code == Reason.POLICY_MISMATCH
    world.must(world.leave(world.validators[0]))


ECONOMY = CreditPolicy(1_000_000, 50_000, 1_000, 0)


def test_whoever_submits_pays_the_deposit() -> None:
    world = opened(validators=4, economy=ECONOMY)
    assert world.do(world.join(NEW)).code == Reason.INSUFFICIENT_FUNDS
    world.must(world.join(NEW, who=OPERATOR))
    added = validator_key(NEW).identity
    assert credit_accounts.account(world.tree, added) == Account(deposit=1_000)
    paid = credit_accounts.account(world.tree, OPERATOR.identity)
    assert paid is not None
    assert paid.balance == 49_000


def test_former_validator_answers_until_evidence_is_too_old() -> None:
    world = opened(validators=4, economy=ECONOMY)
    liar = world.validators[LIAR]
    world.must(world.leave(liar))
    world.height += AGE_HEIGHTS_MAX
    accused = double_vote(world, height=world.height - AGE_HEIGHTS_MAX + 1)
    world.must(accused)
    assert board_records.fault(world.tree, liar.public) is not None
    assert credit_accounts.account(world.tree, liar.identity) == Account()


def test_vote_is_judged_by_the_set_of_its_height() -> None:
    """After somebody left, the liar's old place is another's."""
    world = opened(validators=4)
    last = world.validators[3]
    world.must(world.leave(world.validators[0]))
    old, new = world.height + 1, world.height + DELAY_BLOCKS
    world.height += 10
    assert world.do(double_vote(world, height=new)).code == Reason.BAD_SIGNATURE
    world.must(double_vote(world, height=old))
    assert board_records.fault(world.tree, last.public) is None


def test_deposit_of_a_former_validator_comes_back_late() -> None:
    world = opened(validators=4, economy=ECONOMY)
    former = next(
        number
        for number in range(4)
        if validator_key(number).public == world.validators[0].public
    )
    world.must(world.leave(world.validators[0]))
    release = world.release_of(world.validators[0].identity)
    world.height += DELAY_BLOCKS - 1
    world.mark()
    world.height += AGE_HEIGHTS_MAX
    assert world.do(release).code == Reason.BUSY
    world.height += 1
    world.must(release)
    held = credit_accounts.account(world.tree, validator_key(former).identity)
    assert held == Account(balance=1_000)


def test_sets_that_no_evidence_reaches_are_forgotten() -> None:
    world = opened(validators=1)
    for number in range(4):
        world.height += DELAY_BLOCKS
        world.mark()
        world.height += AGE_HEIGHTS_MAX
        voters = sorted_keys(world)
        world.validators = voters
        world.must(world.join(NEW + number, voters=range(len(voters))))
        kept = [key for key, _ in world.tree.items(b"epoch/")]
        assert len(kept) == min(2, number + 1)


def sorted_keys(world: SmallChain) -> list[SigningKey]:
    known = {validator_key(n).public: validator_key(n) for n in (0, *range(NEW, 50))}
    return [known[PublicKey(public)] for public in keys_at(world, world.height)]


def decided(bus: Bus) -> Iterator[BlockRow]:
    for stored in bus.nodes[1].blocks():
        yield BlockRow(
            stored.block.header.height,
            HEADER.pack(stored.block.header),
            block_rows.pack_body(stored.block.transactions),
            CERTIFICATE.pack(stored.certificate),
        )


def follow(bus: Bus, sets: dict[bytes, ValidatorSet]) -> TrustedState:
    """A light client that is shown every header, and each new set when it begins."""
    trusted = pin(bus.world.genesis)
    for stored in bus.nodes[1].blocks():
        header = stored.block.header
        following = sets[header.next_validators]
        trusted = trusted.accept(header, stored.certificate, following)
    return trusted


@pytest.mark.parametrize("seed", range(3))
def test_running_chain_goes_on_through_a_join_and_a_leave(seed: int) -> None:
    world = SmallChain(4)
    bus = Bus(seed, world, [*world.validators, validator_key(NEW)], correct=range(1, 5))
    bus.submit(0.1, world.join(NEW))
    bus.submit(0.2, world.register(0))

    bus.run(60.0, lambda: min(bus.heights()) >= 1)
    bus.submit(bus.now_s, world.register(1))
    bus.run(90.0, lambda: min(bus.heights()) >= 4)
    assert bus.nodes[4].state.validator.index is not None
    left = world.leave(world.validators[0], number=1, voters=range(4))
    bus.submit(bus.now_s, left)
    reached = max(bus.heights()) + 4
    for number in range(2, 8):
        bus.submit(bus.now_s + number, world.register(number))
    bus.run(bus.now_s + 200.0, lambda: min(bus.heights()) >= reached)

    members = bus.nodes[1].state.validator.roster.validators.members
    joined = sorted([*old_keys(world)[1:], validator_key(NEW).public])
    assert [member.public for member in members] == joined
    bus.check_votes()
    checked = list(chain_replay.check_rows(world.genesis, decided(bus)))
    assert not [found for found in checked if isinstance(found, BlockDamage)]
    five = (*world.genesis.validators.members, newcomer(NEW))
    sets = (
        world.genesis.validators,
        ValidatorSet(tuple(sorted(five, key=lambda member: member.public))),
        ValidatorSet(members),
    )
    trusted = follow(bus, {each.digest(): each for each in sets})
    assert trusted.height == bus.nodes[1].state.height
    assert trusted.validators.members == members
    stale = pin(world.genesis)
    last = bus.nodes[1].blocks()[-1]
    with pytest.raises(ProofError, match="not trusted"):
        stale.accept(last.block.header, last.certificate)


def test_who_is_to_join_a_chain_of_one_is_not_alone() -> None:
    world = SmallChain(1)
    member = SingleValidator(world.genesis, world.validators[0])
    joining = SingleValidator(world.genesis, validator_key(NEW))
    assert [each.state.alone for each in (member, joining)] == [True, False]

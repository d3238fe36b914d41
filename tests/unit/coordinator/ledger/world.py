"""A small chain to test with: keys, a task, transactions, and a state."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TypedDict, Unpack

from coordinator.ledger import views, windows
from coordinator.ledger.attendance import roster_of
from coordinator.ledger.draft import Context, Draft
from coordinator.ledger.rounds import Party, Timeouts
from coordinator.ledger.state import TxResult, apply, execute, genesis_tree
from protocol.economy import (
    FUND,
    NO_ECONOMY,
    RELEASE,
    TRANSFER,
    UNJAIL,
    Economy,
    Fund,
    Release,
    Transfer,
    Unjail,
)
from protocol.envelope import Envelope, Kind, sign
from protocol.evidence import EVIDENCE, duplicate_updates
from protocol.genesis import (
    FORMAT_VERSION,
    FaultModel,
    Genesis,
    Validator,
    ValidatorSet,
    quorum,
)
from protocol.ids import DeviceId, Digest, H, SealingKey, TaskId, Version, device_id
from protocol.keys import OpeningKey, SigningKey
from protocol.messages import (
    ATTEST,
    CONTRIBUTION,
    REGISTER,
    REVOKE,
    Attest,
    Contribution,
    Register,
    Revoke,
)
from protocol.motion import (
    MOTION,
    OPERATOR_CHANGE,
    PARAMETER_CHANGE,
    UPGRADE_CHANGE,
    VALIDATOR_CHANGE,
    Motion,
    OperatorChange,
    ParameterChange,
    UpgradeChange,
    ValidatorChange,
)
from protocol.rotation import rotate
from protocol.score import SCORE, Score
from protocol.task import (
    Q15,
    TASK,
    AggregationPolicy,
    ModelDigests,
    PrivacyPolicy,
    TaskSpec,
    TrainingPolicy,
)

CODEC = 1
PLEDGES = (16, 32)
SIGMA_MICRO = 2_000_000


def key(number: int) -> SigningKey:
    return SigningKey(hashlib.blake2b(b"%d" % number, digest_size=32).digest())


OPERATOR = key(1)
STRANGER = key(2)


def validator_key(number: int) -> SigningKey:
    return key(1000 + number)


def board_key(number: int) -> SigningKey:
    return key(2000 + number)


def board_id(number: int) -> DeviceId:
    return device_id(board_key(number).public)


def genesis(
    validators: int = 1,
    fault_model: FaultModel = FaultModel.BYZANTINE,
    heartbeat_s: int = 60,
    economy: Economy = NO_ECONOMY,
) -> Genesis:
    members = [validator(number) for number in range(validators)]
    members.sort(key=lambda member: member.public)
    return Genesis(
        FORMAT_VERSION,
        "test",
        1_000,
        fault_model,
        ValidatorSet(tuple(members)),
        (OPERATOR.public,),
        heartbeat_s,
        economy,
    )


def party_of(chain: Genesis, height: int = 1, index: int = 0) -> Party:
    """A validator of a chain on which nobody missed a turn."""
    return Party(
        chain.chain_id(),
        FaultModel(chain.fault_model),
        roster_of(genesis_tree(chain), chain, height),
        sorted_validator_keys(len(chain.validators.members))[index],
        index,
        Timeouts(),
    )


def sorted_validator_keys(validators: int) -> list[SigningKey]:
    """In the order of the validator set."""
    return sorted((validator_key(i) for i in range(validators)), key=lambda k: k.public)


MODEL = ModelDigests(*(5 * [H(b"model")]))
SPEC = TaskSpec(
    name="task",
    bundle=H(b"bundle"),
    bundle_bytes=1000,
    dimension=10,
    codec=CODEC,
    initial=MODEL,
    training=TrainingPolicy(0, 1, 1, 1),
    privacy=PrivacyPolicy(0, 0, 0, 0, 0, 15),
    aggregation=AggregationPolicy(
        strategy=0,
        buffer=4,
        learning_rate_q16=1 << 16,
        momentum_q16=0,
        average_q16=0,
        staleness_q15=(Q15, Q15 // 2, Q15 // 4),
        leases=8,
        patience=3,
        norm_max=1 << 40,
    ),
    pledges=PLEDGES,
    pool=0,
)
PRIVATE_SPEC = replace(SPEC, privacy=PrivacyPolicy(1, 1, SIGMA_MICRO, 1, 1, 15))


def contribution(number: int, base: int, **fields: object) -> Contribution:
    body = Contribution(
        TaskId(0),
        Version(base),
        CODEC,
        PLEDGES[0],
        0,
        0,
        H(b"blob", b"%d/%d" % (number, base)),
        H(b"commitment"),
    )
    return replace(body, **fields)  # type: ignore[arg-type]  # a table's fields


def validator(number: int) -> Validator:
    return Validator(validator_key(number).public, SealingKey(bytes(32)), f"c{number}")


def newcomer(number: int) -> Validator:
    """A validator to whom boards can seal."""
    sealing = OpeningKey(H(b"sealing", bytes([number]))).public
    return replace(validator(number), sealing=sealing)


class Carrying(TypedDict, total=False):
    """How a motion is carried."""

    voters: Sequence[int] | None
    number: int | None
    until: int
    until_ms: int
    who: SigningKey


class World:
    """A state, and one method per transaction that signs it."""

    def __init__(
        self,
        validators: int = 1,
        spec: TaskSpec = SPEC,
        economy: Economy = NO_ECONOMY,
    ) -> None:
        self.genesis = genesis(validators, economy=economy)
        self.validators = sorted_validator_keys(validators)
        self.chain_id = self.genesis.chain_id()
        self.spec = spec
        self.tree = genesis_tree(self.genesis)
        self.height = 1
        self.hurried_ms = 0
        self.counter = 0

    @property
    def context(self) -> Context:
        order = roster_of(self.tree, self.genesis, self.height).order
        return Context(self.genesis, self.chain_id, self.height, order[0], self.time_ms)

    @property
    def time_ms(self) -> int:
        """Of the block's header: a heartbeat each, unless blocks were hurried."""
        paced_ms = 1000 * self.genesis.heartbeat_s * self.height
        return self.genesis.created_ms + paced_ms - self.hurried_ms

    def hurry(self, blocks: int) -> None:
        """Goes on by as many heights, and by no time."""
        self.height += blocks
        self.hurried_ms += 1000 * self.genesis.heartbeat_s * blocks

    def mark(self) -> None:
        """Dates this height exactly: what is said of its age is to the block."""
        known = self.tree.get(windows.CLOCK_KEY)
        marks = () if known is None else windows.MARKS.unpack(known).marks
        marks = (*marks, windows.Mark(self.height, self.time_ms))
        packed = windows.MARKS.pack(windows.Marks(marks))
        self.tree = self.tree.update({windows.CLOCK_KEY: packed})

    def wait(self, seconds: int) -> None:
        """Lets time pass, and no block."""
        self.hurried_ms -= 1000 * seconds

    def sign(self, who: SigningKey, kind: Kind, body: bytes) -> Envelope:
        self.counter += 1
        return sign(who, self.chain_id, kind, self.counter, body)

    def publish(self, who: SigningKey = OPERATOR) -> Envelope:
        return self.sign(who, Kind.TASK, TASK.pack(self.spec))

    def register(self, number: int, who: SigningKey = OPERATOR) -> Envelope:
        body = REGISTER.pack(Register(board_key(number).public))
        return self.sign(who, Kind.REGISTER, body)

    def revoke(self, number: int, who: SigningKey = OPERATOR) -> Envelope:
        return self.sign(who, Kind.REVOKE, REVOKE.pack(Revoke(board_id(number))))

    def rotate(
        self, number: int, following: SigningKey, who: SigningKey | None = None
    ) -> Envelope:
        self.counter += 1
        present = who or board_key(number)
        device = board_id(number)
        return rotate(device, present, following, self.chain_id, self.counter)

    def join(self, number: int, /, **how: Unpack[Carrying]) -> Envelope:
        """A motion that adds a validator."""
        change = ValidatorChange(newcomer(number), None)
        return self.motion(Kind.VALSET, VALIDATOR_CHANGE.pack(change), **how)

    def leave(self, who: SigningKey, /, **how: Unpack[Carrying]) -> Envelope:
        """A motion that removes one."""
        change = ValidatorChange(None, who.public)
        return self.motion(Kind.VALSET, VALIDATOR_CHANGE.pack(change), **how)

    def parameter(
        self, wanted: int, value: int, height: int, **how: Unpack[Carrying]
    ) -> Envelope:
        """A motion that changes a parameter from a height on."""
        content = PARAMETER_CHANGE.pack(ParameterChange(wanted, value, height))
        return self.motion(Kind.PARAM, content, **how)

    def upgrade(self, version: int, height: int, **how: Unpack[Carrying]) -> Envelope:
        """A motion that changes the rules from a height on."""
        content = UPGRADE_CHANGE.pack(UpgradeChange(version, height))
        return self.motion(Kind.UPGRADE, content, **how)

    def fund(self, amount: int, who: SigningKey = OPERATOR, task: int = 0) -> Envelope:
        return self.sign(who, Kind.FUND, FUND.pack(Fund(TaskId(task), amount)))

    def transfer(
        self, recipient: DeviceId, amount: int, who: SigningKey = OPERATOR
    ) -> Envelope:
        body = TRANSFER.pack(Transfer(recipient, amount))
        return self.sign(who, Kind.TRANSFER, body)

    def double_update(
        self, number: int, base: int = 0, finder: SigningKey = STRANGER
    ) -> Envelope:
        """Evidence that a board signed two updates for one base."""
        twice = self.update(number, base), self.update(number, base, pledge=PLEDGES[1])
        body = EVIDENCE.pack(duplicate_updates(*twice))
        return self.sign(finder, Kind.EVIDENCE, body)

    def unjail(self, number: int, who: SigningKey | None = None) -> Envelope:
        body = UNJAIL.pack(Unjail(board_id(number)))
        return self.sign(who or board_key(number), Kind.UNJAIL, body)

    def release(self, number: int, who: SigningKey = OPERATOR) -> Envelope:
        return self.release_of(board_id(number), who)

    def release_of(self, whose: DeviceId, who: SigningKey = OPERATOR) -> Envelope:
        return self.sign(who, Kind.RELEASE, RELEASE.pack(Release(whose)))

    def motion(
        self,
        kind: Kind,
        content: bytes,
        voters: Sequence[int] | None = None,
        number: int | None = None,
        until: int = 1 << 20,
        until_ms: int = 0,
        who: SigningKey = STRANGER,
    ) -> Envelope:
        """A motion that these validators approved; by default a quorum."""
        if voters is None:
            fault_model = FaultModel(self.genesis.fault_model)
            voters = range(quorum(len(self.validators), fault_model))
        if number is None:
            number = views.motion_count(self.tree)
        made = Motion(kind, number, until, until_ms, content)
        for voter in voters:
            made = made.approved(self.validators[voter], self.chain_id)
        return self.sign(who, kind, MOTION.pack(made))

    def operator(
        self, who: SigningKey, admitted: int = 1, /, **how: Unpack[Carrying]
    ) -> Envelope:
        content = OPERATOR_CHANGE.pack(OperatorChange(admitted, who.public))
        return self.motion(Kind.OPERATOR, content, **how)

    def update(self, number: int, base: int = 0, **fields: object) -> Envelope:
        body = CONTRIBUTION.pack(contribution(number, base, **fields))
        return self.sign(board_key(number), Kind.UPDATE, body)

    def attest(
        self,
        version: int,
        digest: Digest | None = None,
        validator: int = 0,
        task: int = 0,
    ) -> Envelope:
        digest = digest or H(b"version %d" % version)
        body = ATTEST.pack(Attest(TaskId(task), Version(version), digest))
        return self.sign(self.validators[validator], Kind.ATTEST, body)

    def score(
        self, version: int, values: Sequence[int], validator: int = 0, task: int = 0
    ) -> Envelope:
        body = SCORE.pack(Score(TaskId(task), Version(version), tuple(values)))
        return self.sign(self.validators[validator], Kind.SCORE, body)

    def do(self, envelope: Envelope) -> TxResult:
        """Applies a transaction to the state of a block that begins with it."""
        draft = Draft(self.tree)
        windows.note(draft, self.context)
        changes, result = apply(draft, self.context, envelope)
        if result.code == 0:
            self.tree = self.tree.update({**draft.changes, **changes})
        return result

    def must(self, *envelopes: Envelope) -> None:
        """Applies transactions that must not be refused."""
        for envelope in envelopes:
            result = self.do(envelope)
            assert result.code == 0, result

    def end_block(self, missed: int = 0) -> None:
        """Does what begins and ends a block, and goes on to the next height.

        Args:
          missed: How many missed their turn to make it.
        """
        order = roster_of(self.tree, self.genesis, self.height).order
        context = replace(self.context, proposer=order[missed])
        self.tree = execute(self.tree, context, ()).tree
        self.height += 1

    def advance(self, base: int, boards: int = 4) -> None:
        """Makes version `base + 1` of updates of the first boards."""
        self.must(*(self.update(number, base) for number in range(boards)))
        votes = quorum(len(self.validators), FaultModel(self.genesis.fault_model))
        for validator in range(votes):
            self.must(self.attest(base + 1, validator=validator))


def opened(boards: int = 8, **options: object) -> World:
    """A world with a task and some boards."""
    world = World(**options)  # type: ignore[arg-type]  # passed on
    world.must(world.publish(), *(world.register(i) for i in range(boards)))
    return world

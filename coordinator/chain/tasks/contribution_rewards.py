"""Rewards by contribution; USE: what the use of a model earns those who made it.

    owed/<n>               `RewardAccount`: what is set aside, and for what worth
    earned/<n>/<board>     `BoardEarnings`
    contributor/<n>/<k>    who contributed, in the order of their first scored updates
    meter/<n>/<operator>   uses that an operator has paid for

When a quorum has scored a version, the task's reward leaves its pool. The part for
taking part goes to the version's boards at once, by what they have at stake; the rest
is set aside. On its paydays a board gets the share of all that is set aside that its
worth has in what all boards are still to be paid for: the share leaves with the worth
that it is for, so that everybody is paid by one price, which follows slowly. A board
is so paid for ten scored updates at least, whichever versions they fell into; which
others stood in the same version, and how many, makes no difference.

Once a task is closed or has ended, all are paid what they are due: with CLOSE, and with
each version that is scored from then on.

A board in quarantine is paid nothing, and what it was not paid for yet is forgotten,
to the others' good; after its return it begins anew, with the harm that it still has to
make good. A version that no quorum scores pays nothing, and its credits stay in the
pool. So do those of a version that a rollback undid; of a version that was made again,
the boards that were left out have no part, however late its scores come.

Who serves the model states what its meter shows (USE), and pays the task's price for
each use since it last did, from its own account. All that contributed to the task up
to now share it by their worth: the newest model is made of all of it. What a rollback
left out of the model counts no more.

Source: `protocol.learning.reward_policy`.
"""

from collections.abc import Sequence, Set

from starling.coordinator.chain.governance import credit_accounts
from starling.coordinator.chain.governance.permissions import check_operator
from starling.coordinator.chain.state import rollback_records, task_records
from starling.coordinator.chain.state.overlay import BlockContext, StateOverlay
from starling.coordinator.chain.state.score_subjects import ScoreSubject
from starling.coordinator.chain.state.state_table import (
    BYTES,
    NUMBER,
    StateReader,
    Table,
    by_number,
    by_task_and_identity,
    by_task_and_number,
)
from starling.coordinator.chain.tasks import reputations, rewards
from starling.protocol.chain.credit_policy import CREDITS_MAX, USE
from starling.protocol.chain.update_scores import UpdateScore
from starling.protocol.dataclass_replace import evolve
from starling.protocol.errors import ProtocolError, Reason
from starling.protocol.ids import DeviceId, Digest
from starling.protocol.learning.reward_policy import (
    MILLION,
    NOTHING_EARNED,
    BoardEarnings,
    RewardRule,
    contribution,
    with_contribution,
)
from starling.protocol.learning.task import TaskSpec, TrainingMode
from starling.protocol.privacy.aggregation_terms import noise_micro
from starling.protocol.schema.msgpack_codec import (
    UINT_MAX,
    Structure,
    Uint,
    structure,
)
from starling.protocol.wire.envelope import Envelope


class RewardAccount(Structure, frozen=True):
    """Rewards of a task that are set aside.

    Attributes:
      credits: How many.
      due: Worth of all boards that was not paid for yet.
      boards: How many ever contributed.
    """

    credits: Uint = 0
    due: Uint = 0
    boards: Uint = 0


REWARD_ACCOUNTS = Table(b"owed/", by_number, structure(RewardAccount, 48))
"""By task: what is set aside."""
EARNINGS = Table(b"earned/", by_task_and_identity, structure(BoardEarnings, 48))
"""By task and board: its contributions."""
CONTRIBUTORS = Table(b"contributor/", by_task_and_number, BYTES)
"""By task and place: id of a board that contributed."""
METERS = Table(b"meter/", by_task_and_identity, NUMBER)
"""By task and operator: what its meter showed last."""


def reward_account(tree: StateReader, number: int) -> RewardAccount:
    """Rewards that a task has set aside; none before its first scored version."""
    return REWARD_ACCOUNTS.get(tree, number) or RewardAccount()


def earnings(tree: StateReader, number: int, board: bytes) -> BoardEarnings:
    """Contributions of a board to a task."""
    return EARNINGS.get(tree, number, board) or NOTHING_EARNED


def counted_size(spec: TaskSpec, pledge: int) -> int:
    """Examples that an update counts for.

    A board that takes its own steps multiplies their way by its pledge, and nothing
    else shows it: every such update counts for the task's least pledge.
    """
    summed = spec.training.mode == TrainingMode.GRADIENT
    return pledge if summed else spec.pledges[0]


def settle(
    draft: StateOverlay,
    context: BlockContext,
    number: int,
    version: int,
    subjects: Sequence[ScoreSubject],
    medians: Sequence[UpdateScore],
) -> None:
    """Counts a scored version's contributions, and pays what is due with it.

    Args:
      draft: The state; reputations follow the scores already.
      context: The block.
      number: The task.
      version: Which version a quorum has scored now.
      subjects: Its updates, in the order of the chain.
      medians: What a quorum thinks of each.
    """
    spec = task_records.task(draft, number)
    settled = rewards.settlement(draft, number, version)
    head = task_records.head(draft, number)
    assert spec is not None
    assert settled is not None
    assert head is not None
    if spec.rewards.rule != RewardRule.CONTRIBUTION:
        return
    left_out = rollback_records.left_out(draft, number, version, head)
    # A rollback undid the version: nobody is paid for what the model does not hold.
    if left_out is None:
        return
    held = credit_accounts.pool(draft, number)
    reward = min(spec.pool, held)
    if reward:
        credit_accounts.POOLS.put(draft, held - reward, number)
    taking_part = _for_taking_part(draft, context, spec, reward, subjects, left_out)
    amounts = list(taking_part)
    owed = reward_account(draft, number)
    owed = evolve(owed, credits=owed.credits + reward - sum(taking_part))
    paydays: dict[DeviceId, int] = {}
    for place, (of, median) in enumerate(zip(subjects, medians, strict=True)):
        if of.board in left_out:
            continue
        owed, is_payday = _count(draft, context, number, version, owed, of, median)
        if is_payday:
            paydays[of.board] = place
    # After all updates were counted, so that one price holds for the whole version.
    for board, place in paydays.items():
        owed, amount = _pay(draft, number, spec, owed, board)
        amounts[place] += amount
    REWARD_ACCOUNTS.put(draft, owed, number)
    boards = [of.board for of in subjects]
    noted = evolve(settled, reward=reward)
    rewards.pay(draft, number, version, noted, zip(boards, amounts, strict=True))


def _for_taking_part(
    draft: StateOverlay,
    context: BlockContext,
    spec: TaskSpec,
    reward: int,
    subjects: Sequence[ScoreSubject],
    left_out: Set[DeviceId],
) -> tuple[int, ...]:
    """Credits for taking part, by deposits; 0 for all where nobody has one.

    A deposit counts once, with its board's first update.
    """
    stakes, counted = [], set(left_out)
    for of in subjects:
        held = credit_accounts.account(draft, of.board)
        barred = of.board in counted or reputations.is_quarantined(
            draft, context, of.board
        )
        stakes.append(0 if held is None or barred else held.deposit)
        # A board with several updates in the version has one deposit.
        counted.add(of.board)
    part = reward * spec.rewards.taking_part_micro // MILLION
    return rewards.shares(part, stakes) if any(stakes) else (0,) * len(stakes)


def _count(
    draft: StateOverlay,
    context: BlockContext,
    number: int,
    version: int,
    owed: RewardAccount,
    of: ScoreSubject,
    median: UpdateScore,
) -> tuple[RewardAccount, bool]:
    """Adds one update to its board's contributions; True if it is paid now."""
    spec = task_records.task(draft, number)
    assert spec is not None
    known = EARNINGS.get(draft, number, of.board)
    if known is None:
        CONTRIBUTORS.put(draft, of.board, number, owed.boards)
        owed = evolve(owed, boards=owed.boards + 1)
    weight = spec.aggregation.staleness_q15[version - 1 - of.base]
    amount = contribution(median.influence, counted_size(spec, of.pledge), weight)
    if reputations.is_quarantined(draft, context, of.board):
        after = (known or NOTHING_EARNED).forgotten()
    else:
        after = with_contribution(known or NOTHING_EARNED, amount)
    owed = _put(draft, number, spec, owed, of.board, after)
    return owed, spec.rewards.is_payday(after.scored)


def _pay(
    draft: StateOverlay,
    number: int,
    spec: TaskSpec,
    owed: RewardAccount,
    board: DeviceId,
) -> tuple[RewardAccount, int]:
    """Takes out a board's share; it stays due while it is no whole credit."""
    known = earnings(draft, number, board)
    sigma_micro = noise_micro(spec.privacy, spec.codec)
    due = known.due(sigma_micro)
    # `due` is kept within its field, so that a share could come out above all there is.
    amount = min(owed.credits, owed.credits * due // max(1, owed.due))
    if not amount:
        return owed, 0
    after = evolve(known, paid=known.worth(sigma_micro))
    owed = _put(draft, number, spec, owed, board, after)
    return evolve(owed, credits=owed.credits - amount), amount


def _put(
    draft: StateOverlay,
    number: int,
    spec: TaskSpec,
    owed: RewardAccount,
    board: DeviceId,
    after: BoardEarnings,
) -> RewardAccount:
    """Writes a board's earnings, and keeps the sum of what is due."""
    sigma_micro = noise_micro(spec.privacy, spec.codec)
    before = earnings(draft, number, board).due(sigma_micro)
    EARNINGS.put(draft, after, number, board)
    # As a difference: adding up all boards would take the longer the more there are.
    due = owed.due - before + after.due(sigma_micro)
    return evolve(owed, due=max(0, min(UINT_MAX, due)))


def pay_all(draft: StateOverlay, context: BlockContext, number: int) -> None:
    """The last payday: pays all boards what they are due, however little they did.

    Boards in quarantine are paid nothing. Does nothing where nothing is set aside.
    """
    spec, owed = task_records.task(draft, number), reward_account(draft, number)
    assert spec is not None
    if not owed.credits or not owed.due:
        return
    for board in _contributors(draft, number):
        if reputations.is_quarantined(draft, context, board):
            continue
        owed, amount = _pay(draft, number, spec, owed, board)
        if amount:
            credit_accounts.credit(draft, board, amount)
    REWARD_ACCOUNTS.put(draft, owed, number)


def leave_out(draft: StateOverlay, number: int, board: DeviceId) -> None:
    """Forgets what a board contributed, since a rollback leaves it out of the model.

    What is below 0 stays.
    """
    spec, known = task_records.task(draft, number), EARNINGS.get(draft, number, board)
    assert spec is not None
    if known is None:
        return
    owed = reward_account(draft, number)
    owed = _put(draft, number, spec, owed, board, known.forgotten())
    REWARD_ACCOUNTS.put(draft, owed, number)


def use(
    draft: StateOverlay, context: BlockContext, envelope: Envelope, identity: Digest
) -> None:
    """Pays the contributors of a task for the uses of its model since the last reading.

    Raises:
      ProtocolError: NOT_AUTHORISED, UNKNOWN_TASK, POLICY_MISMATCH, if its uses have no
        price; STALE, if the meter does not rise, or nobody has contributed yet;
        REPLAYED, INSUFFICIENT_FUNDS or MALFORMED.
    """
    del identity
    body = USE.unpack(envelope.body)
    check_operator(draft, envelope)
    spec = task_records.task(draft, body.task)
    if spec is None:
        raise ProtocolError(f"no task {body.task}", Reason.UNKNOWN_TASK)
    policy = spec.rewards
    if policy.rule != RewardRule.CONTRIBUTION or not policy.use_price:
        detail = "the task's uses have no price, or it does not count contributions"
        raise ProtocolError(detail, Reason.POLICY_MISMATCH)
    operator = credit_accounts.count_envelope(draft, envelope)
    before = METERS.get(draft, body.task, operator) or 0
    if body.reading <= before:
        detail = f"the meter shows {body.reading}, it showed {before} before"
        raise ProtocolError(detail, Reason.STALE)
    amount = (body.reading - before) * policy.use_price
    # No account has more than the maximum, so that any larger amount is refused alike.
    credit_accounts.debit(draft, operator, min(amount, CREDITS_MAX + 1))
    # Only now, since it takes the longer the more boards contributed.
    boards, worths = _worths(draft, context, body.task, spec)
    if not any(worths):
        raise ProtocolError("nobody has contributed yet", Reason.STALE)
    for board, share in zip(boards, rewards.shares(amount, worths), strict=True):
        if share:
            credit_accounts.credit(draft, board, share)
    # Only with the payment: a reading that nobody was paid for counts again later.
    METERS.put(draft, body.reading, body.task, operator)


def _worths(
    draft: StateOverlay, context: BlockContext, number: int, spec: TaskSpec
) -> tuple[list[DeviceId], list[int]]:
    """Boards that contributed to a task, and their worths; 0 in quarantine."""
    boards, worths = [], []
    sigma_micro = noise_micro(spec.privacy, spec.codec)
    for board in _contributors(draft, number):
        barred = reputations.is_quarantined(draft, context, board)
        worth = earnings(draft, number, board).worth(sigma_micro)
        boards.append(board)
        worths.append(0 if barred else worth)
    return boards, worths


def _contributors(tree: StateReader, number: int) -> list[DeviceId]:
    """Boards that ever contributed to a task, in the order of their first updates."""
    boards = []
    for place in range(reward_account(tree, number).boards):
        found = CONTRIBUTORS.get(tree, number, place)
        assert found is not None, "contributors stand as long as their task"
        boards.append(DeviceId(found))
    return boards

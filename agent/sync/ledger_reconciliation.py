"""The board's ledger and the chain's record of it are compared before each training.

A home can be put back from an old copy, emptied, or run twice; its ledger then says
less than was paid. The chain says how much: each update states all that its board has
paid, and the highest such figure is proven to the board on request. What the record
has and the ledger lacks is added to the ledger, never the other way round: the budget
counts as spent, and every version up to the head of then as used. An update that was on
its way when the home was put back is in neither: one more release is counted for it.

A statement is believed by certificate and path. That it is not an old one follows from
whom it comes: at the start the board asks all coordinators, and waits for one more than
may lie, as long as one wait for a lease. After that whoever grants a lease states.
"""

from starling.agent.privacy.ledger import PrivacyLedger
from starling.agent.privacy.ledger_entries import (
    RATE_ORDER,
    RATES_MAX,
    ProvenReleases,
    ReleasePrice,
    rates_of,
)
from starling.agent.step.agent_step import AgentStep
from starling.agent.step.effects import AdvanceBootCount, Spend
from starling.agent.step.state import ProvenStatement, ProvenVersion
from starling.agent.sync.manifest_check import price
from starling.protocol.chain.board_statement import (
    STATEMENT,
    BoardRecord,
    StatementRequest,
    answers_needed,
)
from starling.protocol.dataclass_replace import evolve
from starling.protocol.errors import BudgetExceeded, Reason
from starling.protocol.ids import ChainId, Digest, TaskId, Version
from starling.protocol.learning.task import PrivacyPolicy
from starling.protocol.privacy.mechanisms import (
    GAUSSIAN,
    NONE,
    UNNOISED,
    stated_charge,
)
from starling.protocol.wire.envelope import Envelope
from starling.protocol.wire.message_bodies import Refused

BOOT_LEAP = 1 << 16
_PATIENCE = 2
"""Check-ins after which the statements that came have to do."""


def asks(step: AgentStep) -> StatementRequest:
    """Coordinators that the next check-in asks."""
    state = step.state
    told = evolve(state.told, check_ins=state.told.check_ins + 1)
    step.state = evolve(state, told=told)
    everybody = len(told.by) < answers_needed(state.trusted)
    return StatementRequest.EVERYBODY if everybody else StatementRequest.GRANTOR


def suffices(step: AgentStep, offer: ProvenVersion) -> bool:
    """True if the chain's statement is proven, and new enough to train."""
    told = step.state.told
    enough = len(told.by) >= answers_needed(step.state.trusted)
    waited = bool(told.by) and told.check_ins >= _PATIENCE
    return told.height >= offer.height and (enough or waited)


def hold(step: AgentStep, lease: Envelope) -> None:
    """Keeps a lease until enough is proven."""
    told = evolve(step.state.told, lease=lease)
    step.state = evolve(step.state, told=told)


def handle_statement(step: AgentStep, envelope: Envelope) -> None:
    """Compares what the chain knows of the board with its ledger.

    Raises:
      ProtocolError: If the statement is malformed or proves nothing.
    """
    statement = STATEMENT.unpack(envelope.body)
    state = step.state
    trusted, board, head = statement.check(
        state.trusted, step.settings.identity, step.settings.task
    )
    told = state.told
    asking = state.asking
    by = told.by
    # Only an answer to a check-in of this start counts towards freshness: the id of
    # that envelope cannot be in an older statement.
    if asking is not None and statement.asked == asking.envelope:
        by = by | {envelope.sender}
    height = max(told.height, statement.header.height)
    told = ProvenStatement(height, by, told.check_ins, told.lease)
    step.state = evolve(state, trusted=trusted, told=told)
    _compare(step, board, head)


def _compare(step: AgentStep, board: BoardRecord, head: Version) -> None:
    state, offer = step.state, step.state.offer
    if offer is None:
        return
    lineage = state.chain, step.settings.task
    found = missing(state.ledger, lineage, board, head, step.settings.windows)
    if found is None:
        return
    step.note(
        f"the ledger is behind the chain, which knows of {found.releases} releases and "
        f"{found.units} units more: this home was put back from an old copy, emptied "
        "or runs twice; they count as spent from now on",
        warns=True,
    )
    ledger, entry = state.ledger.admit(_one_more(step, found, offer.spec.privacy))
    step.state = evolve(state, ledger=ledger)
    step.emit(Spend(entry))
    # Whoever forgot releases forgot counters as well, and an update that is signed with
    # a used one is refused for good.
    _leap(step)
    price(step)


def _one_more(
    step: AgentStep, found: ProvenReleases, policy: PrivacyPolicy
) -> ProvenReleases:
    """Says what units of the task buy, and counts what may have been on its way.

    That is nothing where the cap has no room: earlier lives of the board kept it, too.
    """
    rates = set(found.rates)
    if policy.mechanism not in GAUSSIAN | UNNOISED:
        schedule = (policy.sampling_micro, policy.steps)
        each = stated_charge(policy)
        rates.add(ReleasePrice(policy.mechanism, policy.sigma_micro, *schedule, each))
    ordered = sorted(rates, key=RATE_ORDER)
    kept = tuple(ordered) if len(ordered) <= RATES_MAX else ()
    found = evolve(found, rates=kept)
    slot = found.chain, found.task, Version(found.below)
    try:
        charge = step.state.ledger.after(found).quote(
            slot, policy, step.settings.windows
        )
    except BudgetExceeded:
        return found
    return evolve(
        found,
        releases=found.releases + 1,
        units=found.units + charge.units,
        spare=charge.units,
        mechanisms=found.mechanisms | 1 << policy.mechanism,
    )


def missing(
    ledger: PrivacyLedger,
    lineage: tuple[ChainId, TaskId],
    board: BoardRecord,
    head: Version,
    windows: int,
) -> ProvenReleases | None:
    """Releases in a board's record that its ledger lacks.

    Args:
      ledger: Of the board.
      lineage: Chain and task that it takes part in.
      board: Its record on that chain.
      head: The task's head in the same state.
      windows: Records that one raw sample can stand in, as far as is known now.

    Returns:
      None if the ledger knows of everything.
    """
    chain, task = lineage
    # `paid` is the highest total that one life of the board stated; two homes that run
    # side by side each state less than all their charges together.
    units = max(board.paid, board.charge) - ledger.stated(chain)
    releases = board.updates - ledger.releases(chain)
    is_open = bool(board.mechanisms >> NONE & 1) and not ledger.exposed
    if units <= 0 and releases <= 0 and not is_open:
        return None
    kinds = board.mechanisms if is_open else board.mechanisms & ~(1 << NONE)
    return ProvenReleases(
        3,
        chain,
        task,
        # The head may have been trained from as well.
        head + 1,
        max(0, releases),
        max(0, units),
        0,
        max(windows, *(each.windows for each in ledger.paid), 1),
        kinds,
        rates_of(ledger.charges.values()),
    )


def handle_replayed(step: AgentStep, refused: Refused) -> None:
    """Counters leap ahead once coordinators know later ones than ours: a lost index.

    Once a start, since a coordinator may lie: there is room for many such leaps.
    """
    state = step.state
    said: tuple[Digest | None, ...] = (
        None if state.asking is None else state.asking.envelope,
        None if state.renewing is None else state.renewing.envelope,
        None if state.forfeit is None else state.forfeit.envelope,
        None if state.fetch is None else state.fetch.envelope,
    )
    if refused.reason == Reason.REPLAYED and refused.subject in said:
        _leap(step)


def _leap(step: AgentStep) -> None:
    if step.state.leap:
        return
    step.state = evolve(step.state, leap=BOOT_LEAP)
    # Durable before any envelope with such a counter, which later effects of this same
    # step may carry.
    step.emit(AdvanceBootCount(step.settings.boot + BOOT_LEAP))
    step.note("coordinators know later counters of ours: the count of starts leaps")

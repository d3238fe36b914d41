"""Before it trains a board compares its ledger with what the chain proves."""

from dataclasses import replace

import pytest

from starling.agent.privacy.ledger import PrivacyLedger
from starling.agent.privacy.ledger_entries import (
    ProvenReleases,
    ReleasePrice,
    read_entry,
)
from starling.agent.round.readiness import condition
from starling.agent.step import events as e
from starling.agent.step.state import ReadinessCondition
from starling.agent.sync.ledger_reconciliation import BOOT_LEAP, missing
from starling.protocol.chain.board_statement import (
    STATEMENT,
    BoardRecord,
    StatementRequest,
    answers_needed,
)
from starling.protocol.chain.genesis import Validator, ValidatorSet
from starling.protocol.crypto.keys import OpeningKey, SigningKey
from starling.protocol.errors import BudgetExceeded, ProofError, Reason, SignatureError
from starling.protocol.ids import H, TaskId, Version
from starling.protocol.learning.task import MICRO
from starling.protocol.privacy.gaussian_dp import CHARGE_MAX
from starling.protocol.privacy.mechanisms import (
    DEVICE_LAPLACE,
    NONE,
    RECORD_DPSGD,
    RECORD_GAUSSIAN,
    release_costs,
)
from starling.protocol.privacy.renyi_dp import COST_MAX
from starling.protocol.wire.envelope import ENVELOPE, MessageKind
from starling.protocol.wire.message_bodies import (
    CHECK_IN,
    CONTRIBUTION,
    FORFEIT,
    UPLOAD,
)
from tests.unit.agent.agent_harness import BoardHarness as Lone
from tests.unit.agent.agent_harness import (
    Disk,
    connected,
    fresh,
    names,
    until_spooled,
    until_training,
)
from tests.unit.agent.fake_coordinator import (
    BOARD,
    CAP,
    CHAIN,
    COORDINATOR,
    EACH_VERSION,
    PINNED,
    PRIVATE,
    RECORD,
    STRANGER,
    TASK_NUMBER,
    FakeCoordinator,
    lease,
    refused,
    statement,
)

LINEAGE = (CHAIN, TASK_NUMBER)
EMPTY = PrivacyLedger.load(CAP, [])
EACH = EMPTY.quote((*LINEAGE, Version(0)), PRIVATE).units


def record(releases: int, paid: int = 0) -> BoardRecord:
    """What the chain knows of a board after so many releases of the task."""
    units = releases * EACH
    return replace(
        RECORD,
        updates=releases,
        charge=units,
        paid=paid or units,
        mechanisms=1 << RECORD_GAUSSIAN,
    )


def asking(board: Lone) -> Lone:
    """A board whose check-in nobody has answered yet."""
    board.run(lambda: board.state.asking is not None)
    board.inbox.clear()
    return board


def show(
    board: Lone, found: BoardRecord, height: int = EACH_VERSION + 1, head: int = 0
) -> None:
    """A statement that answers the board's check-in."""
    assert board.state.asking is not None
    asked = board.state.asking.envelope
    board.step(e.DownArrived(statement(asked, head, height, found)))


def test_update_states_all_that_the_ledger_has_paid() -> None:
    board = until_spooled(connected(fresh()))
    _, content = board.disk.spool[0]

    body = CONTRIBUTION.unpack(UPLOAD.unpack(content).update.body)

    assert body.paid == body.charge == EACH


def test_lease_without_a_statement_starts_no_training_and_shows_why() -> None:
    board = asking(connected(fresh()))

    board.step(e.DownArrived(lease(0)))

    assert board.state.training is None
    assert condition(board.settings, board.state, 0.0) is ReadinessCondition.UNPROVEN
    show(board, RECORD)
    assert board.state.training is not None


def test_statement_older_than_the_manifest_starts_no_training() -> None:
    board = asking(connected(fresh()))

    show(board, RECORD, height=EACH_VERSION - 1)
    board.step(e.DownArrived(lease(0)))

    assert board.state.training is None


@pytest.mark.parametrize("lost", [1, 3])
def test_what_the_chain_proves_and_the_ledger_lacks_is_synced_before_all_else(
    lost: int,
) -> None:
    board = asking(connected(fresh()))

    assert board.state.asking is not None
    asked = board.state.asking.envelope
    shown = statement(asked, 0, EACH_VERSION + 1, record(lost))
    effects = board.step(e.DownArrived(shown))

    assert "Spend" in names(effects)
    ledger = PrivacyLedger.load(CAP, board.disk.journal)
    assert ledger == board.state.ledger
    # One more may have been on its way.
    assert ledger.stated(CHAIN) == (lost + 1) * EACH
    assert ledger.releases(CHAIN) == lost + 1
    assert board.state.training is None
    assert (
        condition(board.settings, board.state, 0.0) is ReadinessCondition.LEDGER_BEHIND
    )


def test_board_that_was_behind_forfeits_the_head_and_trains_from_the_next() -> None:
    board = asking(connected(fresh()))
    show(board, record(2))
    told = [ENVELOPE.unpack(p.payload) for p in board.log if hasattr(p, "payload")]
    (forfeit,) = [each for each in told if each.kind == MessageKind.FORFEIT]
    assert FORFEIT.unpack(forfeit.body).charge == EACH
    assert FORFEIT.unpack(forfeit.body).paid == 3 * EACH

    board.meadow.record = record(3)
    board.step(board.meadow.others())
    board.run(lambda: bool(board.meadow.updates))

    assert board.meadow.updates.keys() == {1}
    assert board.noised == [1]


def test_statement_again_or_older_changes_nothing() -> None:
    board = asking(connected(fresh()))
    show(board, record(2))
    before = board.state.ledger

    asked = H(b"whatever")
    board.step(e.DownArrived(statement(asked, 0, EACH_VERSION + 2, record(2))))
    board.step(e.DownArrived(statement(asked, 0, EACH_VERSION + 1, record(1))))

    assert board.state.ledger == before


def test_restored_ledger_passes_no_cap_however_often_it_is_put_back() -> None:
    spent = record(15)
    for _ in range(3):
        disk = Disk()
        board = asking(connected(Lone(disk, FakeCoordinator())))
        show(board, spent)
        board.step(e.DownArrived(lease(0)))
        assert board.state.training is None
        assert board.noised == []
        assert PrivacyLedger.load(CAP, disk.journal).epsilon() > 0


def test_budget_that_the_chain_shows_as_spent_is_said_to_be_spent() -> None:
    most = EMPTY.releases_left(*LINEAGE, PRIVATE)
    assert most
    board = asking(connected(fresh()))

    show(board, record(most))

    assert (
        condition(board.settings, board.state, 0.0) is ReadinessCondition.BUDGET_SPENT
    )
    assert board.state.ledger.releases(CHAIN) == most


def test_training_under_way_is_stopped_unpaid_when_the_ledger_is_behind() -> None:
    board = until_training(connected(fresh()))
    asked = H(b"another check-in")
    board.step(e.DownArrived(statement(asked, 0, EACH_VERSION + 9, record(4))))

    effects = board.step(e.TrainerReady())

    assert "StopTraining" in names(effects)
    assert board.noised == []


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (SignatureError, statement(H(b"x"), 0, 1001, record(5), STRANGER)),
        (ProofError, statement(H(b"x"), 0, 1001, record(5), task=TaskId(1))),
    ],
    ids=["not by a coordinator", "of another task"],
)
def test_statement_that_proves_nothing_is_not_counted(
    error: type[Exception], shown: bytes
) -> None:
    board = asking(connected(fresh()))

    board.step(e.DownArrived(shown))

    assert board.state.ledger.proven == ()
    assert board.state.told.height == 0


def test_record_that_is_larger_than_its_proof_allows_is_not_counted() -> None:
    board = asking(connected(fresh()))
    shown = ENVELOPE.unpack(statement(H(b"x"), 0, 1001, record(5)))
    body = STATEMENT.unpack(shown.body)
    forged = replace(body, record=replace(body.record, value=b"\x00"))

    with pytest.raises(ProofError):
        forged.check(board.state.trusted, BOARD.identity, TASK_NUMBER)
    with pytest.raises(ProofError):
        body.check(board.state.trusted, STRANGER.identity, TASK_NUMBER)


def test_board_asks_everybody_until_more_answered_than_may_lie() -> None:
    board = asking(connected(fresh()))
    asked = [
        CHECK_IN.unpack(ENVELOPE.unpack(effect.payload).body).asks
        for effect in board.log
        if hasattr(effect, "payload")
        and ENVELOPE.unpack(effect.payload).kind == MessageKind.CHECK_IN
    ]
    assert asked == [StatementRequest.EVERYBODY]

    show(board, RECORD)
    board.step(e.BrokerDisconnected())
    board.log.clear()
    asking(connected(board))

    (said,) = [
        CHECK_IN.unpack(ENVELOPE.unpack(effect.payload).body).asks
        for effect in board.log
        if hasattr(effect, "payload")
        and ENVELOPE.unpack(effect.payload).kind == MessageKind.CHECK_IN
    ]
    assert said == StatementRequest.GRANTOR


@pytest.mark.parametrize(("members", "needed"), [(1, 1), (3, 1), (4, 2), (7, 3)])
def test_answers_needed_are_one_more_than_may_lie(members: int, needed: int) -> None:
    keys = [SigningKey(bytes([at + 1]) * 32).public for at in range(members)]
    sealing = OpeningKey(bytes(32)).public
    found = ValidatorSet(tuple(Validator(key, sealing, "c") for key in sorted(keys)))

    assert answers_needed(replace(PINNED, validators=found)) == needed


def test_few_answers_do_after_the_board_has_waited_for_a_lease_once() -> None:
    board = asking(connected(fresh()))
    others = [SigningKey(bytes([at]) * 32) for at in (11, 12, 13)]
    sealing = OpeningKey(bytes(32)).public
    keys = sorted(each.public for each in (COORDINATOR, *others))
    everybody = ValidatorSet(tuple(Validator(key, sealing, "c") for key in keys))
    show(board, RECORD)
    trusted = replace(board.state.trusted, validators=everybody)
    board.state = replace(board.state, trusted=trusted)

    board.step(e.DownArrived(lease(0)))
    assert board.state.training is None

    told = replace(board.state.told, check_ins=2)
    board.state = replace(board.state, told=told)
    board.step(e.DownArrived(lease(0)))
    assert board.state.training is not None


def test_counters_that_coordinators_know_already_leap_once_a_start() -> None:
    board = asking(connected(fresh()))
    assert board.state.asking is not None

    board.step(e.DownArrived(refused(board.state.asking.envelope, Reason.REPLAYED)))
    assert board.disk.boot == board.settings.boot + BOOT_LEAP
    board.run(lambda: bool(board.meadow.updates))
    board.step(e.DownArrived(refused(H(b"x"), Reason.REPLAYED)))

    assert board.state.leap == BOOT_LEAP


def test_releases_that_cannot_be_priced_count_as_everything() -> None:
    laplace = replace(record(2), mechanisms=1 << DEVICE_LAPLACE)
    proven = missing(EMPTY, LINEAGE, laplace, Version(3), 1)

    assert proven is not None
    assert proven.costs[0] == COST_MAX
    ledger, _ = EMPTY.admit(proven)
    with pytest.raises(BudgetExceeded):
        ledger.quote((*LINEAGE, Version(4)), PRIVATE)


def test_releases_without_noise_that_the_ledger_lacks_leave_no_budget() -> None:
    opened = replace(record(2), mechanisms=1 << NONE | 1 << RECORD_GAUSSIAN)
    proven = missing(EMPTY, LINEAGE, opened, Version(3), 1)

    assert proven is not None
    assert EMPTY.admit(proven)[0].exposed


def test_units_of_a_known_mechanism_cost_what_so_many_releases_cost() -> None:
    rate = ReleasePrice(RECORD_DPSGD, 2 * MICRO, MICRO // 10, 4, 1000)
    proven = ProvenReleases(
        3, *LINEAGE, 9, 0, 4 * 1000 + 1, 0, 1, 1 << RECORD_DPSGD, (rate,)
    )

    each = release_costs(RECORD_DPSGD, 2 * MICRO, MICRO // 10, 4, 1)
    assert all(
        found >= min(COST_MAX, 5 * cost)
        for found, cost in zip(proven.costs, each, strict=True)
    )
    wide = proven.widened(2)
    assert all(
        most >= least for most, least in zip(wide.costs, proven.costs, strict=True)
    )


def test_windows_count_for_what_was_proven_too() -> None:
    proven = missing(EMPTY, LINEAGE, record(2), Version(3), 3)

    assert proven is not None
    assert proven.units == 2 * EACH
    assert proven.curve_units == 9 * 2 * EACH


def test_figure_beyond_all_bounds_is_bounded() -> None:
    proven = missing(EMPTY, LINEAGE, record(1, paid=CHARGE_MAX), Version(3), 1024)

    assert proven is not None
    ledger, entry = EMPTY.admit(proven)
    assert ledger.stated(CHAIN) == CHARGE_MAX
    assert read_entry(entry) == proven
    assert ledger.epsilon() == float("inf")

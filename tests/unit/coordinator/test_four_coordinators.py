"""Four coordinators: what they agree on, who is missed, and who is named."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from msgspec.structs import astuple

from starling.broker.link_events import MqttMessage
from starling.coordinator.aggregation.strategy import PackedModel
from starling.coordinator.availability import vector_exchange
from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.gossip_messages import FRAME, FrameSubject
from starling.coordinator.chain.governance import slashing
from starling.coordinator.chain.node import node
from starling.coordinator.chain.state import board_records, validator_records
from starling.coordinator.chain.state.board_records import ConvictionRecord
from starling.coordinator.commit import transaction_submission
from starling.coordinator.downloads import request_scheduler
from starling.coordinator.handlers import chain_messages, peer_messages
from starling.coordinator.membership import responder_selection
from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.coordinator.step.effects import (
    EvaluateVersion,
    RecordRefusal,
    SendAnswer,
    SendFrame,
    SendMessage,
)
from starling.coordinator.step.events import (
    ClockTicked,
    PeerFrameArrived,
    UploadsQueued,
)
from starling.coordinator.wire import peer_quota
from starling.protocol.chain.evidence import Offence
from starling.protocol.chain.light_client import MANIFEST
from starling.protocol.dataclass_replace import evolve
from starling.protocol.ids import DeviceId, H, TaskId
from starling.protocol.wire.envelope import ENVELOPE, MessageKind, sign
from tests.unit.coordinator.fixtures.four_coordinators import (
    COUNT,
    KEYS,
    TOPICS,
    FleetBoard,
    FourCoordinators,
    voters,
)
from tests.unit.coordinator.fixtures.peer_frames import request_frame, requested
from tests.unit.coordinator.fixtures.single_coordinator import MODEL
from tests.unit.coordinator.fixtures.single_validator import message_of

TASK = TaskId(0)


def turn_of(council: FourCoordinators, index: int) -> CoordinatorStep:
    member = council.members[index]
    return CoordinatorStep(member.settings, member.state, council.now_s, 0)


def subject_of(message: MqttMessage) -> int:
    return FRAME.unpack(message.payload).subject


def updates(council: FourCoordinators, board: FleetBoard) -> list[int]:
    """How many of a board's updates stand in each one's chain."""
    found = [
        board_records.board(m.state.ledger.tree, board.device) for m in council.members
    ]
    return [0 if each is None else each.updates for each in found]


def test_council_transaction_at_one_enters_everybody_s_chain(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    heights = council.heights()
    assert heights[0] >= len(boards) + 1
    assert len(set(heights)) == 1
    tips = {m.state.ledger.tip.header for m in council.members}
    assert len(tips) == 1


def test_council_bundle_and_model_reach_those_who_lack_them(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    for member in council.members:
        assert member.store.blob(member.state.tasks[TASK].spec.bundle) == b"bundle"
        assert all(member.store.blob(d) for d in astuple(MODEL.digests()))
        assert not member.state.wanted


def test_council_two_updates_make_a_version_at_all_four(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    for board in boards[:2]:
        council.contribute(board, 0)
    council.run(1.0)
    assert council.heads() == [1, 1, 1, 1]
    models = {m.state.tasks[TASK].model for m in council.members}
    assert len(models) == 1


def test_council_one_down_three_go_on_and_it_catches_up(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    council.crash(1)
    for board in boards[:2]:
        council.contribute(board, 0, to={0, 2, 3})
    council.run(8.0)
    assert [council.heads()[i] for i in (0, 2, 3)] == [1, 1, 1]

    council.restart(1)
    council.run(5.0)

    assert council.heads() == [1, 1, 1, 1]
    assert len(set(council.heights())) == 1
    late = council.members[1].state.tasks[TASK]
    assert late.model == council.members[0].state.tasks[TASK].model


def test_council_caught_up_member_computes_the_next_version(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    council.crash(1)
    for board in boards[:2]:
        council.contribute(board, 0, to={0, 2, 3})
    council.run(8.0)
    council.restart(1)
    council.run(5.0)
    for board in boards[:2]:
        council.contribute(board, 1)
    council.run(6.0)

    assert council.heads() == [2, 2, 2, 2]
    assert council.members[1].store.model(0, 2) is not None


def test_council_two_down_nothing_is_final(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    council.crash(1, 2)
    before = council.heights()[0]
    for board in boards[:2]:
        council.contribute(board, 0, to={0, 3})
    council.run(5.0)
    assert council.heights()[0] == before
    assert council.heads()[0] == 0


def test_council_vector_at_one_only_is_got_before_the_prevote(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    for board in boards[:2]:
        council.contribute(board, 0, to={2})
    council.run(6.0)
    assert council.heads() == [1, 1, 1, 1]
    asked = [e for e in council.members[0].effects if isinstance(e, SendFrame)]
    assert any(e.subject is FrameSubject.REQUEST for e in asked)


def test_council_without_the_vector_nobody_else_prevotes(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    council.cut = lambda source, target, m: subject_of(m) == FrameSubject.UPLOAD
    council.contribute(boards[0], 0, to={2})
    council.run(4.0)
    assert updates(council, boards[0]) == [0] * COUNT

    council.cut = lambda source, target, m: False
    council.run(12.0)
    assert updates(council, boards[0]) == [1] * COUNT


def lie(model: PackedModel) -> PackedModel:
    return replace(model, theta=bytes([model.theta[0] ^ 1]) + model.theta[1:])


def test_council_liar_is_outvoted_named_and_goes_on(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    council.members[3].falsify = lie
    versions = 0
    public = KEYS[3].public

    def outvoted() -> set[int]:
        found = [
            validator_records.dissent(m.state.ledger.tree, TASK, public)
            for m in council.members
        ]
        return {one.count if one else 0 for one in found}

    while outvoted() == {0} and versions < 6:
        for board in boards[:2]:
            council.contribute(board, versions)
        council.run(2.0)
        versions += 1
    assert council.heads() == [versions] * 4
    assert outvoted() == {1}
    assert all(
        board_records.fault(m.state.ledger.tree, public) is None
        for m in council.members
    )
    assert any("member 3 attested another" in r for r in council.members[0].reports())
    models = {m.state.tasks[TASK].model for m in council.members}
    assert len(models) == 1


def slow_versions(
    council: FourCoordinators, boards: list[FleetBoard], count: int
) -> None:
    """Versions of which member 3 has computed what it could, and told nobody."""
    council.members[3].slow = True
    for version in range(count):
        for board in boards[:2]:
            council.contribute(board, version)
        council.run(4.0)
    assert council.heads()[:3] == [count] * 3


@pytest.mark.parametrize("versions", [1, 2], ids=["just-final", "overtaken"])
def test_council_liar_slower_than_the_quorum_is_named(
    council: FourCoordinators, boards: list[FleetBoard], versions: int
) -> None:
    liar = council.members[3]
    liar.falsify = lie
    slow_versions(council, boards, versions)
    liar.hand_over()
    council.run(2.0)

    for member in council.members:
        found = validator_records.dissent(
            member.state.ledger.tree, TASK, KEYS[3].public
        )
        assert found is not None
        assert found.version == 1
    assert sum("not as we got it" in text for text in liar.reports()) == 1
    assert council.heads() == [versions] * COUNT
    assert len({m.state.tasks[TASK].model for m in council.members}) == 1


@pytest.mark.parametrize("versions", [1, 2], ids=["just-final", "overtaken"])
def test_council_honest_member_slower_than_the_quorum_attests_nothing(
    council: FourCoordinators, boards: list[FleetBoard], versions: int
) -> None:
    slow_versions(council, boards, versions)
    heights = council.heights()
    council.members[3].hand_over()
    council.run(2.0)

    assert council.heights() == heights
    assert council.heads() == [versions] * COUNT
    assert not any("as we got it" in text for text in council.members[3].reports())


def test_council_member_behind_computes_version_by_version_until_it_is_level(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    slow_versions(council, boards, 3)
    council.cut = lambda source, target, m: (
        subject_of(m)
        in {
            FrameSubject.MODEL,
            FrameSubject.WHOLE,
        }
    )
    council.members[3].hand_over()
    council.run(2.0)

    assert council.heads() == [3] * COUNT
    final = [
        e.version for e in council.members[3].effects if isinstance(e, EvaluateVersion)
    ]
    assert final == [0, 1, 2, 3]


def test_council_split_job_ends_when_one_that_was_wrong_is_mended(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    for member in council.members[2:]:
        member.falsify = lie
    for board in boards[:2]:
        council.contribute(board, 0)
    council.run(3.0)
    assert council.heads() == [0] * COUNT

    council.members[3].falsify = lambda model: model
    council.crash(3)
    council.restart(3)
    council.run(8.0)

    assert council.heads() == [1] * COUNT
    assert len({m.state.tasks[TASK].model for m in council.members}) == 1
    assert named(council) == {2, 3}


def test_council_that_was_mended_before_the_job_split_computes_again(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    for member in council.members[2:]:
        member.falsify = lie
    council.crash(2)
    for board in boards[:2]:
        council.contribute(board, 0, to={0, 1, 3})
    council.run(3.0)
    council.members[3].falsify = lambda model: model
    council.restart(3)
    council.run(5.0)
    # Two are right, one was wrong, and what the fourth says may still decide.
    assert "EQUIVOCATION" in {r for m in council.members for r in m.refusals()}
    assert council.heads() == [0] * COUNT

    council.restart(2)
    council.run(8.0)

    assert council.heads() == [1] * COUNT
    assert named(council) == {2, 3}


def test_council_of_which_two_were_wrong_once_needs_nobody(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    for member in council.members[2:]:
        member.falsify = once(member.falsify)
    for board in boards[:2]:
        council.contribute(board, 0)
    council.run(3.0)
    assert council.heads() == [1] * COUNT
    assert named(council) == {2, 3}


def once(
    afterwards: Callable[[PackedModel], PackedModel],
) -> Callable[[PackedModel], PackedModel]:
    """Falsifies one model."""
    rest = iter([lie])
    return lambda model: next(rest, afterwards)(model)


def named(council: FourCoordinators) -> set[int]:
    """Whom all chains name as outvoted, each for one version."""
    trees = [member.state.ledger.tree for member in council.members]
    found = {
        tuple(validator_records.dissent(tree, TASK, key.public) for key in KEYS)
        for tree in trees
    }
    (each,) = found
    assert {one.count for one in each if one} == {1}
    return {index for index, one in enumerate(each) if one}


def test_version_is_announced_by_as_many_as_contain_somebody_alive(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    for board in boards[:2]:
        council.contribute(board, 0)
    council.run(1.0)

    assert council.heads() == [1] * COUNT
    announced = [
        sum(
            isinstance(effect, SendMessage)
            and effect.topic == TOPICS.manifest(TASK)
            and MANIFEST.unpack(effect.payload).version == 1
            for effect in member.effects
        )
        for member in council.members
    ]
    assert sum(count > 0 for count in announced) == 2


def test_check_in_is_answered_by_one_coordinator(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    assert [len(council.check_in(board, 0)) for board in boards] == [1, 1, 1, 1]


def test_check_in_at_one_broker_is_answered_by_who_is_there(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    council.brokers = [0, 0, 1, 1]
    council.run(8.0)
    there = {KEYS[index].public for index in (2, 3)}
    for board in boards:
        (lease,) = council.check_in(board, 0, to={2, 3})
        assert lease.sender in there


def test_check_in_first_in_order_silent_next_one_answers(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    board = boards[0]
    (lease,) = council.check_in(board, 0)
    first = [key.public for key in KEYS].index(lease.sender)
    council.crash(first)

    leases = council.check_in(board, 0)

    assert len(leases) == 1
    assert leases[0].sender != lease.sender


def test_leases_of_who_fell_silent_are_shared_and_given_back(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    def places() -> list[int]:
        return [m.state.tasks[TASK].leases.places for m in council.members if m.up]

    leases = council.task.aggregation.leases
    assert places() == [-(-leases // COUNT)] * COUNT
    council.crash(1)
    assert places() == [-(-leases // (COUNT - 1))] * (COUNT - 1)

    council.restart(1)
    council.run(3.0)

    assert places() == [-(-leases // COUNT)] * COUNT


def test_check_in_for_a_newer_version_frees_the_places_that_others_kept(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    board = boards[0]
    (lease,) = council.check_in(board, 0)
    first = [key.public for key in KEYS].index(lease.sender)
    council.crash(first)
    (lease,) = council.check_in(board, 0)
    other = [key.public for key in KEYS].index(lease.sender)
    council.restart(first)
    council.run(4.0)
    for each in boards[1:3]:
        council.contribute(each, 0)
    council.run(2.0)
    kept = council.members[other].state.tasks[TASK].leases.granted
    assert kept.get(board.device) is not None

    (lease,) = council.check_in(board, 1)

    assert lease.sender == KEYS[first].public
    kept = council.members[other].state.tasks[TASK].leases.granted
    assert kept.get(board.device) is None


def test_check_in_repeated_more_coordinators_answer(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    answers = [len(council.check_in(boards[0], 0)) for _ in range(9)]
    assert answers[0] == 1
    assert answers[-1] > 1


def test_lease_of_another_coordinator_is_good_everywhere(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    (lease,) = council.check_in(boards[0], 0)
    council.down.clear()
    council.send(boards[0], boards[0].upload(lease))

    assert [member.state.held.size for member in council.members] == [1] * COUNT


def test_update_is_acknowledged_by_one_and_if_sent_again_by_all(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    (lease,) = council.check_in(boards[0], 0)
    upload = boards[0].upload(lease)
    for expected in (1, COUNT):
        council.down.clear()
        council.send(boards[0], upload)
        receipts = [e for _, e in council.down if e.kind == MessageKind.ACCEPTED]
        assert len(receipts) == expected


def test_update_where_brokers_are_several_is_told_and_answered_by_all_who_heard_it(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    for member in council.members:
        member.settings = replace(member.settings, shared=False)
    (lease,) = council.check_in(boards[0], 0)
    told: list[int] = []

    def overhear(source: int, target: int, message: MqttMessage) -> bool:
        told.append(subject_of(message))
        return False

    council.cut = overhear
    council.down.clear()
    council.send(boards[0], boards[0].upload(lease), {1, 3})

    answers = {e.sender for _, e in council.down if e.kind == MessageKind.ACCEPTED}
    assert answers == {KEYS[1].public, KEYS[3].public}
    assert FrameSubject.TRANSACTION in told
    council.run(2.0)
    assert updates(council, boards[0]) == [1] * COUNT


def wants(council: FourCoordinators, index: int) -> int:
    effects = council.members[index].effects
    return sum(
        isinstance(e, SendFrame) and e.subject is FrameSubject.REQUEST for e in effects
    )


def test_upload_later_than_its_proposal_is_not_asked_for(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    (lease,) = council.check_in(boards[0], 0)
    upload = boards[0].upload(lease)
    before = wants(council, 3)
    council.cut = lambda source, target, m: subject_of(m) == FrameSubject.VOTE
    council.send(boards[0], upload, {0, 1, 2})
    council.run(0.1)
    assert council.members[3].state.wanted

    council.send(boards[0], upload, {3})
    council.cut = lambda source, target, m: False
    council.run(3.0)

    assert wants(council, 3) == before
    assert not council.members[3].state.wanted
    assert updates(council, boards[0]) == [1] * COUNT


@pytest.mark.parametrize("number", range(4))
def test_upload_later_than_its_block_is_kept_and_answered_at_most_by_the_first(
    council: FourCoordinators, boards: list[FleetBoard], number: int
) -> None:
    board = boards[number]
    (lease,) = council.check_in(board, 0)
    upload = board.upload(lease)
    council.cut = lambda source, target, m: subject_of(m) == FrameSubject.UPLOAD
    council.send(board, upload, {0, 1, 2})
    council.run(2.0)
    assert updates(council, board) == [1] * COUNT
    identity = upload.update.identity(council.members[3].settings.gate.chain_id)
    assert council.members[3].store.upload(identity) is None

    council.down.clear()
    council.send(board, upload, {3})

    assert council.members[3].store.upload(identity) is not None
    first = responder_selection.responder_rank(turn_of(council, 3), board.device) == 0
    answers = [envelope.kind for _, envelope in council.down]
    assert answers == ([MessageKind.ACCEPTED] if first else [])
    council.send(board, upload, {3})
    assert MessageKind.FINAL in [envelope.kind for _, envelope in council.down]


def test_update_that_boards_sent_to_all_is_told_to_nobody(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    (lease,) = council.check_in(boards[0], 0)
    height = council.heights()[0]
    told: list[int] = []

    def overhear(source: int, target: int, message: MqttMessage) -> bool:
        told.append(subject_of(message))
        return False

    council.cut = overhear
    council.send(boards[0], boards[0].upload(lease))
    council.run(2.0)

    assert council.heights() == [height + 1] * COUNT
    assert FrameSubject.PROPOSAL in told
    assert FrameSubject.TRANSACTION not in told


def faults(
    council: FourCoordinators, board: FleetBoard
) -> list[ConvictionRecord | None]:
    return [
        board_records.fault(m.state.ledger.tree, board.key.public)
        for m in council.members
    ]


@pytest.mark.parametrize("sent", [(0, 1, 2, 3), (0, 0, 0, 1)], ids=["four", "two"])
def test_board_with_another_update_for_each_is_convicted_by_all(
    council: FourCoordinators, boards: list[FleetBoard], sent: tuple[int, ...]
) -> None:
    (lease,) = council.check_in(boards[0], 0)
    uploads = [boards[0].upload(lease) for _ in range(COUNT)]
    for member, number in enumerate(sent):
        council.send(boards[0], uploads[number], {member})
    council.run(3.0)

    found = set(faults(council, boards[0]))

    (fault,) = found
    assert fault is not None
    assert fault.offence == Offence.DEVICE_DOUBLE
    assert len(set(council.heights())) == 1


def test_board_with_a_second_update_when_the_first_is_in_the_chain_is_convicted(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    (lease,) = council.check_in(boards[0], 0)
    council.send(boards[0], boards[0].upload(lease))
    council.run(2.0)

    council.send(boards[0], boards[0].upload(lease), {2})
    council.run(2.0)

    assert all(faults(council, boards[0]))


def test_board_with_another_update_for_each_in_a_partition_is_convicted(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    (lease,) = council.check_in(boards[0], 0)
    council.cut = lambda source, target, m: 3 in (source, target)
    council.send(boards[0], boards[0].upload(lease), {0, 1, 2})
    council.send(boards[0], boards[0].upload(lease), {3})
    council.run(3.0)
    assert faults(council, boards[0]) == [None] * COUNT

    council.cut = lambda source, target, m: False
    council.run(5.0)

    assert all(faults(council, boards[0]))


def test_coordinator_that_restarts_accuses_again(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    (lease,) = council.check_in(boards[0], 0)
    council.crash(0, 1, 2)
    for _ in range(2):
        council.send(boards[0], boards[0].upload(lease), {3})
    council.crash(3)

    for index in range(COUNT):
        council.restart(index)
    council.run(5.0)

    assert all(faults(council, boards[0]))


def test_coordinator_that_restarts_drops_evidence_that_is_too_old(
    council: FourCoordinators, boards: list[FleetBoard], monkeypatch: pytest.MonkeyPatch
) -> None:
    (lease,) = council.check_in(boards[0], 0)
    council.crash(0, 1, 2)
    for _ in range(2):
        council.send(boards[0], boards[0].upload(lease), {3})
    council.crash(3)
    assert len(council.members[3].store.evidence()) == 1
    monkeypatch.setattr(slashing, "AGE_VERSIONS_MAX", -1)

    for index in range(COUNT):
        council.restart(index)
    council.run(5.0)

    assert council.members[3].store.evidence() == ()
    assert faults(council, boards[0]) == [None] * COUNT
    assert not any(m.state.ledger.mempool.size for m in council.members)


def test_contradiction_of_a_base_that_is_too_old_is_not_kept(
    council: FourCoordinators, boards: list[FleetBoard], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slashing, "AGE_VERSIONS_MAX", -1)
    (lease,) = council.check_in(boards[0], 0)
    for _ in range(2):
        council.send(boards[0], boards[0].upload(lease))
    council.run(2.0)
    assert [member.store.evidence() for member in council.members] == [()] * COUNT
    assert faults(council, boards[0]) == [None] * COUNT


def test_board_convicted_once_is_not_accused_again(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    (lease,) = council.check_in(boards[0], 0)
    for _ in range(3):
        council.send(boards[0], boards[0].upload(lease))
        council.run(2.0)

    kept = [len(member.store.evidence()) for member in council.members]

    assert kept == [1] * COUNT


def test_duty_ranks_are_an_order_of_all(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    ranks = {
        responder_selection.responder_rank(turn_of(council, i), b"something")
        for i in range(4)
    }
    assert ranks == {0, 1, 2, 3}


def test_want_rotates_over_the_others_and_ends(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    turn = turn_of(council, 0)
    request_scheduler.request_blob(
        turn, request_scheduler.blob_keys([MODEL.digests().theta])
    )
    asked = []
    for _ in range(request_scheduler.ATTEMPTS_MAX + 1):
        turn.now_s += request_scheduler.RETRY_S_MAX
        turn.effects.clear()
        request_scheduler.send_due_requests(turn)
        asked += [
            requested(e.content).asked for e in turn.effects if isinstance(e, SendFrame)
        ]
    assert set(asked) == {key.identity for key in KEYS[1:]}
    assert len(asked) == request_scheduler.ATTEMPTS_MAX
    assert not turn.state.wanted


def test_vector_is_asked_for_later_while_uploads_wait(
    council: FourCoordinators,
) -> None:
    member = council.members[0]
    turn = turn_of(council, 0)
    vector_exchange.request_later(turn, [H(b"update")])
    start_s, asked_s = turn.now_s, []
    for waits in (False, True):
        member.state = replace(turn.result()[0], uploads_wait=False)
        member.step(UploadsQueued(waits), start_s)
        for tenth in range(40):
            effects = member.step(ClockTicked(), start_s + tenth / 10)
            if any(isinstance(each, SendFrame) for each in effects):
                asked_s.append(tenth / 10)
                break
    assert asked_s == [vector_exchange.UPLOAD_COMES_S, pytest.approx(1.2)]


def test_what_waits_is_told_again_by_whoever_told_of_it_first(
    council: FourCoordinators,
) -> None:
    turn = turn_of(council, 0)
    turn.state = evolve(turn.state, connected=True)
    chain_id = turn.settings.gate.chain_id
    own, told = (
        sign(KEYS[index], chain_id, MessageKind.ATTEST, 1, b"something")
        for index in (0, 1)
    )
    transaction_submission.advance(turn, node.TransactionSubmitted(own))
    message = gossip_messages.frame(FrameSubject.TRANSACTION, ENVELOPE.pack(told))
    transaction_submission.advance(turn, message_of(message, KEYS[1].identity))
    turn.effects.clear()
    for _ in range(2):
        turn.now_s += chain_messages.REPEAT_EVERY_S
        chain_messages.repeat_waiting_transactions(turn)
    again = [
        gossip_messages.FRAME.unpack(each.payload).content
        for each in turn.effects
        if isinstance(each, node.SendGossip)
    ]
    assert turn.state.ledger.mempool.size == 2
    assert again == [ENVELOPE.pack(own)]


def test_want_for_another_is_not_answered(council: FourCoordinators) -> None:
    frame = request_frame(KEYS[0], KEYS[2].identity, FrameSubject.WHOLE, b"x" * 32)
    event = PeerFrameArrived(KEYS[0].identity, frame)
    gives = [
        [e for e in member.step(event, council.now_s) if isinstance(e, SendAnswer)]
        for member in council.members
    ]
    assert [len(given) for given in gives] == [0, 0, 1, 0]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "MALFORMED"),
        (b"\xff" * 100, "MALFORMED"),
        (FRAME.pack(gossip_messages.Frame(2, 77, b"")), "UNKNOWN_KIND"),
        (gossip_messages.frame(FrameSubject.VOTE, b"x"), "MALFORMED"),
        (gossip_messages.frame(FrameSubject.CHUNK, b"x"), "MALFORMED"),
        (gossip_messages.frame(FrameSubject.REQUEST, b"x"), "MALFORMED"),
        (gossip_messages.frame(FrameSubject.UPLOAD, b"x"), "MALFORMED"),
        (gossip_messages.frame(FrameSubject.MODEL, b"x"), "MALFORMED"),
    ],
    ids=["empty", "noise", "subject", "vote", "chunk", "request", "upload", "model"],
)
def test_gossip_of_bad_bytes_is_counted(
    council: FourCoordinators, payload: bytes, reason: str
) -> None:
    member = council.members[1]
    before = member.state.ledger
    member.effects.clear()
    member.step(PeerFrameArrived(KEYS[0].identity, payload), council.now_s)
    assert member.refusals() == [reason]
    assert [e.peer for e in member.effects if isinstance(e, RecordRefusal)] == [
        KEYS[0].identity
    ]
    assert member.state.ledger is before


def test_gossip_of_a_stranger_is_refused(council: FourCoordinators) -> None:
    member = council.members[1]
    member.effects.clear()
    stranger = DeviceId(bytes(16))
    member.step(PeerFrameArrived(stranger, b"anything"), council.now_s)
    assert member.refusals() == ["NOT_AUTHORISED"]
    assert set(member.state.peers) <= {KEYS[at].identity for at in (0, 2, 3)}


def test_gossip_beyond_the_allowance_is_dropped(
    council: FourCoordinators, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        peer_quota, "BYTES_BURST", 1.5 * peer_messages.MESSAGE_COST_MIN_BYTES
    )
    member = council.members[1]
    member.effects.clear()
    council.now_s += 10.0
    frame = gossip_messages.frame(FrameSubject.WHOLE, bytes(80))
    for _ in range(2):
        member.step(PeerFrameArrived(KEYS[0].identity, frame), council.now_s)
    assert member.refusals() == ["BUSY"]


def test_gossip_unasked_whole_is_not_kept(council: FourCoordinators) -> None:
    member = council.members[1]
    frame = gossip_messages.frame(FrameSubject.WHOLE, b"unasked")
    effects = member.step(PeerFrameArrived(KEYS[0].identity, frame), council.now_s)
    assert effects == ()


def test_lost_gossip_of_a_transaction_is_made_up_for(council: FourCoordinators) -> None:
    lost = FrameSubject.TRANSACTION
    council.cut = lambda source, target, m: subject_of(m) == lost
    council.open(voters(1))
    council.cut = lambda source, target, m: False
    council.run(4.0)
    sizes = [m.state.ledger.mempool.size for m in council.members]
    assert sizes == [0, 0, 0, 0]
    assert council.heads() == [0, 0, 0, 0]


def test_council_what_nobody_gave_for_long_is_asked_for_again(
    council: FourCoordinators, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_scheduler, "ATTEMPTS_MAX", 3)
    council.cut = lambda source, target, m: subject_of(m) == FrameSubject.WHOLE
    council.open(voters(1))
    council.run(6.0)
    assert not council.members[1].state.wanted

    council.cut = lambda source, target, m: False
    council.run(25.0)

    theta = MODEL.digests().theta
    assert all(member.store.blob(theta) is not None for member in council.members)


def test_council_sought_version_that_others_let_go_is_given_up(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    council.crash(1)
    for board in boards[:2]:
        council.contribute(board, 0, to={0, 2, 3})
    council.run(8.0)
    first = council.members[0].store.model(TASK, 1)
    assert first is not None

    def let_go(source: int, target: int, message: MqttMessage) -> bool:
        frame = FRAME.unpack(message.payload)
        whole = frame.subject == FrameSubject.WHOLE
        return frame.subject == FrameSubject.UPLOAD or (
            whole and H(frame.content) in {first.theta, first.average}
        )

    council.cut = let_go
    council.restart(1)
    council.run(1.0)
    assert council.members[1].state.tasks[TASK].sought == 1
    for board in boards[:2]:
        council.contribute(board, 1, to={0, 2, 3})
    council.run(8.0)

    assert council.heads() == [2, 2, 2, 2]


def test_council_overtaken_version_is_given_up_for_the_newest(
    council: FourCoordinators, boards: list[FleetBoard], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_scheduler, "ATTEMPTS_MAX", 3)
    council.crash(1)
    for board in boards[:2]:
        council.contribute(board, 0, to={0, 2, 3})
    council.run(8.0)
    council.cut = lambda source, target, m: subject_of(m) == FrameSubject.WHOLE
    council.restart(1)
    council.run(3.0)
    for board in boards[:2]:
        council.contribute(board, 1)
    council.run(8.0)
    assert council.heads() == [2, 0, 2, 2]

    council.cut = lambda source, target, m: False
    council.run(40.0)

    assert council.heads() == [2, 2, 2, 2]

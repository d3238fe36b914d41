"""What is asked for at once is little, and those who name it take turns."""

from dataclasses import replace

from starling.coordinator.chain.gossip_messages import FrameSubject
from starling.coordinator.downloads import request_scheduler
from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.coordinator.step.effects import SendFrame
from starling.coordinator.step.state import OWN, PieceDownload
from starling.coordinator.wire.frames import PeerRequest
from starling.coordinator.wire.size_limits import answer_bytes_max
from starling.protocol.ids import Digest, H
from starling.protocol.wire.chunks import ChunkAssembly
from tests.unit.coordinator.fixtures.council_genesis import KEYS
from tests.unit.coordinator.fixtures.fleet_board import FleetBoard
from tests.unit.coordinator.fixtures.four_coordinators import FourCoordinators
from tests.unit.coordinator.fixtures.peer_frames import requested

LIAR, HONEST = KEYS[3].identity, KEYS[2].identity
DIMENSION = 20_000


def step_of(council: FourCoordinators) -> CoordinatorStep:
    """A step of member 0, whose task has updates of 80 kB."""
    member = council.members[0]
    step = CoordinatorStep(member.settings, member.state, council.now_s, 0)
    for task in list(step.state.tasks.values()):
        step.put_task(replace(task, spec=replace(task.spec, dimension=DIMENSION)))
    return step


def asked(step: CoordinatorStep) -> list[PeerRequest]:
    """What the step asks for now."""
    step.effects.clear()
    request_scheduler.send_due_requests(step)
    tells = [each for each in step.effects if isinstance(each, SendFrame)]
    return [requested(each.content) for each in tells]


def named(source: int, count: int) -> list[bytes]:
    return request_scheduler.uploads(
        H(bytes([source]), n.to_bytes(4)) for n in range(count)
    )


def test_answers_on_their_way_are_few_however_much_is_wanted(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    step = step_of(council)
    specs = [task.spec for task in step.state.tasks.values()]
    each = answer_bytes_max(FrameSubject.UPLOAD, specs)
    request_scheduler.request_blob(step, named(0, 500))
    once = sum(len(want.keys) for want in asked(step))
    assert 1 < once <= request_scheduler.ASKED_BYTES_MAX // each
    step.now_s += request_scheduler.LOOK_S
    assert sum(len(want.keys) for want in asked(step)) <= 1
    request_scheduler.forget(
        step, [key for key, one in step.state.wanted.items() if one.attempt]
    )
    step.now_s += request_scheduler.LOOK_S
    assert step.state.ask_at_s <= step.now_s
    assert sum(len(want.keys) for want in asked(step)) == once


def test_all_that_is_wanted_is_asked_for_in_the_end(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    step = step_of(council)
    keys = set(named(0, 300))
    request_scheduler.request_blob(step, sorted(keys))
    seen: set[bytes] = set()
    for _ in range(400):
        for want in asked(step):
            seen |= set(request_scheduler.uploads(want.keys))  # type: ignore[arg-type]  # ids
        step.now_s = max(step.state.ask_at_s, step.now_s + 0.01)
    assert seen == keys


def test_what_a_liar_names_does_not_hold_up_the_rest(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    step = step_of(council)
    request_scheduler.request_blob(step, named(3, 2000), source=LIAR)
    request_scheduler.request_blob(step, named(2, 3), source=HONEST)
    request_scheduler.request_blob(step, named(0, 3), source=OWN)
    keys = {key for want in asked(step) for key in request_scheduler.uploads(want.keys)}  # type: ignore[arg-type]  # ids
    assert set(named(2, 3)) | set(named(0, 3)) <= keys


def test_who_names_something_is_asked_before_those_who_do_not(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    del boards
    for number in range(12):
        step = step_of(council)
        (key,) = named(number, 1)
        request_scheduler.request_blob(step, [key], first=LIAR, source=LIAR)
        request_scheduler.request_blob(step, [key], source=HONEST)
        asked_in_turn = []
        for _ in range(2):
            asked_in_turn += [want.asked for want in asked(step)]
            step.now_s = step.state.ask_at_s
        assert asked_in_turn == [LIAR, HONEST]


def test_what_a_liar_names_anew_all_the_time_does_not_hold_up_the_rest(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    step = step_of(council)
    liar, honest = sorted((LIAR, HONEST))
    seen: set[bytes] = set()
    for number in range(60):
        # Of small names, so that an order by name would have them first.
        junk = [
            Digest(bytes(2) + H(number.to_bytes(), n.to_bytes())[2:]) for n in range(20)
        ]
        request_scheduler.request_blob(
            step, request_scheduler.uploads(junk), source=liar
        )
        if number == 10:
            request_scheduler.request_blob(step, named(2, 3), source=honest)
            # The liar names the same, to have it wait among its own.
            request_scheduler.request_blob(step, named(2, 3), source=liar)
        for want in asked(step):
            seen |= set(request_scheduler.uploads(want.keys))  # type: ignore[arg-type]  # ids
        if number == 14:
            assert set(named(2, 3)) <= seen
        step.now_s += request_scheduler.LOOK_S


def test_what_a_liar_names_is_asked_of_nobody_else_until_somebody_else_names_it(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    step = step_of(council)
    key = named(3, 1)
    request_scheduler.request_blob(step, key, source=LIAR)
    whom = set()
    for _ in range(40):
        whom |= {want.asked for want in asked(step)}
        step.now_s = max(step.state.ask_at_s, step.now_s + 0.01)
    assert whom == {LIAR}

    request_scheduler.request_blob(step, key, source=HONEST)
    for _ in range(40):
        whom |= {want.asked for want in asked(step)}
        step.now_s = max(step.state.ask_at_s, step.now_s + 0.01)
    assert whom == {LIAR, HONEST}


def test_who_offers_a_block_is_asked_at_once_for_what_a_liar_named_long_before(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    step = step_of(council)
    key = named(3, 1)
    request_scheduler.request_blob(step, key, source=LIAR)
    for _ in range(8):
        asked(step)
        step.now_s = step.state.wanted[key[0]].again_at_s
    asked(step)
    request_scheduler.request_blob(step, key, source=HONEST)
    request_scheduler.hasten(step, [*key, *named(1, 1)], HONEST)
    assert step.state.ask_at_s <= step.now_s
    assert [want.asked for want in asked(step)] == [HONEST]
    # Said again it is asked no sooner: the pace is not the liar's to set.
    request_scheduler.hasten(step, key, HONEST)
    assert asked(step) == []
    assert set(step.state.wanted) == set(key)


def test_who_offers_a_block_takes_over_what_another_gives_drop_by_drop(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    step = step_of(council)
    (key,) = named(3, 1)
    request_scheduler.request_blob(step, [key], source=LIAR)
    asked(step)
    assembly = ChunkAssembly.begin(Digest(H(b"long")), 1 << 20, 1 << 21)
    pull = PieceDownload(LIAR, FrameSubject.UPLOAD, assembly, frozenset({1, 2}))
    again_at_s = step.now_s + 2.0
    pulled = replace(step.state.wanted[key], pull=pull, again_at_s=again_at_s)
    step.state = replace(step.state, wanted={key: pulled}, pulling=(key,))
    request_scheduler.request_blob(step, [key], source=HONEST)
    request_scheduler.hasten(step, [key], LIAR)
    assert step.state.wanted[key].again_at_s == again_at_s
    request_scheduler.hasten(step, [key], HONEST)
    assert {want.asked for want in asked(step)} == {HONEST}

"""Who was away while a rollback was carried comes level with the others again."""

from collections.abc import Sequence
from dataclasses import replace

from starling.broker.link_events import MqttMessage
from starling.coordinator.chain.gossip_messages import FRAME, FrameSubject
from starling.protocol.chain.governance import MOTION, GovernanceProposal
from starling.protocol.chain.task_rollback import ROLLBACK, TaskRollback
from starling.protocol.ids import H, TaskId, Version
from starling.protocol.wire.envelope import MessageKind
from tests.unit.coordinator.fixtures.council_genesis import CHAIN_ID, KEYS
from tests.unit.coordinator.fixtures.fleet_board import FleetBoard, voters
from tests.unit.coordinator.fixtures.four_coordinators import FourCoordinators
from tests.unit.coordinator.fixtures.single_coordinator import MODEL, spec

TASK = TaskId(0)
BOARDS = voters(3)
DEVICES = [board.device for board in BOARDS]
AGAIN = replace(MODEL, average=b"\1" + MODEL.average[1:])


def rolled_back(
    away: int, leases: int = 16, waiting: Sequence[FleetBoard] = ()
) -> FourCoordinators:
    """A fleet at version 2, which is version 1 made again while one was away."""
    made = FourCoordinators(spec(leases=leases))
    made.open(BOARDS)
    made.run(2.0)
    for board in BOARDS[:2]:
        made.contribute(board, 0)
    made.run(8.0)
    assert made.heads() == [1, 1, 1, 1]
    made.crash(away)
    for board in waiting:
        made.check_in(board, 1)
    body = TaskRollback(
        TASK, Version(0), Version(1), AGAIN.digests(), (BOARDS[2].device,)
    )
    motion = GovernanceProposal(
        MessageKind.ROLLBACK, 0, 1 << 20, 0, ROLLBACK.pack(body)
    )
    for key in KEYS[:3]:
        motion = motion.approved(key, CHAIN_ID)
    for member in made.members:
        if member.up:
            with member.store.transaction():
                for part in AGAIN.parts():
                    member.store.put_blob(part)
    made.operate(MessageKind.ROLLBACK, MOTION.pack(motion))
    made.run(8.0)
    assert made.heads() == [2 if member.up else 1 for member in made.members]
    return made


def test_nobody_gets_a_lease_for_what_a_rollback_left_behind() -> None:
    council = rolled_back(away=1)

    assert council.check_in(BOARDS[2], 1) == []
    assert council.check_in(BOARDS[2], 2)


def test_who_waits_for_such_a_lease_waits_no_more() -> None:
    council = rolled_back(away=1, leases=2, waiting=BOARDS)

    for member in council.members:
        leases = member.state.tasks[TASK].leases
        assert not member.up or not leases.granted
        assert not member.up or not any(map(leases.asked, DEVICES))


def test_version_that_others_still_have_is_got_from_them() -> None:
    council = rolled_back(away=1)

    council.restart(1)
    council.run(8.0)

    assert council.heads() == [2, 2, 2, 2]


def test_version_that_others_let_go_is_given_up_for_the_newest() -> None:
    council = rolled_back(away=1)
    for board in BOARDS[:2]:
        council.contribute(board, 2, to={0, 2, 3})
    council.run(8.0)
    assert council.heads() == [3, 1, 3, 3]
    gone = {H(AGAIN.average)}

    def let_go(source: int, target: int, message: MqttMessage) -> bool:
        frame = FRAME.unpack(message.payload)
        return frame.subject == FrameSubject.WHOLE and H(frame.content) in gone

    council.cut = let_go
    council.restart(1)
    council.run(40.0)

    assert council.heads() == [3, 3, 3, 3]

"""A liar that names updates before it gives them holds up nobody's blocks."""

from dataclasses import replace

import pytest

from starling.coordinator.chain.gossip_messages import FrameSubject, frame
from starling.coordinator.chain.state import board_records, transaction_codec
from starling.coordinator.step.events import PeerFrameArrived, TransactionArrived
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.ids import H
from starling.protocol.wire.envelope import ENVELOPE, MessageKind, sign
from starling.protocol.wire.message_bodies import REGISTER, Register, Upload
from tests.unit.coordinator.fixtures.council_genesis import CHAIN_ID, KEYS
from tests.unit.coordinator.fixtures.fleet_board import FleetBoard, voters
from tests.unit.coordinator.fixtures.four_coordinators import TICK_S, FourCoordinators
from tests.unit.coordinator.fixtures.single_coordinator import OPERATOR, spec

LIAR = 3
BOARDS = 18
WITHHELD_S = 15.0
"""For which the liar gives nothing of what it names."""
STEPS = 7
"""Between two things to decide; with every other one comes an update."""


def newcomer(number: int) -> SigningKey:
    return SigningKey(H(b"newcomer", number.to_bytes(4)))


def name_early(council: FourCoordinators, number: int, upload: Upload) -> None:
    """The liar tells of an update that it has, but not the one that gets it later."""
    told = frame(FrameSubject.TRANSACTION, transaction_codec.pack(upload.update))
    for member in council.members[:LIAR]:
        if member.index != number % LIAR:
            event = PeerFrameArrived(KEYS[LIAR].identity, told, 0)
            member.step(event, council.now_s)


def register(council: FourCoordinators, number: int) -> None:
    """Something that is to be decided meanwhile."""
    council.counter += 1
    body = REGISTER.pack(Register(newcomer(number).public))
    signed = sign(OPERATOR, CHAIN_ID, MessageKind.REGISTER, council.counter, body)
    event = TransactionArrived(f"{council.counter}.tx", ENVELOPE.pack(signed))
    council.members[number % LIAR].step(event, council.now_s)
    council.settle()


def with_liar(shared: bool) -> tuple[FourCoordinators, list[FleetBoard]]:
    """Four of which the last says nothing but what the test has it say."""
    council, boards = FourCoordinators(spec(leases=64, buffer=64)), voters(BOARDS)
    for member in council.members:
        member.settings = replace(member.settings, shared=shared)
    council.open(boards)
    council.run(3.0)
    council.cut = lambda source, target, message: source == LIAR
    council.run(8.0)
    return council, boards


@pytest.mark.parametrize("shared", [True, False], ids=["one-broker", "own-brokers"])
def test_updates_named_long_before_they_are_there_fail_no_round(shared: bool) -> None:
    council, boards = with_liar(shared)
    uploads = []
    for number, board in enumerate(boards):
        (lease, *_) = council.check_in(board, council.heads()[0])
        uploads.append(board.upload(lease))
        name_early(council, number, uploads[-1])
    council.run(WITHHELD_S)
    before = council.heights()[0]
    for number in range(2 * BOARDS):
        at, rest = divmod(number, 2)
        if not rest:
            council.send(boards[at], uploads[at], to={at % LIAR})
        register(council, number)
        council.run(STEPS * TICK_S)
    chain = council.members[0].store
    blocks = [chain.block(at) for at in range(before + 1, council.heights()[0] + 1)]
    rounds = [stored.certificate.round for stored in blocks if stored is not None]
    # Only the liar's first turn is lost: then it is passed over.
    assert sorted(rounds)[:-1] == [0] * (len(rounds) - 1)
    assert sum(rounds) <= 1
    # Nobody tells at once of an update that all should have got.
    council.run(4.0)
    for member in council.members[:LIAR]:
        tree = member.state.ledger.tree
        for number in range(2 * BOARDS):
            assert board_records.board(tree, newcomer(number).identity) is not None
        for board in boards:
            assert board_records.update_of(tree, 0, board.device, 0) is not None

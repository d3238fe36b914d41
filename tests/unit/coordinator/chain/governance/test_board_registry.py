"""A board that changes its key stays the same board, for its rights and its faults."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest

from starling.coordinator.chain.state import board_records
from starling.protocol.chain.evidence import EVIDENCE, duplicate_updates
from starling.protocol.chain.key_rotation import ROTATE, ROTATIONS_MAX
from starling.protocol.errors import Reason
from starling.protocol.ids import device_id
from starling.protocol.wire.envelope import Envelope, MessageKind
from starling.protocol.wire.message_bodies import CONTRIBUTION, REGISTER, Register
from tests.unit.coordinator.fixtures.small_chain import SmallChain, opened
from tests.unit.coordinator.fixtures.small_genesis import (
    OPERATOR,
    STRANGER,
    board_id,
    board_key,
    key,
)
from tests.unit.coordinator.fixtures.small_task import contribution
from tests.unit.coordinator.fixtures.state_views import pending

NEXT = key(9001)
LATER = key(9002)


def signed_update(
    world: SmallChain, who: object, number: int, base: int = 0
) -> Envelope:
    body = CONTRIBUTION.pack(contribution(number, base))
    return world.sign(who, MessageKind.UPDATE, body)  # type: ignore[arg-type]  # a key


def rotated() -> SmallChain:
    world = opened()
    world.must(world.rotate(0, NEXT))
    return world


def test_rotated_board_keeps_its_id_and_signs_with_its_new_key() -> None:
    world = rotated()
    world.must(signed_update(world, NEXT, 0))
    board = board_records.board(world.tree, board_id(0))
    assert board is not None
    assert (board.public, board.rotations, board.updates) == (NEXT.public, 1, 1)
    assert board_records.owner(world.tree, NEXT.public) == board_id(0)
    assert pending(world.tree, 0)[0].board == board_id(0)


def test_retired_key_signs_nothing_more() -> None:
    world = rotated()
    assert world.do(world.update(0)).code == Reason.NOT_ENROLLED
    again = world.rotate(0, LATER)
    assert world.do(again).code == Reason.NOT_AUTHORISED
    assert board_records.signer(world.tree, board_key(0).public) is None


def test_rotation_keeps_what_the_board_signed_before() -> None:
    world = opened()
    world.must(world.update(0), world.rotate(0, NEXT))
    assert world.do(signed_update(world, NEXT, 0)).code == Reason.EQUIVOCATION


@pytest.mark.parametrize("signers", [(0, 0), (0, 1), (1, 1)], ids=str)
def test_evidence_under_any_key_names_the_board(signers: tuple[int, int]) -> None:
    world = rotated()
    keys = board_key(0), NEXT
    updates = [signed_update(world, keys[who], 0) for who in signers]
    body = EVIDENCE.pack(duplicate_updates(updates[0], updates[1]))
    world.must(world.sign(STRANGER, MessageKind.EVIDENCE, body))
    assert board_records.fault(world.tree, NEXT.public) is not None
    assert board_records.fault(world.tree, board_key(0).public) is not None


def test_rotations_of_a_board_are_bounded() -> None:
    world = opened()
    keys = [board_key(0), *(key(9100 + at) for at in range(ROTATIONS_MAX + 1))]
    for present, following in pairwise(keys[:-1]):
        world.must(world.rotate(0, following, present))
    last = world.rotate(0, keys[-1], keys[-2])
    assert world.do(last).code == Reason.BUSY
    assert board_records.owner(world.tree, keys[5].public) == board_id(0)


def _forged(world: SmallChain) -> Envelope:
    """Somebody claims a key that is not his."""
    envelope = world.rotate(0, NEXT)
    body = replace(ROTATE.unpack(envelope.body), following=LATER.public)
    return world.sign(board_key(0), MessageKind.ROTATE, ROTATE.pack(body))


def _consent_of_another_time(world: SmallChain) -> Envelope:
    """The new key agreed to follow another key than the present one."""
    envelope = world.rotate(0, NEXT, board_key(1))
    return world.sign(board_key(0), MessageKind.ROTATE, envelope.body)


def _revoked(world: SmallChain) -> Envelope:
    world.must(world.revoke(0))
    return world.rotate(0, NEXT)


REFUSALS: list[tuple[str, Callable[[SmallChain], Envelope], Reason]] = [
    ("unknown-board", lambda w: w.rotate(99, NEXT), Reason.NOT_ENROLLED),
    ("revoked", _revoked, Reason.NOT_ENROLLED),
    ("other-board", lambda w: w.rotate(0, NEXT, board_key(1)), Reason.NOT_AUTHORISED),
    ("operator", lambda w: w.rotate(0, NEXT, OPERATOR), Reason.NOT_AUTHORISED),
    ("to-itself", lambda w: w.rotate(0, board_key(0)), Reason.ALREADY_KNOWN),
    ("to-a-board", lambda w: w.rotate(0, board_key(1)), Reason.ALREADY_KNOWN),
    ("to-an-operator", lambda w: w.rotate(0, OPERATOR), Reason.ALREADY_KNOWN),
    ("to-a-validator", lambda w: w.rotate(0, w.validators[0]), Reason.ALREADY_KNOWN),
    ("forged-consent", _forged, Reason.BAD_SIGNATURE),
    ("old-consent", _consent_of_another_time, Reason.BAD_SIGNATURE),
    (
        "malformed",
        lambda w: w.sign(board_key(0), MessageKind.ROTATE, b"\x90"),
        Reason.MALFORMED,
    ),
]


@pytest.mark.parametrize(
    ("make", "reason"),
    [pytest.param(make, reason, id=name) for name, make, reason in REFUSALS],
)
def test_rotation_refused_changes_nothing(
    make: Callable[[SmallChain], Envelope], reason: Reason
) -> None:
    world = opened()
    envelope = make(world)
    before = world.tree.root()
    assert world.do(envelope).code == reason
    assert world.tree.root() == before


def test_rotated_key_is_not_registered_as_another_board() -> None:
    world = rotated()
    body = REGISTER.pack(Register(NEXT.public))
    result = world.do(world.sign(OPERATOR, MessageKind.REGISTER, body))
    assert result.code == Reason.ALREADY_KNOWN
    assert board_records.board(world.tree, device_id(NEXT.public)) is None

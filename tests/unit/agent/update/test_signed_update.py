"""The one place where an update is sealed and signed: what the signature binds."""

from starling.agent.step import effects as f
from starling.protocol.crypto.sealed_blob import SEALED, open_sealed
from starling.protocol.ids import H
from starling.protocol.wire.envelope import MessageKind
from starling.protocol.wire.message_bodies import CONTRIBUTION, UPLOAD
from tests.unit.agent.agent_harness import (
    BoardHarness,
    connected,
    fresh,
    until_spooled,
)
from tests.unit.agent.fake_coordinator import BOARD, CHAIN, OPENING


def spooled(board: BoardHarness) -> bytes:
    """What lies in the spool of a board that had its first round."""
    until_spooled(connected(board))
    return next(iter(board.disk.spool.values()))[1]


def test_signature_binds_the_sealed_vector_and_what_was_paid() -> None:
    board = fresh()

    upload = UPLOAD.unpack(spooled(board))

    update = upload.update
    assert update.kind == MessageKind.UPDATE
    assert update.sender == BOARD.public
    update.check(CHAIN)
    said = CONTRIBUTION.unpack(update.body)
    sealed = SEALED.unpack(upload.blob)
    _, vector = open_sealed(sealed, OPENING, update.sender, said.commitment)
    (finished,) = board.noised
    assert said.version == finished
    assert said.blob == sealed.digest()
    assert vector[:4] == finished.to_bytes(4, "little")
    (charge,) = board.disk.charges()
    assert said.charge == charge.units == said.paid


def test_update_is_signed_once_and_the_spool_has_its_identity() -> None:
    board = fresh()

    content = spooled(board)

    (entry, _), *_ = board.disk.spool.values()
    assert entry.digest == H(content)
    assert entry.update == UPLOAD.unpack(content).update.identity(CHAIN)
    spoolings = [one for one in board.log if isinstance(one, f.SpoolUpload)]
    assert len(spoolings) == 1

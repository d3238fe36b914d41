"""Every refusal of an upload, with the reason that reaches the board."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from starling.coordinator.step.effects import RecordRefusal, StoreUpload
from starling.coordinator.step.events import BoardMessageArrived, ChunkArrived
from starling.coordinator.update.admission_checks import open_contribution
from starling.protocol.crypto.keys import OpeningKey, SigningKey
from starling.protocol.crypto.sealed_blob import ENTROPY_BYTES, blob_digest, seal
from starling.protocol.errors import Reason, ShapeMismatch
from starling.protocol.ids import H, TaskId, Version
from starling.protocol.learning.vector_codecs import GridVector, encode_block8
from starling.protocol.wire.chunks import CHUNK, Chunk, split
from starling.protocol.wire.envelope import ENVELOPE, Envelope, MessageKind
from starling.protocol.wire.message_bodies import (
    REVOKE,
    UPLOAD,
    Contribution,
    Revoke,
    Upload,
)
from tests.unit.coordinator.fixtures.single_coordinator import (
    DIMENSION,
    SEALING,
    FixtureBoard,
    SingleCoordinator,
    board,
    counted,
    lease_for,
    refusals,
    spec,
)

Spoil = Callable[[FixtureBoard, Envelope], Upload]


@pytest.fixture
def world() -> SingleCoordinator:
    world = SingleCoordinator(task=spec(buffer=1, staleness_max=1, norm_max=100 << 24))
    world.open([board(1), board(2)])
    return world


def sealed_again(sender: FixtureBoard, lease: Envelope, plain: bytes) -> Upload:
    """An upload whose blob holds other bytes, signed as it should be."""
    blob, commitment = seal(
        plain, [SEALING.public], bytes(ENTROPY_BYTES), sender.key.public
    )
    upload = sender.upload(lease, blob=blob_digest(blob), commitment=commitment)
    return replace(upload, blob=blob)


def forged(sender: FixtureBoard, lease: Envelope) -> Upload:
    upload = sender.upload(lease)
    return replace(upload, update=replace(upload.update, signature=bytes(64)))


def by_another(sender: FixtureBoard, lease: Envelope) -> Upload:
    return replace(
        sender.upload(lease), update=FixtureBoard(board(2).key).upload(lease).update
    )


def other_kind(sender: FixtureBoard, lease: Envelope) -> Upload:
    upload = sender.upload(lease)
    return replace(upload, update=sender.sign(MessageKind.ATTEST, upload.update.body))


def unopenable(sender: FixtureBoard, lease: Envelope) -> Upload:
    vector = np.zeros(DIMENSION, "<f4").tobytes()
    stranger = board(9).key.seed
    recipient = type(SEALING)(stranger).public
    blob, commitment = seal(
        vector, [recipient], bytes(ENTROPY_BYTES), sender.key.public
    )
    upload = sender.upload(lease, blob=blob_digest(blob), commitment=commitment)
    return replace(upload, blob=blob)


def stolen_blob(sender: FixtureBoard, lease: Envelope) -> Upload:
    """Names a blob that another board sealed."""
    vector = np.zeros(DIMENSION, "<f4").tobytes()
    blob, commitment = seal(
        vector, [SEALING.public], bytes(ENTROPY_BYTES), board(2).key.public
    )
    upload = sender.upload(lease, blob=blob_digest(blob), commitment=commitment)
    return replace(upload, blob=blob)


def floats(*values: float) -> bytes:
    return np.array(values, "<f4").tobytes()


NAN, INFINITY = float("nan"), float("inf")
REFUSED: dict[str, tuple[Spoil, Reason]] = {
    "not an update": (other_kind, Reason.UNKNOWN_KIND),
    "no lease of ours": (
        lambda b, lease: b.upload(lease_for(b.device, key=SigningKey(b"x" * 32))),
        Reason.NO_LEASE,
    ),
    "forged lease": (
        lambda b, lease: replace(
            b.upload(lease), lease=replace(lease, signature=bytes(64))
        ),
        Reason.NO_LEASE,
    ),
    "lease of another board": (
        lambda b, lease: b.upload(lease_for(board(2).device)),
        Reason.NO_LEASE,
    ),
    "lease for another version": (
        lambda b, lease: replace(b.upload(lease), lease=lease_for(b.device, version=1)),
        Reason.NO_LEASE,
    ),
    "base version to come": (
        lambda b, lease: b.upload(lease_for(b.device, version=7)),
        Reason.BUSY,
    ),
    "another codec": (lambda b, lease: b.upload(lease, codec=1), Reason.SHAPE_MISMATCH),
    "another mechanism": (
        lambda b, lease: b.upload(lease, mechanism=1),
        Reason.POLICY_MISMATCH,
    ),
    "size nobody may pledge": (
        lambda b, lease: b.upload(lease, pledge=17),
        Reason.POLICY_MISMATCH,
    ),
    "another blob": (
        lambda b, lease: replace(b.upload(lease), blob=b.upload(lease).blob),
        Reason.COMMITMENT_MISMATCH,
    ),
    "no blob": (
        lambda b, lease: replace(b.upload(lease), blob=b.upload(lease).blob[:-1]),
        Reason.MALFORMED,
    ),
    "commitment to other bytes": (
        lambda b, lease: b.upload(lease, commitment=bytes(32)),
        Reason.COMMITMENT_MISMATCH,
    ),
    "sealed to somebody else": (unopenable, Reason.NOT_SEALED_TO_ME),
    "blob of another board": (stolen_blob, Reason.MALFORMED),
    "too few parameters": (
        lambda b, lease: sealed_again(b, lease, floats(1.0)),
        Reason.SHAPE_MISMATCH,
    ),
    "NaN": (
        lambda b, lease: sealed_again(b, lease, floats(NAN, 0, 0, 0)),
        Reason.NON_FINITE,
    ),
    "infinity": (
        lambda b, lease: sealed_again(b, lease, floats(0, -INFINITY, 0, 0)),
        Reason.NON_FINITE,
    ),
    "over norm": (
        lambda b, lease: b.upload(lease, [60.0, 60.0, 60.0, 0.0]),
        Reason.NORM_EXCEEDED,
    ),
    "out of the grid's range": (
        lambda b, lease: b.upload(lease, [1e30, 0, 0, 0]),
        Reason.NORM_EXCEEDED,
    ),
}


@pytest.mark.parametrize(("spoil", "reason"), REFUSED.values(), ids=REFUSED)
def test_upload_spoiled_is_refused_with_its_reason(
    world: SingleCoordinator, spoil: Spoil, reason: Reason
) -> None:
    sender = board(1)
    lease = world.check_in(sender)
    assert lease is not None

    effects = world.upload(sender, spoil(sender, lease))

    assert [refused.reason for refused in refusals(effects, sender.device)] == [reason]
    assert not any(isinstance(effect, StoreUpload) for effect in effects)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [(forged, Reason.BAD_SIGNATURE), (by_another, Reason.NOT_AUTHORISED)],
    ids=["forged", "by-another"],
)
def test_upload_that_the_board_did_not_sign_is_refused_in_silence(
    world: SingleCoordinator, spoil: Spoil, reason: Reason
) -> None:
    sender = board(1)
    lease = world.check_in(sender)
    assert lease is not None

    effects = world.upload(sender, spoil(sender, lease))

    assert counted(effects, sender.device) == [reason]
    assert not any(isinstance(effect, StoreUpload) for effect in effects)


def test_upload_refused_leaves_room_for_an_honest_one(world: SingleCoordinator) -> None:
    sender = board(1)
    lease = world.check_in(sender)
    assert lease is not None
    world.upload(sender, sender.upload(lease, [60.0, 60.0, 60.0, 0.0]))

    effects = world.upload(sender, sender.upload(lease, [1.0, 0, 0, 0]))

    assert any(isinstance(effect, StoreUpload) for effect in effects)


def test_upload_too_stale_is_refused(world: SingleCoordinator) -> None:
    late = board(1)
    lease = world.check_in(late)
    assert lease is not None
    quick = board(2)
    for version in range(2):
        world.contribute(quick, [16.0, 0, 0, 0], version)
        world.tick()
        world.compute()

    effects = world.upload(late, late.upload(lease))

    assert refusals(effects, late.device)[0].reason == Reason.STALE


def test_upload_with_a_used_counter_is_refused(world: SingleCoordinator) -> None:
    sender = board(1)
    world.contribute(sender, [16.0, 0, 0, 0])
    world.tick()
    world.compute()
    lease = world.check_in(sender, 1)
    assert lease is not None
    sender.counter = 1

    effects = world.upload(sender, sender.upload(lease))

    assert refusals(effects, sender.device)[0].reason == Reason.REPLAYED


def test_upload_of_a_revoked_board_is_refused(world: SingleCoordinator) -> None:
    sender = board(2)
    world.operate(MessageKind.REVOKE, REVOKE.pack(Revoke(sender.device)))

    effects = world.upload(sender, sender.upload(lease_for(sender.device)))

    refused = refusals(effects, sender.device)[0]
    assert refused.reason == Reason.NOT_ENROLLED
    assert refused.detail.startswith("the board was revoked at height ")


def test_upload_of_a_jailed_board_is_refused_as_one(world: SingleCoordinator) -> None:
    sender = board(2)
    lease = world.check_in(sender)
    assert lease is not None
    world.upload(sender, sender.upload(lease, [1.0, 0, 0, 0]))
    world.upload(sender, sender.upload(lease, [2.0, 0, 0, 0]))
    world.tick()

    effects = world.upload(sender, sender.upload(lease_for(sender.device)))

    refused = refusals(effects, sender.device)[0]
    assert refused.reason == Reason.JAILED
    assert refused.detail.startswith("jailed until height ")


def test_upload_of_a_board_that_the_chain_does_not_know_is_refused_in_silence(
    world: SingleCoordinator,
) -> None:
    stranger = board(77)

    effects = world.upload(stranger, stranger.upload(lease_for(stranger.device)))

    assert counted(effects, stranger.device) == [Reason.NOT_ENROLLED]
    assert world.state.sessions.get(stranger.device) is None


def test_upload_announced_too_long_is_refused_at_its_first_chunk(
    world: SingleCoordinator,
) -> None:
    sender = board(1)
    chunk = Chunk(H(b"long"), 10**6, 0, bytes(65536))

    effects = world.send(ChunkArrived(sender.device, CHUNK.pack(chunk)))

    assert counted(effects, sender.device) == [Reason.TOO_LARGE]
    assert world.state.sessions.get(sender.device) is None


def test_upload_truncated_or_extended_anywhere_never_raises(
    world: SingleCoordinator,
) -> None:
    sender = board(1)
    lease = world.check_in(sender)
    assert lease is not None
    whole = UPLOAD.pack(sender.upload(lease))
    spoiled = [whole[:cut] for cut in range(1, len(whole), 7)] + [whole + b"\0"]

    for content in spoiled:
        for chunk in split(content):
            effects = world.send(ChunkArrived(sender.device, CHUNK.pack(chunk)))
            assert any(isinstance(effect, RecordRefusal) for effect in effects)


def test_garbage_on_any_topic_is_refused_and_counted(world: SingleCoordinator) -> None:
    sender = board(1)
    for content in (b"\xc0", bytes(100), b"\x96" * 50):
        for event in (ChunkArrived, BoardMessageArrived):
            effects = world.send(event(sender.device, content))
            assert isinstance(effects[0], RecordRefusal)
    assert isinstance(world.send(ChunkArrived(sender.device, b""))[0], RecordRefusal)


def test_empty_message_by_which_a_check_tries_its_rights_counts_nothing(
    world: SingleCoordinator,
) -> None:
    assert world.send(BoardMessageArrived(board(1).device, b"")) == ()


def test_said_by_another_board_is_refused(world: SingleCoordinator) -> None:
    said = board(2).check_in()

    effects = world.send(BoardMessageArrived(board(1).device, said))

    assert counted(effects, board(1).device) == [Reason.NOT_AUTHORISED]


def test_envelope_of_unknown_kind_is_refused(world: SingleCoordinator) -> None:
    sender = board(1)
    said = sender.sign(MessageKind.LEASE, b"")

    effects = world.send(BoardMessageArrived(sender.device, ENVELOPE.pack(said)))

    assert refusals(effects, sender.device)[0].reason == Reason.UNKNOWN_KIND


@pytest.mark.parametrize("codec", [1, 200])
def test_vector_of_another_codec_than_the_task_s_opens_for_nobody(codec: int) -> None:
    # Also where a peer or the chain names the update, and no board sent it to us.
    asked, key = spec(), OpeningKey(b"o" * 32)
    plain = encode_block8(GridVector(np.ones(asked.dimension, np.int64), 0), bytes)
    entropy, sender = bytes(ENTROPY_BYTES), b"s" * 32
    blob, committed = seal(plain, [key.public], entropy, sender)
    body = Contribution(
        TaskId(0), Version(0), codec, 16, 0, 0, blob_digest(blob), committed
    )

    with pytest.raises(ShapeMismatch):
        open_contribution(key, sender, body, blob, asked)
    with pytest.raises(ShapeMismatch):
        open_contribution(key, sender, body, blob, asked, entropy)
    if codec == 1:
        assert open_contribution(key, sender, body, blob, replace(asked, codec=1)).any()

"""The bodies of envelopes, and the few structures that carry their own proof.

One structure per message, its codec beside it under the same name in capitals. What
each is for, in the order of an update's life: `CheckIn` and `Lease`, `Contribution`
inside an `Upload`, `Accepted` or `Refused`, `FinalityProof`.
"""

from enum import IntEnum
from typing import Annotated

from starling.protocol.crypto.sealed_blob import BLOB_BYTES_MAX
from starling.protocol.errors import ProtocolError
from starling.protocol.ids import (
    DeviceId,
    Digest,
    H,
    PublicKey,
    TaskId,
    Version,
)
from starling.protocol.learning.task import PLEDGE_MAX
from starling.protocol.schema.msgpack_codec import (
    Byte,
    Flag,
    Structure,
    Uint,
    binary,
    many,
    structure,
    text,
    uint,
)
from starling.protocol.wire.envelope import Envelope

PPM = 10**6
CHUNK_REQUEST_MAX = 16
REFUSED_DETAIL_MAX = 200
"""In UTF-8 bytes."""
NAME_BYTES_MAX = 64
"""Of a coordinator's name, in UTF-8 bytes."""


class DevicePhase(IntEnum):
    """A board's retained state, as Homie 5 names them."""

    INIT = 0
    READY = 1
    TRAINING = 2
    SLEEPING = 3
    DISCONNECTED = 4
    LOST = 5


class DeviceState(Structure, frozen=True):
    """State that a board publishes of itself; LOST is its last will.

    Attributes:
      phase: `DevicePhase`.
      boot: Counts the agent's starts.
      version: Version of the model it holds.
      epsilon_micro: Privacy spent by its data set, over all tasks.
    """

    phase: Annotated[int, uint(max(DevicePhase))]
    boot: Uint
    version: Uint
    epsilon_micro: Uint


DEVICE_STATE = structure(DeviceState, 64)


class CoordinatorOnlineState(Structure, frozen=True):
    """State that a coordinator publishes of itself.

    Attributes:
      online: 1, or 0 as its last will.
      height: Height of its chain.
    """

    online: Flag
    height: Uint


COORDINATOR_STATE = structure(CoordinatorOnlineState, 32)


class CheckIn(Structure, frozen=True):
    """A board is ready to train and says how well placed it is.

    Nothing here depends on the data: resources, timeliness and remaining budget are in
    parts per million, the size is a pledge made once, and `asks` says who is to send
    the board's `BoardStatement`, as `protocol.chain.board_statement.StatementRequest`
    numbers it.
    """

    task: TaskId
    version: Version
    resources_ppm: Annotated[int, uint(PPM)]
    timeliness_ppm: Annotated[int, uint(PPM)]
    budget_ppm: Annotated[int, uint(PPM)]
    pledge: Annotated[int, uint(PLEDGE_MAX, 1)]
    asks: Annotated[int, uint(2)] = 0


CHECK_IN = structure(CheckIn, 64)


class Lease(Structure, frozen=True):
    """A coordinator lets one board send one update.

    Attributes:
      device: Whose lease it is.
      task: For which task.
      version: Base version that the update must have.
      number: The grantor's running number.
      duration_s: After which the grantor gives the place to another board; measured on
        the grantor's monotonic clock, so that it is a matter of liveness only.
    """

    device: DeviceId
    task: TaskId
    version: Version
    number: Uint
    duration_s: Annotated[int, uint(1 << 24)]


LEASE = structure(Lease, 96)


class Contribution(Structure, frozen=True):
    """Signed part of an update: the body of an UPDATE transaction.

    Attributes:
      task: Which task.
      version: Base version; a board signs one contribution per task and base version.
      codec: How the vector is encoded.
      pledge: Size that the board pledged; its weight.
      mechanism: Number of the privacy mechanism.
      charge: Privacy charge, in the units of `protocol.privacy.gaussian_dp`.
      blob: H of the sealed blob.
      commitment: H of content key and plaintext; see `protocol.crypto.sealed_blob`.
      paid: All that the board's ledger states for this chain, this charge included.
    """

    task: TaskId
    version: Version
    codec: Byte
    pledge: Annotated[int, uint(PLEDGE_MAX, 1)]
    mechanism: Byte
    charge: Uint
    blob: Digest
    commitment: Digest
    paid: Uint = 0


CONTRIBUTION = structure(Contribution, 144)


class Forfeit(Structure, frozen=True):
    """A board paid for a base version and has lost its update: it makes no other.

    Attributes:
      task: Which task.
      version: The base version; the task's head.
      charge: What it paid, in the units of `protocol.privacy.gaussian_dp`.
      paid: As in `Contribution`.
    """

    task: TaskId
    version: Version
    charge: Uint
    paid: Uint = 0


FORFEIT = structure(Forfeit, 64)


class Upload(Structure, frozen=True):
    """Upload that a board sends in chunks: signed update, lease, sealed vector."""

    update: Envelope
    lease: Envelope
    blob: Annotated[bytes, binary(BLOB_BYTES_MAX)]


UPLOAD_BYTES_MAX = BLOB_BYTES_MAX + 64 * 1024
UPLOAD = structure(Upload, UPLOAD_BYTES_MAX)


class Accepted(Structure, frozen=True):
    """A coordinator's durable receipt: it holds the update and has written it down.

    Attributes:
      update: Id of the UPDATE envelope.
    """

    update: Digest


ACCEPTED = structure(Accepted, 64)


class Refused(Structure, frozen=True):
    """A coordinator does not take something; it deletes nothing at the board.

    Attributes:
      subject: Id of the refused envelope, or H of bytes that were none.
      reason: `protocol.errors.Reason`.
      retry_after_s: When it makes sense to try again; 0 for never.
      detail: For the log.
    """

    subject: Digest
    reason: Byte
    retry_after_s: Annotated[int, uint(1 << 24)]
    detail: Annotated[str, text(REFUSED_DETAIL_MAX)]


REFUSED = structure(Refused, 512)


def about_board(device: DeviceId) -> Digest:
    """Subject of a refusal of all that a board says, whatever it is."""
    return H(b"starling/board/1", device)


def refusal(subject: Digest, error: ProtocolError, retry_after_s: int = 0) -> Refused:
    """The refusal that tells a sender of an error, its text made fit for the wire."""
    # An error may quote what a sender wrote, and `pack` refuses text that is not
    # printable.
    shown = "".join(sign if sign.isprintable() else "?" for sign in str(error))
    # The bound counts bytes; a character that it cuts in two is left out.
    detail = shown.encode()[:REFUSED_DETAIL_MAX].decode(errors="ignore")
    return Refused(subject, int(error.reason), retry_after_s, detail)


class ChunkRequest(Structure, frozen=True):
    """A board asks for chunks of a model or a bundle, at its own pace.

    Attributes:
      digest: Which whole.
      indices: Which chunks.
      held: An older version of that model that the board has, from which chunks may
        come as differences; left out where it has none.
    """

    digest: Digest
    indices: Annotated[
        tuple[Annotated[int, uint(1 << 20)], ...], many(CHUNK_REQUEST_MAX, 1)
    ]
    held: Annotated[tuple[Digest, ...], many(1)] = ()


CHUNK_REQUEST = structure(ChunkRequest, 256, short=True)


class Register(Structure, frozen=True):
    """An operator admits a board.

    Attributes:
      device: The board's first public key.
    """

    device: PublicKey


REGISTER = structure(Register, 64)


class Revoke(Structure, frozen=True):
    """An operator excludes a board from now on."""

    device: DeviceId


REVOKE = structure(Revoke, 32)


class Close(Structure, frozen=True):
    """An operator closes a task for good."""

    task: TaskId


CLOSE = structure(Close, 16)


class Attest(Structure, frozen=True):
    """A coordinator recomputed a job and got this digest.

    Attributes:
      task: Which task.
      version: Which version the job builds.
      digest: `protocol.learning.task.version_digest` of what it computed.
    """

    task: TaskId
    version: Version
    digest: Digest


ATTEST = structure(Attest, 64)


class Present(Structure, frozen=True):
    """A coordinator that missed its turn to propose takes its turns again.

    Attributes:
      missed: Height at which it missed its turn last.
    """

    missed: Annotated[int, uint(least=1)]


PRESENT = structure(Present, 16)


class LearnerChange(Structure, frozen=True):
    """An operator lets somebody read and ask who is to decide later, or no longer.

    Attributes:
      admitted: 1 from now on, 0 no longer.
      public: The key that it is to decide with.
      name: For people.
    """

    admitted: Flag
    public: PublicKey
    name: Annotated[str, text(NAME_BYTES_MAX)]


LEARNER = structure(LearnerChange, 128)

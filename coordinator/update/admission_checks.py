"""Admission checks: all that an upload passes, in one fixed order.

Length, form, signature, enrolment, known already, counter window, lease, base version,
policy, then the blob: opened, commitment, codec, finiteness, norm. The cheap and the
unforgeable come first. Each refusal is a `ProtocolError` whose reason goes back to the
board and into a counter. The vector is not kept: whoever sums it opens the blob again.
"""

from collections.abc import Callable
from dataclasses import dataclass

from starling.coordinator.chain.state import transaction_codec
from starling.coordinator.chain.state.generational_cache import GenerationalCache
from starling.coordinator.update.norm_bound import check_norm, norm_bound
from starling.protocol.chain.genesis import ValidatorSet
from starling.protocol.crypto.keys import OpeningKey, verify
from starling.protocol.crypto.sealed_blob import (
    SEALED,
    SealedBlob,
    decrypt,
    open_sealed,
)
from starling.protocol.errors import (
    BudgetExceeded,
    DecodeError,
    InvalidUpdate,
    Reason,
    ShapeMismatch,
    SignatureError,
    StaleUpdate,
)
from starling.protocol.ids import ChainId, DeviceId, Digest, H, PublicKey
from starling.protocol.learning.task import TaskSpec
from starling.protocol.learning.vector_codecs import CODECS, Grid
from starling.protocol.privacy.gaussian_dp import CHARGE_MAX
from starling.protocol.privacy.mechanisms import UNNOISED, stated_charge
from starling.protocol.wire.envelope import CounterWindow, Envelope, MessageKind
from starling.protocol.wire.message_bodies import LEASE, UPLOAD, Contribution

OPENED_BYTES_MAX = 16 << 20
"""Of vectors that are kept open from admission until they are summed."""
_Bound = tuple[bytes, bytes, bytes, bytes]
_opened: GenerationalCache[_Bound, bytes] = GenerationalCache(OPENED_BYTES_MAX)


class UpdateEquivocation(InvalidUpdate):
    """A second update of one board for one base version: both are evidence.

    Attributes:
      known: Id of the first.
      update: The second.
    """

    reason = Reason.EQUIVOCATION

    def __init__(self, known: Digest, update: Envelope) -> None:
        """Keeps both sides."""
        super().__init__("another update for this base version is known")
        self.known = known
        self.update = update


@dataclass(frozen=True)
class AdmissionContext:
    """Context of admission that is the same for all uploads.

    Attributes:
      chain_id: What signatures bind.
      key: Opens what was sealed to us.
    """

    chain_id: ChainId
    key: OpeningKey


@dataclass(frozen=True)
class SenderRecord:
    """Facts about the sender and the task of one update.

    Attributes:
      coordinators: Whose leases count.
      device: Whose key signed it.
      excluded: Why the board may not take part with this key; None if it may.
      known: Id of its update for this base version, if there is one.
      window: Counters of its updates so far.
      lease: The lease that we granted it last, if it is in force: it needs no
        verification.
      spec: The task, None if there is none of that number.
      head: The task's newest final version.
      charged: What the board's updates in the chain were charged.
      oldest: The oldest version that the chain still takes as a base.
    """

    coordinators: ValidatorSet
    device: DeviceId
    excluded: SignatureError | None
    known: Digest | None
    window: CounterWindow
    lease: Envelope | None
    spec: TaskSpec | None
    head: int
    charged: int
    oldest: int = 0


@dataclass(frozen=True)
class AdmittedUpload:
    """An upload that passed, or that is the same as one that did.

    Attributes:
      transaction: Id of the update.
      update: The signed update.
      contribution: Its body.
      blob: The sealed vector; unchecked if the update was known.
      window: Counters of the board's updates from now on.
      known: The same update was taken before, or stands in the chain.
      repeated: And the board sent it to us before: it lacks the receipt.
    """

    transaction: Digest
    update: Envelope
    contribution: Contribution
    blob: bytes
    window: CounterWindow
    known: bool
    repeated: bool


Lookup = Callable[[PublicKey, Contribution], SenderRecord]


def admit(
    gate: AdmissionContext, device: DeviceId, whole: bytes, lookup: Lookup
) -> AdmittedUpload:
    """Checks one reassembled upload.

    Args:
      gate: Keys and chain.
      device: Whose topic it came from.
      whole: The packed `Upload`; its length was bounded while it was assembled.
      lookup: Gives the sender's standing once the signature holds.

    Raises:
      ProtocolError: With the reason of the first check that fails.
    """
    upload = UPLOAD.unpack(whole)
    update = upload.update
    if update.kind != MessageKind.UPDATE:
        raise DecodeError(f"kind {update.kind} in an upload", Reason.UNKNOWN_KIND)
    contribution = transaction_codec.contribution(update.body)
    signed = update.signed_bytes(gate.chain_id)
    verify(update.sender, signed, update.signature)
    standing = lookup(update.sender, contribution)
    if standing.device != device:
        raise SignatureError("signed by another board", Reason.NOT_AUTHORISED)
    if standing.excluded is not None:
        raise standing.excluded
    # The id, without packing the update again.
    transaction = H(signed)
    if standing.known is not None:
        if standing.known != transaction:
            raise UpdateEquivocation(standing.known, update)
        # Without a receipt a board sends the same bytes again, with their old counter.
        window, again = standing.window, standing.window.has(update.counter)
        window = window if again else window.admit(update.counter)
        blob = upload.blob
        return AdmittedUpload(
            transaction, update, contribution, blob, window, True, again
        )
    # After the known ones, so that a repetition of a known update is no replay.
    window = standing.window.admit(update.counter)
    _check_lease(gate, contribution, upload.lease, standing)
    spec = _check_policy(contribution, standing)
    vector = open_contribution(gate.key, update.sender, contribution, upload.blob, spec)
    check_norm(vector, norm_bound(spec, contribution.pledge))
    return AdmittedUpload(
        transaction, update, contribution, upload.blob, window, False, False
    )


def open_update(
    key: OpeningKey,
    update: Envelope,
    blob: bytes,
    spec: TaskSpec,
    content_key: bytes | None = None,
) -> Grid:
    """Opens an admitted update again; as `open_contribution`."""
    body = transaction_codec.contribution(update.body)
    return open_contribution(key, update.sender, body, blob, spec, content_key)


def open_contribution(
    key: OpeningKey,
    sender: bytes,
    contribution: Contribution,
    blob: bytes,
    spec: TaskSpec,
    content_key: bytes | None = None,
) -> Grid:
    """Opens a sealed vector and checks it against what was signed.

    Args:
      key: One of the keys that it was sealed to.
      sender: Public key that signed the contribution.
      contribution: What was signed.
      blob: The sealed vector.
      spec: The task.
      content_key: From a peer, if our box does not open.

    Returns:
      (d,) int64 in units of 2^-24.

    Raises:
      ClosedUpdate: If it does not open, `NOT_SEALED_TO_ME` if there is no box for us.
      InvalidUpdate, DecodeError: `COMMITMENT_MISMATCH` if it is another blob, or what
        the codec refuses: `SHAPE_MISMATCH`, `NON_FINITE`, `MALFORMED`.
    """
    if content_key is not None:
        return open_disclosed(sender, contribution, blob, spec, content_key)
    sealed = _committed_blob(contribution, blob, spec)
    # All that the result depends on, so that nobody's vector opens as another's.
    bound = (key.public, sender, contribution.blob, contribution.commitment)
    found = _opened.get(bound)
    if found is None:
        _, found = open_sealed(sealed, key, sender, contribution.commitment)
        _opened.keep(bound, found, len(found))
    return CODECS[contribution.codec].decode(found, spec.dimension)


def open_disclosed(
    sender: bytes,
    contribution: Contribution,
    blob: bytes,
    spec: TaskSpec,
    content_key: bytes,
) -> Grid:
    """Opens a sealed vector with its content key alone; as `open_contribution`."""
    sealed = _committed_blob(contribution, blob, spec)
    plaintext = decrypt(sealed, content_key, sender, contribution.commitment)
    return CODECS[contribution.codec].decode(plaintext, spec.dimension)


def _committed_blob(
    contribution: Contribution, blob: bytes, spec: TaskSpec
) -> SealedBlob:
    # Here, where whoever opens a vector comes by: one that a peer gave, too.
    if contribution.codec != spec.codec or contribution.codec not in CODECS:
        raise ShapeMismatch(f"codec {contribution.codec}, the task asks {spec.codec}")
    sealed = SEALED.unpack(blob)
    if sealed.digest() != contribution.blob:
        raise InvalidUpdate("blob differs from its digest", Reason.COMMITMENT_MISMATCH)
    return sealed


def _check_lease(
    gate: AdmissionContext,
    contribution: Contribution,
    lease: Envelope,
    standing: SenderRecord,
) -> None:
    """A lease counts by its signature and content; when it ended decides nothing."""
    known = standing.coordinators.index_of(lease.sender) is not None
    if lease.kind != MessageKind.LEASE or not known:
        raise InvalidUpdate("not a coordinator's lease", Reason.NO_LEASE)
    granted = LEASE.unpack(lease.body)
    wanted = (standing.device, contribution.task, contribution.version)
    if (granted.device, granted.task, granted.version) != wanted:
        raise InvalidUpdate("lease for another update", Reason.NO_LEASE)
    # The very lease that was granted here: its signature was made here, too.
    if lease == standing.lease:
        return
    try:
        lease.check(gate.chain_id)
    except SignatureError as error:
        raise InvalidUpdate("lease is forged", Reason.NO_LEASE) from error


def _check_policy(contribution: Contribution, standing: SenderRecord) -> TaskSpec:
    spec = standing.spec
    if spec is None:
        raise InvalidUpdate(f"no task {contribution.task}", Reason.UNKNOWN_TASK)
    staleness = standing.head - contribution.version
    if staleness < 0:
        # Others are ahead of this coordinator: the board is to send it again soon.
        raise InvalidUpdate("its base version is not final here yet", Reason.BUSY)
    if staleness > spec.aggregation.staleness_max or (
        contribution.version < standing.oldest
    ):
        raise StaleUpdate(f"staleness {staleness}")
    privacy = spec.privacy
    if contribution.mechanism != privacy.mechanism:
        raise InvalidUpdate("another privacy mechanism", Reason.POLICY_MISMATCH)
    if contribution.charge < stated_charge(privacy):
        raise InvalidUpdate("charged less than its noise costs", Reason.POLICY_MISMATCH)
    if contribution.charge and privacy.mechanism in UNNOISED:
        raise InvalidUpdate("charged for no noise", Reason.POLICY_MISMATCH)
    if standing.charged + contribution.charge > CHARGE_MAX:
        raise BudgetExceeded("the board's charges leave all bounds")
    if contribution.pledge not in spec.pledges:
        raise InvalidUpdate("not a size to pledge", Reason.POLICY_MISMATCH)
    return spec

"""The light client: what a board believes, and what it needs to be shown.

A board pins the genesis at enrolment. From then on it believes a header only with a
certificate of the validator set that it trusts, and anything else only through a
Merkle path under such a header. Nothing here needs the network or a clock.

Source: Diem's `TrustedState` (epoch-ending headers certified by the set before).
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from typing import Annotated

from starling.protocol.chain import task_end
from starling.protocol.chain.blocks import (
    Certificate,
    Header,
    check_certificate,
)
from starling.protocol.chain.genesis import (
    FaultModel,
    Genesis,
    ValidatorSet,
)
from starling.protocol.chain.task_rollback import (
    ROLLBACK,
    TaskRollback,
    rolled_version,
)
from starling.protocol.crypto import merkle
from starling.protocol.crypto.state_tree import StateProof
from starling.protocol.errors import ProofError, Reason
from starling.protocol.ids import ChainId, Digest, TaskId, Version
from starling.protocol.learning.task import (
    TASK,
    TASK_BYTES_MAX,
    ModelDigests,
    TaskSpec,
    version_digest,
)
from starling.protocol.schema.msgpack_codec import (
    Structure,
    Uint,
    many,
    structure,
    uint,
)
from starling.protocol.wire.envelope import ENVELOPE, ENVELOPE_BYTES_MAX, Envelope

HANDOVERS_MAX = 8
"""Changes of the validator set that one manifest leads through: it goes to every board
with each version. A board that missed more of them is enrolled anew, since an admission
says whom to trust by now."""


class CertifiedHeader(Structure, frozen=True):
    """A header and what proves it final."""

    header: Header
    certificate: Certificate


class ValidatorSetTransition(Structure, frozen=True):
    """The last header of a validator set, which names the one that follows.

    Attributes:
      header: Its `next_validators` are others than its `validators`.
      certificate: By the set that goes.
      following: The set that comes.
    """

    header: Header
    certificate: Certificate
    following: ValidatorSet


HANDOVER = structure(ValidatorSetTransition, 16 * 1024)


class ForkError(ProofError):
    """Two certified headers of one height: more validators lie than may.

    Both prove it to anyone; which of them to follow is for people to decide.

    Attributes:
      first: What was believed before.
      second: What contradicts it.
    """

    def __init__(self, first: CertifiedHeader, second: CertifiedHeader) -> None:
        """Keeps both sides."""
        super().__init__(f"two certified blocks at height {first.header.height}")
        self.first = first
        self.second = second


class ValidatorSetGap(ProofError):
    """The changes of the validator set that are shown begin later than what is trusted.

    Either too many were missed for whoever shows them, or they are made up.

    Attributes:
      height: What is trusted so far.
      shown: Height of the first change after it that is shown.
    """

    def __init__(self, height: int, shown: int) -> None:
        """Keeps both heights."""
        super().__init__(
            f"the validators changed between height {height}, up to which we know "
            f"them, and height {shown}, from which on their changes are shown"
        )
        self.height = height
        self.shown = shown


class TrustedState(Structure, frozen=True):
    """State that the light client keeps between proofs.

    Attributes:
      chain_id: Hash of the pinned genesis.
      fault_model: The genesis's.
      height: Highest height that was proven to it, 0 at first.
      validators: The set that certifies the next header it accepts.
      last: The header of that height; None at first.
      before: The set before this one; None before the first change.
      changed: The last height that `before` decides, 0 before the first change.
    """

    chain_id: ChainId
    fault_model: FaultModel
    height: Uint
    validators: ValidatorSet
    last: CertifiedHeader | None = None
    before: ValidatorSet | None = None
    changed: Uint = 0

    def follow(self, handovers: Iterable[ValidatorSetTransition]) -> "TrustedState":
        """Follows changes of the validator set, rising; what is known is skipped.

        Raises:
          ValidatorSetGap: If some are missing before the first that is new.
          ProofError, SignatureError: If one does not follow from what is trusted.
        """
        trusted = self
        for handover in handovers:
            header, following = handover.header, handover.following
            if header.height > trusted.height:
                # A handover of another chain is no gap of ours; `accept` refuses it by
                # name.
                ours = header.chain_id == self.chain_id
                if ours and header.validators != trusted.validators.digest():
                    raise ValidatorSetGap(trusted.height, header.height)
                trusted = trusted.accept(header, handover.certificate, following)
        return trusted

    def recognise(self, header: Header, certificate: Certificate) -> "TrustedState":
        """As `accept`, and headers of the set before that it decided.

        For what makes a board forget and not follow: keys that were retired since could
        sign another past.
        """
        before = self.before
        # Above the last change the set before decides nothing.
        if before is None or header.height > self.changed:
            return self.accept(header, certificate)
        if header.chain_id != self.chain_id:
            raise ProofError("header of another chain", Reason.WRONG_CHAIN)
        _check_certified(header, certificate)
        if header.validators != before.digest():
            raise ProofError("header of a validator set that is not trusted")
        check_certificate(certificate, self.chain_id, before, self.fault_model)
        return self

    def accept(
        self,
        header: Header,
        certificate: Certificate,
        following: ValidatorSet | None = None,
    ) -> "TrustedState":
        """Believes a header if its certificate proves it.

        Args:
          header: The header; any height. An older one neither lowers `height` nor
            changes the set: where a set comes back, its old keys must not bring back
            the one that followed it then.
          certificate: A quorum of precommits for it.
          following: The next height's set; needed where a newer header changes it.

        Raises:
          ForkError: If another header of that height was believed.
          ProofError, SignatureError: If anything does not fit.
        """
        if header.chain_id != self.chain_id:
            raise ProofError("header of another chain", Reason.WRONG_CHAIN)
        _check_certified(header, certificate)
        last = self.last
        if last is not None and header.block_id() == last.header.block_id():
            return self
        rival = last is not None and header.height == last.header.height
        handed_over = rival and header.height == self.changed
        # Validators that were removed may sign anything afterwards: only the present
        # set is believed.
        certifiers = self.validators
        # The header at which the set changed was still certified by the set before.
        if handed_over and self.before is not None:
            certifiers = self.before
        if header.validators != certifiers.digest():
            raise ProofError("header of a validator set that is not trusted")
        check_certificate(certificate, self.chain_id, certifiers, self.fault_model)
        if rival and last is not None:
            raise ForkError(last, CertifiedHeader(header, certificate))
        # An older header is believed, for proofs under it, and moves nothing.
        if header.height <= self.height:
            return self
        believed = CertifiedHeader(header, certificate)
        after = replace(self, height=header.height, last=believed)
        if header.next_validators == header.validators:
            return after
        # The header holds a hash alone, by which the next headers could not be checked.
        if following is None or following.digest() != header.next_validators:
            raise ProofError("header changes the validator set: show the new one")
        before, changed = self.validators, header.height
        return replace(after, validators=following, before=before, changed=changed)


def _check_certified(header: Header, certificate: Certificate) -> None:
    named = certificate.height, certificate.block_id
    if (header.height, header.block_id()) != named:
        raise ProofError("certificate is for another header")


def pin(genesis: Genesis) -> TrustedState:
    """Starts to trust a chain by its genesis."""
    return TrustedState(
        genesis.chain_id(), FaultModel(genesis.fault_model), 0, genesis.validators
    )


TRUSTED = structure(TrustedState, 24 * 1024)


def version_key(task: int, version: int) -> bytes:
    """The state key under which a final version's digest stands."""
    return b"version/%d/%d" % (task, version)


def task_key(task: int) -> bytes:
    """The state key under which a task's packed spec stands."""
    return b"task/%d" % task


def scores_key(task: int, version: int) -> bytes:
    """The state key under which a version's packed `SCORES` stand."""
    return b"score/%d/%d" % (task, version)


def payments_key(task: int, version: int, page: int) -> bytes:
    """The state key under which a page of a version's `PAYMENTS` stands."""
    return b"paid/%d/%d/%d" % (task, version, page)


class ModelManifest(Structure, frozen=True, dict=True):
    """A model version with everything that proves it.

    Attributes:
      task: Which task.
      version: Which version; it stands under `version_key` only once it is final.
      model: What the version consists of; its `version_digest` is the state's value.
      header: A certified header.
      certificate: Its certificate.
      version_proof: The version's digest under the header's state root.
      task_proof: The packed `TaskSpec` under the same root.
      handovers: The last changes of the validator set before the header, rising.
      rollback: The packed `TaskRollback` under the same root that the task's newest
        rollback was, if there was one.
      end: The entry under the same root that ended the task for good, if one did: its
        closure, or a held-out loss that is good enough.
    """

    task: TaskId
    version: Version
    model: ModelDigests
    header: Header
    certificate: Certificate
    version_proof: StateProof
    task_proof: StateProof
    handovers: Annotated[tuple[ValidatorSetTransition, ...], many(HANDOVERS_MAX)] = ()
    rollback: StateProof | None = None
    end: StateProof | None = None

    def check(self, trusted: TrustedState) -> tuple[TrustedState, TaskSpec]:
        """Believes the version, or says why not.

        Returns:
          What is trusted from now on, and the task.

        Raises:
          ProofError, SignatureError, DecodeError: If it does not prove the version.
        """
        # The handovers first: the header is of the set that they lead to.
        after = trusted.follow(self.handovers)
        after = after.accept(self.header, self.certificate)
        _check_entry(
            self.version_proof,
            self.header,
            version_key(self.task, self.version),
            version_digest(self.model),
        )
        key = task_key(self.task)
        # Any value that this key has is the spec, so that the key alone is compared.
        _check_entry(self.task_proof, self.header, key, self.task_proof.value)
        proof = self.rollback
        if proof is not None:
            if self.rolled_version > self.version:
                raise ProofError("a rollback after the version")
            _check_entry(proof, self.header, proof.key, proof.value)
        if self.end is not None:
            _check_entry(self.end, self.header, self.end.key, self.end.value)
        return after, self._spec

    @cached_property
    def is_over(self) -> bool:
        """True if the task grants no more leases, for good; proven with the rest.

        Raises:
          ProofError, DecodeError: If the proof of its end is of something else.
        """
        end, time_ms = self._spec.end, self.header.time_ms
        return task_end.is_over(end, self.task, self.version, time_ms, self.end)

    @property
    def rolled_version(self) -> Version:
        """The task's newest version that came from a rollback; 0 without any.

        Raises:
          ProofError: If the proof is of something else.
        """
        proof = self.rollback
        return Version(0) if proof is None else rolled_version(proof.key, self.task)

    @cached_property
    def rolled_back(self) -> TaskRollback | None:
        """Rollback that version came from; None without any."""
        return None if self.rollback is None else ROLLBACK.unpack(self.rollback.value)

    @cached_property
    def _spec(self) -> TaskSpec:
        return TASK.unpack(self.task_proof.value)


MANIFEST_BYTES_MAX = 20 * 1024 + TASK_BYTES_MAX + HANDOVERS_MAX * HANDOVER.bytes_max
MANIFEST = structure(ModelManifest, MANIFEST_BYTES_MAX, short=True)


def _check_entry(proof: StateProof, header: Header, key: bytes, value: bytes) -> None:
    if (proof.key, proof.value) != (key, value):
        raise ProofError(f"the proof is not for {key!r} and its value")
    if proof.root() != header.state_root:
        raise ProofError(f"{key!r} does not lead to the header's state root")


class FinalityProof(Structure, frozen=True):
    """Proof that a transaction is in a certified block: a board may delete its bytes.

    Attributes:
      transaction: The envelope as it stands in the block.
      header: The block's header.
      certificate: Its certificate.
      index: The transaction's place.
      size: The block's number of transactions.
      path: From the transaction to the header's `tx_root`.
    """

    transaction: Envelope
    header: Header
    certificate: Certificate
    index: Annotated[int, uint(1 << 20)]
    size: Annotated[int, uint(1 << 20, 1)]
    path: Annotated[tuple[Digest, ...], many(merkle.PATH_MAX)]

    def check(self, trusted: TrustedState) -> TrustedState:
        """Believes that the transaction is final, or says why not.

        Raises:
          ProofError, SignatureError: If it is not proven.
        """
        after = trusted.recognise(self.header, self.certificate)
        leaf = merkle.leaf_hash(ENVELOPE.pack(self.transaction))
        found = merkle.root_from_path(leaf, self.index, self.size, self.path)
        if found != self.header.tx_root:
            raise ProofError("the path does not lead to the header's tx root")
        return after


FINAL = structure(FinalityProof, ENVELOPE_BYTES_MAX + 8192)

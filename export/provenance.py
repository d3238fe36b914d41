"""A version of a model with everything that proves it, and how that is told.

Nothing is exported that is not proven: the version's digest stands in the state under a
certified header, the parameters have the digest that the version's digest is made of,
and the bundle the one that the task in that state names.
"""

import base64
import json
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from starling.coordinator.chain.verification.receipt import RECEIPT, Receipt
from starling.coordinator.task_file.privacy_statement import (
    PrivacyStatement,
    promise,
)
from starling.engine.opened_bundle import OpenedBundle, open_packed
from starling.protocol.chain.genesis import FaultModel, ValidatorSet, quorum
from starling.protocol.chain.light_client import TrustedState, task_key, version_key
from starling.protocol.errors import NonFinite, ProofError
from starling.protocol.ids import H
from starling.protocol.learning.task import (
    E12,
    TASK,
    ModelDigests,
    TaskSpec,
    version_digest,
)
from starling.protocol.model.training_bundle import bundle_digest
from starling.protocol.privacy.mechanisms import epsilon_shown

METADATA_PREFIX = "starling."


@dataclass(frozen=True)
class VersionRow:
    """Facts of a version, for people.

    Attributes:
      task: Its task.
      version: Its number.
      kept: Whether its parameters are there.
      time_ms: Unix time when it was learned that it is final; None if unknown.
      updates: How many made it; None if unknown.
      accuracy: On held-out data, in [0, 1]; None if unknown or without meaning.
      loss: On held-out data; None if unknown.
      epsilon: The most that a board's data had paid by then; None if unknown or
        without privacy.
    """

    task: int
    version: int
    kept: bool
    time_ms: int | None = None
    updates: int | None = None
    accuracy: float | None = None
    loss: float | None = None
    epsilon: float | None = None


@dataclass(frozen=True)
class Claim:
    """Version as a home describes it, before anything of it is believed.

    Attributes:
      fleet: The fleet's name.
      row: What is known of the version.
      digests: What it consists of.
      version: Proof of its digest in the state.
      task: Proof of its task in the state.
      bundle: Packed.
      theta: (d,) little-endian float32: the average that boards use.
      own: The board's own values put in the place of the fleet's; None for none.
    """

    fleet: str
    row: VersionRow
    digests: ModelDigests
    version: Receipt
    task: Receipt
    bundle: bytes
    theta: bytes
    own: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class ProvenModel:
    """A version whose proof holds.

    Attributes:
      claim: As it was claimed.
      spec: The task, from the proven state.
      opened: The bundle, checked.
      theta: (d,) float32, with the board's own values if they were asked for.
      validators: The set that certified the header.
      fault_model: Of the chain.
    """

    claim: Claim
    spec: TaskSpec
    opened: OpenedBundle
    theta: NDArray[np.float32]
    validators: ValidatorSet
    fault_model: FaultModel

    @property
    def privacy(self) -> PrivacyStatement:
        """Promise of the task to a board's owner."""
        return promise(self.spec)

    @property
    def is_boards_own(self) -> bool:
        """True if a board trained it for itself, on exact gradients of its records."""
        return self.claim.own is not None and self.spec.personal.epochs > 0

    @property
    def signers(self) -> tuple[str, ...]:
        """Names of the coordinators that certified the header."""
        entry = self.claim.version.entry
        assert entry is not None
        members = self.validators.members
        return tuple([members[place].name for place in entry.certificate.members()])

    @property
    def quorum(self) -> int:
        """Number of validators that decide."""
        return quorum(len(self.validators.members), self.fault_model)


def proven(claim: Claim, trusted: TrustedState) -> ProvenModel:
    """Believes a claim, or says why not.

    Args:
      claim: What is claimed.
      trusted: What is believed of the chain; the changes of validators that the claim
        shows lead on from there.

    Raises:
      ProofError, SignatureError: If something is not proven.
      DecodeError, LimitError: If the bundle is not one that is run.
      NonFinite: If a parameter is no number.
    """
    row = claim.row
    version = _believed(
        claim.version, trusted, version_key(row.task, row.version), "version"
    )
    # The chain holds one digest of all that a version consists of.
    if version != version_digest(claim.digests):
        raise ProofError(f"version {row.version}: its digests are not the chain's")
    # From the state and not from the home: the bundle and the promise of privacy hang
    # on it.
    spec = TASK.unpack(_believed(claim.task, trusted, task_key(row.task), "task"))
    if H(claim.theta) != claim.digests.inference:
        raise ProofError(f"version {row.version}: its parameters are not the chain's")
    if bundle_digest(claim.bundle) != spec.bundle:
        raise ProofError(f"task {row.task}: its bundle is not the chain's")
    # Only then: a bundle is opened, and its graphs checked, once it is known to be the
    # task's.
    opened = open_packed(claim.bundle)
    theta = np.frombuffer(claim.theta, "<f4").astype(np.float32)
    if len(theta) != opened.manifest.dimension:
        raise ProofError(f"version {row.version}: has {len(theta)} parameters")
    if not np.isfinite(theta).all():
        raise NonFinite(f"version {row.version}: a parameter is no number")
    after = trusted.follow(claim.version.handovers)
    shown = claim.version.header.validators
    sets = [found for found in (after.validators, after.before) if found is not None]
    # A header at which the set changes is still certified by the set before.
    validators = next(found for found in sets if found.digest() == shown)
    return ProvenModel(
        claim, spec, opened, theta, validators, FaultModel(trusted.fault_model)
    )


def with_own(model: ProvenModel, theta: NDArray[np.float32]) -> ProvenModel:
    """The model with a board's own values in theta, (d,) float32."""
    return replace(model, theta=theta, claim=replace(model.claim, own=theta))


def _believed(receipt: Receipt, trusted: TrustedState, key: bytes, what: str) -> bytes:
    """The value of a key of the state, once its proof holds.

    Raises:
      ProofError, SignatureError: If it does not.
    """
    if receipt.entry is None or receipt.entry.proof.key != key:
        raise ProofError(f"{what}: the proof is of something else")
    # Whoever already believes this header would take its certificate for checked.
    fresh = replace(trusted, last=None)
    receipt.entry.check(fresh.follow(receipt.handovers))
    value: bytes = receipt.entry.proof.value
    return value


def epsilon_paid(spec: TaskSpec, charge: int) -> float | None:
    """Epsilon of a charge of the chain's under a task; None without privacy."""
    policy = spec.privacy
    if not policy.mechanism:
        return None
    return epsilon_shown(charge, (policy,), policy.delta_e12 / E12)


def privacy_document(model: ProvenModel) -> dict[str, object] | None:
    """Unit, bound and what was paid, as JSON takes it; None without privacy.

    A board's own model has none, whatever the task promises of what is sent.
    """
    promised = model.privacy
    if promised.mechanism == "none" or model.is_boards_own:
        return None
    names = ("mechanism", "unit", "adjacency", "epsilon", "delta", "releases")
    stated = {name: asdict(promised)[name] for name in names}
    return {**stated, "epsilon_paid_at_most": model.claim.row.epsilon}


def metadata(
    model: ProvenModel, parameters: tuple[str, ...], more: dict[str, str] | None = None
) -> dict[str, str]:
    """Metadata of an exported file.

    Args:
      model: Proven.
      parameters: Names of the initializers that make up theta, in its order.
      more: Further keys, without prefix.
    """
    claim, manifest = model.claim, model.opened.manifest
    header = claim.version.header
    stated: dict[str, object] = {
        "format": "1",
        "fleet": claim.fleet,
        "chain": header.chain_id.hex(),
        "fault_model": model.fault_model.name.lower(),
        "task": str(claim.row.task),
        "task_name": model.spec.name,
        "version": str(claim.row.version),
        "version_digest": version_digest(claim.digests).hex(),
        "parameters_digest": claim.digests.inference.hex(),
        "parameters": list(parameters),
        "bundle": model.spec.bundle.hex(),
        "height": str(header.height),
        "block": header.block_id().hex(),
        "signers": list(model.signers),
        "quorum": f"{model.quorum} of {len(model.validators.members)}",
        # The proof goes with the file, so that who gets it needs the genesis alone.
        "receipt": base64.b64encode(RECEIPT.pack(claim.version)).decode(),
        "privacy": privacy_document(model),
        "held_out": {"accuracy": claim.row.accuracy, "loss": claim.row.loss},
        "loss": manifest.loss,
        "classes": list(manifest.classes),
        "preprocessing": asdict(manifest.preprocessing),
        "columns": None if manifest.table is None else manifest.table.document(),
        "personal": claim.own is not None,
        "origin": manifest.origin,
        **(more or {}),
    }
    return {
        f"{METADATA_PREFIX}{key}": value
        if isinstance(value, str)
        else json.dumps(value)
        for key, value in stated.items()
    }

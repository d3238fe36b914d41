"""The model that a board's home holds."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from starling.agent.runtime.storage.agent_home import AgentHome
from starling.agent.runtime.storage.trusted_state_file import (
    PROOF_FILE,
    StoredTrust,
    read_progress,
)
from starling.agent.trainer.personal_layers_file import personal_model, with_head
from starling.coordinator.chain.verification.receipt import Receipt, StateEntry
from starling.durable.files import read_if_present
from starling.export.provenance import (
    Claim,
    ProvenModel,
    VersionRow,
    with_own,
)
from starling.export.provenance import proven as proven_claim
from starling.protocol.chain.genesis import Genesis
from starling.protocol.chain.light_client import MANIFEST, ModelManifest, TrustedState
from starling.protocol.crypto.state_tree import StateProof
from starling.protocol.errors import (
    ConfigError,
    OperationError,
    ProtocolError,
    StorageError,
)
from starling.protocol.ids import Digest
from starling.protocol.learning.task import TASK, ModelDigests
from starling.protocol.model.parameter_layout import DIMENSION_MAX
from starling.protocol.model.training_bundle import BUNDLE_BYTES_MAX

_THETA_BYTES_MAX = 4 * DIMENSION_MAX


class BoardModels:
    """See `export.runtime.model_source.ModelSource`: what the board uses."""

    def __init__(self, home: Path, genesis: Genesis | None = None) -> None:
        """Reads what the board believes.

        Args:
          home: The board's.
          genesis: Whose chain it must be; the admission's by default.

        Raises:
          ConfigError: If the board is not enrolled, or on another chain.
          OperationError: If it has not heard of a version yet.
          StorageError: If what it keeps is damaged.
        """
        self._home = AgentHome(home)
        admission = self._home.admission()
        if admission is None:
            raise ConfigError(
                "missing; run: starling agent enrol",
                file=str(self._home.admission_file),
            )
        if genesis and genesis.chain_id() != admission.genesis.chain_id():
            raise ConfigError("its chain has another genesis", file=str(home))
        self._fleet = admission.genesis.fleet
        self._known: dict[int, _Shown] = {}
        # The version in use, and the newest that the board was shown: it may lack the
        # bytes of that one.
        places = (self._home.models / PROOF_FILE, self._home.state / "progress")
        for file in places:
            progress = read_progress(file, admission.pinned)
            if progress.manifest:
                shown = _shown(progress, file)
                self._known[shown.manifest.version] = shown
        if not self._known:
            raise OperationError("the board has not been shown a version yet")

    def close(self) -> None:
        """Nothing stays open."""

    def rows(self, task: int) -> tuple[VersionRow, ...]:
        """See `ModelSource`: the version in use, and the newest that is proven."""
        tasks = {shown.manifest.task for shown in self._known.values()}
        if task not in tasks:
            raise ConfigError(
                f"the board takes part in task {min(tasks)}", key="--task"
            )
        return tuple(
            [
                VersionRow(task, version, self._path(shown.model.inference).exists())
                for version, shown in sorted(self._known.items())
            ]
        )

    def ranks_by_loss(self, task: int) -> bool:
        """See `ModelSource`: a board evaluates nothing."""
        del task
        return False

    def proven(self, row: VersionRow) -> ProvenModel:
        """See `ModelSource`."""
        shown = self._known[row.version]
        manifest = shown.manifest
        spec = TASK.unpack(manifest.task_proof.value)
        claim = Claim(
            self._fleet,
            row,
            manifest.model,
            shown.receipt(manifest.version_proof),
            shown.receipt(manifest.task_proof),
            self._blob(spec.bundle, BUNDLE_BYTES_MAX, "the task's bundle"),
            self._blob(
                manifest.model.inference,
                _THETA_BYTES_MAX,
                f"the parameters of version {row.version}",
            ),
        )
        return proven_claim(claim, shown.trusted)

    def personal(self, model: ProvenModel) -> ProvenModel:
        """The board's own model, or the version with its parameters in their places.

        Raises:
          OperationError: If the task has neither, or none were trained yet.
        """
        manifest, bundle = model.opened.manifest, model.spec.bundle
        if model.spec.personal.epochs:
            # Falls back to the theta that it is given, which is how it shows that there
            # is none.
            own = personal_model(self._home.personal(bundle), model.theta)
            if own is model.theta:
                raise OperationError("the board has not trained a model of its own yet")
            return with_own(model, own)
        names = [item.name for item in manifest.parameters if item.local]
        if not names:
            raise OperationError("no parameter of this task stays on the board")
        theta = with_head(self._home.head(bundle), model.theta, manifest)
        if np.array_equal(theta, model.theta):
            raise OperationError(
                f"the board has not trained its own {', '.join(names)} yet"
            )
        return with_own(model, theta)

    def contributors(self, row: VersionRow) -> dict[str, int]:
        """See `ModelSource`: a board does not know the others."""
        del row
        return {}

    def _path(self, digest: Digest) -> Path:
        return self._home.models / digest.hex()

    def _blob(self, digest: Digest, bytes_max: int, what: str) -> bytes:
        content = read_if_present(self._path(digest), bytes_max)
        if content is None:
            raise OperationError(f"the board has not fetched {what}")
        return content


@dataclass(frozen=True)
class _Shown:
    """A manifest, and what was believed when it was.

    Attributes:
      manifest: Of one version.
      trusted: The set that certified its header, in front of it.
    """

    manifest: ModelManifest
    trusted: TrustedState

    @property
    def model(self) -> ModelDigests:
        """Parts of the version."""
        return self.manifest.model

    def receipt(self, proof: StateProof) -> Receipt:
        """Receipt of an entry of the state under the manifest's header."""
        manifest = self.manifest
        return Receipt(
            (), None, StateEntry(manifest.header, manifest.certificate, proof)
        )


def _shown(progress: StoredTrust, file: Path) -> _Shown:
    """Content of a file, with the validators that certified it.

    A manifest may stand at the very height at which the validators change; by then the
    board holds on to the set that follows, and to the one before it.

    Raises:
      StorageError: If it is damaged.
    """
    try:
        manifest = MANIFEST.unpack(progress.manifest)
    except ProtocolError as error:
        raise StorageError(f"{file}: damaged: {error}") from error
    known = progress.trusted
    certifies = known.validators
    # The header names its set: what the board believes last may be the one that
    # follows.
    if known.before and known.before.digest() == manifest.header.validators:
        certifies = known.before
    trusted = TrustedState(known.chain_id, known.fault_model, 0, certifies)
    return _Shown(manifest, trusted)

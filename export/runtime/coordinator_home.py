"""Models of a coordinator's home, or of what a fleet's report keeps of one."""

from collections import Counter
from pathlib import Path

from starling.coordinator.chain.state import board_records, task_records
from starling.coordinator.models.best_version import ranks_by_loss
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.storage import receipt_reader
from starling.coordinator.runtime.storage.sqlite_schema import CHAIN_FILE
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.export.provenance import Claim, ProvenModel, VersionRow, epsilon_paid
from starling.export.provenance import proven as proven_claim
from starling.protocol.chain.genesis import Genesis
from starling.protocol.chain.light_client import pin, task_key, version_key
from starling.protocol.errors import ConfigError, OperationError, StorageError
from starling.protocol.ids import device_name
from starling.protocol.learning.task import ModelDigests, TaskSpec
from starling.protocol.wire.envelope import ENVELOPE, MessageKind
from starling.protocol.wire.message_bodies import CONTRIBUTION


class CoordinatorModels:
    """See `export.runtime.model_source.ModelSource`."""

    def __init__(self, home: Path, genesis: Genesis | None = None) -> None:
        """Opens the chain to read it.

        Args:
          home: The coordinator's.
          genesis: Whose chain it must be; the home's own by default.

        Raises:
          ConfigError: If there is no chain, or another one.
          StorageError: If it is damaged.
        """
        self._store = SqliteStore.read(CoordinatorHome(home).state / CHAIN_FILE)
        ours = genesis or CoordinatorHome(home).genesis()
        # A genesis that the caller trusts, and a home that somebody else may have sent.
        if ours.chain_id() != self._store.genesis.chain_id():
            self._store.close()
            raise ConfigError("its chain has another genesis", file=str(home))
        self._genesis = ours

    def close(self) -> None:
        """Lets go of the file."""
        self._store.close()

    def rows(self, task: int) -> tuple[VersionRow, ...]:
        """See `ModelSource`."""
        spec = self._spec(task)
        found = []
        best = self._proven_best(task)
        for row in self._store.versions(task):
            digests = self._digests(task, row.version, spec)
            kept = (
                digests is not None
                # Parameters alone are not enough: what the state no more knows can be
                # proven by a kept receipt only.
                and (row.version == best or self._is_known(task, row.version))
                and self._store.has_blob(digests.inference)
            )
            found.append(
                VersionRow(
                    task,
                    row.version,
                    kept,
                    row.time_ms,
                    row.updates,
                    row.accuracy,
                    row.loss,
                    epsilon_paid(spec, row.charge_max),
                )
            )
        return tuple(found)

    def _is_known(self, task: int, version: int) -> bool:
        """True if the state knows a version, so that it can be proven."""
        return task_records.version(self._store, task, version) is not None

    def _proven_best(self, task: int) -> int | None:
        """The version whose proof was kept, so that the state need not know it."""
        kept = receipt_reader.kept_entry(self._store, task)
        if kept is None:
            return None
        numbers = [row.version for row in self._store.versions(task)]
        keys = {version_key(task, number): number for number in numbers}
        return keys.get(kept.proof.key)

    def ranks_by_loss(self, task: int) -> bool:
        """See `ModelSource`."""
        bundle = self._store.blob(self._spec(task).bundle)
        return bundle is not None and ranks_by_loss(bundle)

    def proven(self, row: VersionRow) -> ProvenModel:
        """See `ModelSource`."""
        task, version = row.task, row.version
        spec = self._spec(task)
        digests = self._digests(task, version, spec)
        theta = None if digests is None else self._store.blob(digests.inference)
        if digests is None or theta is None:
            raise OperationError(
                f"the parameters of version {version} are not kept; storage."
                "versions_kept says how many are, and `starling model list` which"
            )
        bundle = self._store.blob(spec.bundle)
        if bundle is None:
            raise OperationError(f"the bundle of task {task} has not come here yet")
        with self._store.one_moment():
            shown = receipt_reader.version(self._store, task, version)
            if shown is None:
                raise OperationError(
                    f"version {version} cannot be proven any more: the chain's state "
                    "knows some 250 versions behind the newest, and its proof was not "
                    "kept, as the best one's is; see `starling model list`"
                )
            claim = Claim(
                self._genesis.fleet,
                row,
                digests,
                shown,
                receipt_reader.entry(self._store, task_key(task)),
                bundle,
                theta,
            )
        # From the genesis on, as anybody would check it: our own store is not believed
        # either.
        return proven_claim(claim, pin(self._genesis))

    def contributors(self, row: VersionRow) -> dict[str, int]:
        """See `ModelSource`: of the blocks whose transactions are kept."""
        store, counted = self._store, Counter[str]()
        with store.one_moment():
            for height in range(store.first_body(), store.height() + 1):
                stored = store.block(height)
                if stored is None:
                    raise StorageError(f"block {height} is missing from the chain")
                for packed in stored.block.transactions:
                    envelope = ENVELOPE.unpack(packed)
                    if envelope.kind == MessageKind.UPDATE:
                        made = CONTRIBUTION.unpack(envelope.body)
                        # An update of base v can be in version v + 1 at the earliest.
                        # Which one took it, the state forgets once that is final.
                        if made.task == row.task and made.version < row.version:
                            owner = board_records.owner(store, envelope.sender)
                            counted[device_name(owner)] += 1
        return dict(counted)

    def _spec(self, task: int) -> TaskSpec:
        spec = task_records.task(self._store, task)
        if spec is None:
            count = task_records.task_count(self._store)
            known = f"tasks 0 to {count - 1}" if count else "no task yet"
            raise ConfigError(f"there is no task {task}, but {known}", key="--task")
        return spec

    def _digests(self, task: int, version: int, spec: TaskSpec) -> ModelDigests | None:
        if version == 0:
            return spec.initial
        return self._store.model(task, version)

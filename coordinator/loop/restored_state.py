"""Initial state of a coordinator's core, read from what is stored."""

from collections.abc import Sequence

from starling.coordinator.chain.governance import slashing
from starling.coordinator.chain.node import node
from starling.coordinator.chain.state import (
    board_records,
    task_records,
    transaction_codec,
)
from starling.coordinator.chain.storage.chain_store import ChainStore, StoredHead
from starling.coordinator.loop.storage.blob_cache import update_of
from starling.coordinator.machine import RestoredState
from starling.coordinator.models.model_versions import BLOBS_OFFERED_MAX
from starling.coordinator.step.effects import Effect, EvaluateVersion
from starling.coordinator.step.state import CoordinatorSettings, CoordinatorState
from starling.protocol.chain.evidence import base_place
from starling.protocol.chain.light_client import HANDOVERS_MAX
from starling.protocol.crypto.state_tree import StateTree
from starling.protocol.ids import TaskId, Version
from starling.protocol.learning.task import ModelDigests, TaskSpec
from starling.protocol.wire.envelope import Envelope

TRIALS_MAX = 3
"""Of one version; a graph that cannot be run is not tried at every start."""


def _ledger(
    settings: node.ChainSettings,
    store: ChainStore,
    tip: StoredHead,
    votes: Sequence[bytes],
    now_s: float,
) -> node.ChainState:
    stored = None if tip.header is None else store.block(tip.header.height)
    last = None if stored is None else stored.block
    return node.begin(
        settings, tip.header, tip.certificate, tip.tree, votes, now_s, last
    )


def restore(
    settings: CoordinatorSettings,
    store: ChainStore,
    votes: Sequence[bytes],
    counter: int,
    now_s: float,
) -> RestoredState:
    """Initial state of the core, from what is stored.

    Args:
      settings: Of the core.
      store: The chain.
      votes: The vote journal's entries, in order.
      counter: Above every counter that was ever signed with.
      now_s: Monotonic clock.

    Raises:
      StorageError: If what is stored is damaged.
    """
    tip = store.tip()
    ledger = _ledger(settings.ledger, store, tip, votes, now_s)
    models: dict[TaskId, tuple[Version, ModelDigests]] = {}
    attested: dict[TaskId, ModelDigests] = {}
    blobs = {}
    charge_max = 0
    for number in range(task_records.task_count(tip.tree)):
        task = TaskId(number)
        spec = task_records.task(tip.tree, number)
        assert spec is not None
        # The chain may be ahead of what we hold: others give us the version then.
        head, model = _newest(store, task, spec)
        models[task] = (head, model)
        following = store.model(number, head + 1)
        if following is not None:
            attested[task] = following
        recent = range(max(1, head - BLOBS_OFFERED_MAX // 2 + 1), head + 1)
        older = [store.model(number, version) for version in recent] or [spec.initial]
        blobs[task] = tuple(
            digest
            for each in older
            if each is not None
            for digest in (each.training, each.inference)
        )
        charges = [version.charge_max for version in store.versions(number)]
        charge_max = max([charge_max, *charges])
    uploads = [stored.update for stored in store.uploads_waiting()]
    kept = store.evidence()
    spent = [pair for pair in kept if not _reached(tip.tree, pair[1])]
    return RestoredState(
        ledger,
        counter,
        models,
        blobs,
        uploads,
        charge_max,
        attested,
        _unpunished(store, tip.tree),
        spent,
        store.epochs()[-HANDOVERS_MAX:],
    )


def _unpunished(store: ChainStore, tree: StateTree) -> list[tuple[Envelope, Envelope]]:
    """Contradicting updates that may still be convicted, one pair of each board."""
    found: dict[bytes, tuple[Envelope, Envelope]] = {}
    for known, other in store.evidence():
        first = update_of(store, known)
        if first is None or _is_punished(tree, other) or not _reached(tree, other):
            continue
        found.setdefault(board_records.owner(tree, other.sender), (first, other))
    return list(found.values())


def _is_punished(tree: StateTree, update: Envelope) -> bool:
    """True if the update's board is convicted for its base, or excluded for good."""
    known = board_records.fault(tree, update.sender)
    if known is None:
        return False
    body = transaction_codec.contribution(update.body)
    # A board that was jailed for one base answers for the next one, too.
    is_excluded = len(known.places) >= board_records.CONVICTIONS_MAX
    return is_excluded or base_place(body.task, body.version) in known.places


def _reached(tree: StateTree, update: Envelope) -> bool:
    """True if the chain still takes evidence of an update's base version."""
    body = transaction_codec.contribution(update.body)
    return slashing.is_within_age(tree, body.task, body.version)


def _newest(
    store: ChainStore, task: TaskId, spec: TaskSpec
) -> tuple[Version, ModelDigests]:
    """The newest final version whose bytes the store has; else version 0."""
    for noted in reversed(store.versions(task)):
        model = store.model(task, noted.version) if noted.version else None
        if model is not None:
            return Version(noted.version), model
    return Version(0), spec.initial


def unevaluated(store: ChainStore, state: CoordinatorState) -> list[Effect]:
    """The newest versions that a crash kept from being tried."""
    found: list[Effect] = []
    for task in state.tasks.values():
        known = {each.version: each for each in store.versions(task.number)}
        newest = known.get(task.head)
        if newest is None or newest.failures >= TRIALS_MAX:
            continue
        if newest.loss is None:
            inference, bundle = task.model.inference, task.spec.bundle
            found.append(EvaluateVersion(task.number, task.head, inference, bundle))
    return found

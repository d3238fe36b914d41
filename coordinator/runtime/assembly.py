"""Opens what a coordinator runs with, and brings its core to where it stopped."""

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from starling.broker.link_events import LinkSettings, MqttMessage
from starling.coordinator import machine
from starling.coordinator.aggregation.version_computation import recompute
from starling.coordinator.chain.consensus.round_state import Timeouts
from starling.coordinator.chain.gossip_messages import NONCE_BYTES
from starling.coordinator.chain.governance import slashing
from starling.coordinator.chain.node import node
from starling.coordinator.chain.state import (
    board_records,
    task_records,
    transaction_codec,
)
from starling.coordinator.chain.storage.chain_store import ChainStore, StoredHead
from starling.coordinator.config import CoordinatorConfig
from starling.coordinator.leases.client_selection import SELECTIONS
from starling.coordinator.machine import RestoredState
from starling.coordinator.models.model_versions import WHOLES_MAX
from starling.coordinator.runtime.environment import Compute
from starling.coordinator.runtime.evaluation.evaluator import Evaluator, load_held_out
from starling.coordinator.runtime.home import CoordinatorHome, link_settings
from starling.coordinator.runtime.setup.double_sign_guard import (
    machine_name,
    voted_again,
    votes_from,
)
from starling.coordinator.runtime.setup.peer_invitations import peer_links
from starling.coordinator.runtime.setup.pinned_header import check_pinned
from starling.coordinator.runtime.status.counters import CoordinatorCounters
from starling.coordinator.runtime.status.status_document import StatusFile
from starling.coordinator.runtime.storage.blob_cache import BlobCache, update_of
from starling.coordinator.runtime.storage.fork_proof_file import read_fork
from starling.coordinator.runtime.storage.persistence import Persistence
from starling.coordinator.runtime.storage.sqlite_schema import CHAIN_FILE
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.coordinator.runtime.storage.vote_journal import VOTES_FILE, VoteJournal
from starling.coordinator.runtime.workers import JobWorkers
from starling.coordinator.step.effects import Effect, EvaluateVersion
from starling.coordinator.step.state import CoordinatorSettings, CoordinatorState
from starling.coordinator.update.admission_checks import AdmissionContext
from starling.protocol.chain.genesis import Genesis
from starling.protocol.chain.light_client import HANDOVERS_MAX
from starling.protocol.crypto.state_tree import StateTree
from starling.protocol.errors import ConfigError
from starling.protocol.ids import TaskId, Version, device_from_name
from starling.protocol.learning.task import ModelDigests, TaskSpec
from starling.protocol.wire.envelope import Envelope
from starling.protocol.wire.topics import Topics

GROWTH_S = 0.5
"""Of consensus timeouts from round to round."""
PATIENCE_S = 0.25
"""That others give a height's proposer before they begin without having heard it."""
LISTEN_S = 2.5
"""How long a validator of several only listens after its start: time to connect, to say
twice what it holds, and to be sent its votes that others have and its journal lacks."""
TRIAL_FOLDER = "trial"
TRIALS_MAX = 3
"""Of one version; a graph that cannot be run is not tried at every start."""
COUNTERS_PER_BOOT_BITS = 32
"""Envelope counters start anew above all earlier ones at each start."""


@dataclass(frozen=True)
class AssembledCoordinator:
    """Everything that a running coordinator consists of."""

    settings: CoordinatorSettings
    state: CoordinatorState
    effects: tuple[Effect, ...]
    store: ChainStore
    votes: VoteJournal
    persistence: Persistence
    wholes: BlobCache
    workers: JobWorkers
    tally: CoordinatorCounters
    status: StatusFile
    link: LinkSettings
    peer_links: list[LinkSettings]


def assemble(
    home: CoordinatorHome,
    on_event: Callable[[Any], None],
    now_s: float,
    now_ms: int,
    compute: Compute = recompute,
) -> AssembledCoordinator:
    """Opens everything; connects to nothing.

    Args:
      home: The folder.
      on_event: Called from the workers' threads with events and failures.
      now_s: Monotonic clock.
      now_ms: Unix time.
      compute: Makes a version from its job.

    Raises:
      ConfigError: Naming file, key and bound.
      StorageError: If what is stored is damaged.
    """
    config, genesis = home.config(), home.genesis()
    settings = _settings(home, config, genesis)
    evaluator = _evaluator(home, config)
    public, chain_id = settings.ledger.key.public, settings.ledger.chain_id
    leave = votes_from(home.keys, home.state, chain_id, public, machine_name())
    # First the journal, whose lock makes us the only coordinator in this folder.
    done = partial(voted_again, home.state) if leave.operator else None
    votes = VoteJournal(home.state / VOTES_FILE, on_first=done)
    store = _open_store(home, genesis)
    check_pinned(store, home.pinned(), str(home.pinned_file))
    counter = home.next_counter("boots") << COUNTERS_PER_BOOT_BITS
    ledger = replace(
        settings.ledger,
        votes_from=leave.height,
        resumed_by=leave.operator,
        listen_s=LISTEN_S,
        fork=read_fork(home.state),
        pinned=home.pinned(),
        status_from=counter,
        nonce=os.urandom(NONCE_BYTES),
    )
    settings = replace(settings, ledger=ledger)
    restored = restore(settings, store, votes.entries, counter + 1, now_s)
    height = restored.ledger.height
    state, effects = machine.begin(settings, restored, now_s, now_ms)
    tally = _tally(home.status, now_ms)
    wholes, key = BlobCache(store), settings.gate.key
    workers = JobWorkers(store, wholes, key, evaluator, on_event, on_event, compute)
    will = machine.farewell(settings, counter, height)
    subscriptions = settings.topics.coordinator_filters(settings.name)
    link = replace(
        link_settings(home, config, subscriptions),
        will=MqttMessage(will.topic, will.payload, retain=True),
    )
    return AssembledCoordinator(
        settings,
        state,
        (*effects, *unevaluated(store, state)),
        store,
        votes,
        Persistence(store, votes, height, config.storage.versions_kept),
        wholes,
        workers,
        tally,
        StatusFile(home.status, settings, store, tally),
        link,
        peer_links(home, settings.topics),
    )


def _settings(
    home: CoordinatorHome, config: CoordinatorConfig, genesis: Genesis
) -> CoordinatorSettings:
    key = home.signing_key()
    ledger = node.ChainSettings(
        genesis,
        key,
        transactions_max=config.ledger.transactions_max,
        block_interval_s=config.ledger.block_interval_s,
        timeouts=Timeouts(
            config.ledger.propose_timeout_s, config.ledger.vote_timeout_s, GROWTH_S
        ),
        patience_s=PATIENCE_S,
    )
    return CoordinatorSettings(
        ledger=ledger,
        gate=AdmissionContext(genesis.chain_id(), home.sealing_key()),
        topics=Topics(genesis.fleet),
        selection=SELECTIONS[config.leases.selection],
        selection_seed=os.urandom(32),
        lease_s=config.leases.duration_s,
        chunks_per_s=config.transfer.chunks_per_s,
        chunks_burst=config.transfer.chunks_burst,
        audit_blocks=config.storage.audit_blocks,
        audit_ms=1000 * config.storage.audit_s,
        body_blocks=config.storage.body_blocks,
        shared=config.broker.shared and not peer_links(home, Topics(genesis.fleet)),
    )


def _evaluator(home: CoordinatorHome, config: CoordinatorConfig) -> Evaluator | None:
    if not config.evaluation.data:
        return None
    held_out = load_held_out(home.path / config.evaluation.data)
    folder = home.state / TRIAL_FOLDER
    return Evaluator(held_out, config.evaluation.batch, folder)


def _open_store(home: CoordinatorHome, genesis: Genesis) -> SqliteStore:
    path = home.state / CHAIN_FILE
    if not path.exists():
        return SqliteStore.create(path, genesis)
    store = SqliteStore.open(path)
    if store.genesis != genesis:
        raise ConfigError("starts from another genesis", file=str(path))
    return store


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
    wholes = {}
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
        recent = range(max(1, head - WHOLES_MAX // 2 + 1), head + 1)
        older = [store.model(number, version) for version in recent] or [spec.initial]
        wholes[task] = tuple(
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
        wholes,
        uploads,
        charge_max,
        attested,
        _unpunished(store, tip.tree),
        spent,
        store.epochs()[-HANDOVERS_MAX:],
    )


def _unpunished(store: ChainStore, tree: StateTree) -> list[tuple[Envelope, Envelope]]:
    """Contradicting updates of boards that are not convicted, one pair of each."""
    found: dict[bytes, tuple[Envelope, Envelope]] = {}
    for known, other in store.evidence():
        first = update_of(store, known)
        punished = board_records.fault(tree, other.sender) is not None
        if first is not None and not punished and _reached(tree, other):
            found.setdefault(other.sender, (first, other))
    return list(found.values())


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


def _tally(status: Path, now_ms: int) -> CoordinatorCounters:
    """The counters, with those that the last run wrote; they are for people only."""
    tally = CoordinatorCounters(now_ms)
    try:
        document = json.loads(status.read_text())
        updates = document["updates"]
        tally.accepted = int(updates["accepted"])
        tally.refused = Counter(updates["refused"])
        for row in document["devices"]:
            count = tally.device(device_from_name(row["id"]))
            count.refused = Counter(row["updates_refused"])
            count.bytes_up = int(row["bytes_up"])
            count.bytes_down = int(row["bytes_down"])
    # Missing, torn or of an older form: counting starts anew.
    except (OSError, ValueError, LookupError, TypeError):
        return CoordinatorCounters(now_ms)
    return tally

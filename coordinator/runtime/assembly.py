"""Opens what a coordinator runs with, and brings its core to where it stopped."""

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from starling.broker.link_events import LinkSettings
from starling.coordinator.chain.consensus.round_state import Timeouts
from starling.coordinator.chain.gossip_messages import NONCE_BYTES
from starling.coordinator.chain.node import node
from starling.coordinator.chain.storage.chain_store import ChainStore
from starling.coordinator.config import CoordinatorConfig
from starling.coordinator.leases.client_selection import SELECTIONS
from starling.coordinator.loop.counters import CoordinatorCounters
from starling.coordinator.loop.event_loop import CoordinatorLoop, first_counter
from starling.coordinator.loop.ports import Clock, LoopPorts
from starling.coordinator.loop.update_spans import CoordinatorSpans
from starling.coordinator.runtime.command_inbox import CommandInbox
from starling.coordinator.runtime.environment import CoordinatorEnvironment
from starling.coordinator.runtime.evaluation.evaluator import (
    Evaluator,
    load_held_out,
    pinned_root,
)
from starling.coordinator.runtime.home import CoordinatorHome, link_settings
from starling.coordinator.runtime.process_monitor import ProcessMonitor
from starling.coordinator.runtime.setup.peer_invitations import peer_links
from starling.coordinator.runtime.setup.pinned_header import check_pinned
from starling.coordinator.runtime.status.status_document import StatusFile
from starling.coordinator.runtime.status.status_reader import read_status
from starling.coordinator.runtime.storage.double_sign_guard import (
    VotingStart,
    machine_name,
    voted_again,
    votes_from,
)
from starling.coordinator.runtime.storage.fork_proof_file import read_fork, write_fork
from starling.coordinator.runtime.storage.sqlite_schema import CHAIN_FILE
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.coordinator.runtime.storage.vote_journal import VOTES_FILE, VoteJournal
from starling.coordinator.runtime.workers import JobWorkers
from starling.coordinator.step.effects import RecordRefusal
from starling.coordinator.step.state import CoordinatorSettings
from starling.coordinator.update.admission_checks import AdmissionContext
from starling.protocol.chain.genesis import Genesis
from starling.protocol.errors import ConfigError, FederationError, Reason
from starling.protocol.ids import DeviceId, device_from_name
from starling.protocol.wire.topics import Topics
from starling.protocol.wire.trace_context import TRACEPARENT
from starling.service.span_file import open_tracer

GROWTH_S = 0.5
"""Of consensus timeouts from round to round."""
PATIENCE_S = 0.25
"""That others give a height's proposer before they begin without having heard it."""
LISTEN_S = 2.5
"""How long a validator of several only listens after its start: time to connect, to say
twice what it holds, and to be sent its votes that others have and its journal lacks."""
TRIAL_FOLDER = "trial"
ROOT_FOLDER = "root"


@dataclass(frozen=True)
class AssembledCoordinator:
    """Everything that a running coordinator consists of."""

    loop: CoordinatorLoop
    monitor: ProcessMonitor
    store: ChainStore
    votes: VoteJournal
    workers: JobWorkers
    link: LinkSettings
    peer_links: list[LinkSettings]


def assemble(
    home: CoordinatorHome,
    put: Callable[[Any], None],
    surroundings: CoordinatorEnvironment,
) -> AssembledCoordinator:
    """Opens everything; connects to nothing.

    Args:
      home: The folder.
      put: Called from any thread with events and failures.
      surroundings: The world.

    Raises:
      ConfigError: Naming file, key and bound.
      StorageError: If what is stored is damaged.
    """
    config, genesis = home.config(), home.genesis()
    settings = _settings(home, config, genesis)
    evaluator = _evaluator(home, config)
    leave = _permit(home, settings)
    # First the journal, whose lock makes us the only coordinator in this folder.
    done = partial(voted_again, home.state) if leave.operator else None
    votes = VoteJournal(home.state / VOTES_FILE, on_first=done)
    store = _open_store(home, genesis)
    check_pinned(store, home.pinned(), str(home.pinned_file))
    counter = first_counter(home.next_counter("boots"))
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
    clock = surroundings.clock
    tally = _tally(home.status, clock)
    workers = JobWorkers(evaluator, _root(home, config), put, put)
    status = StatusFile(home.status, settings, store, tally)
    link = link_settings(home, config, settings.topics)
    monitor = ProcessMonitor(home, link.address, clock, status)
    ports = LoopPorts(
        clock,
        store,
        votes,
        CommandInbox(home.inbox, clock.now_s),
        workers,
        monitor,
        put,
        partial(write_fork, home.state),
        surroundings.compute,
        spans=_spans(home, tally),
    )
    kept = config.storage.versions_kept
    loop = CoordinatorLoop(settings, ports, counter, kept, tally)
    link = replace(link, will=loop.will)
    peers = peer_links(home, settings.topics)
    return AssembledCoordinator(loop, monitor, store, votes, workers, link, peers)


def _spans(
    home: CoordinatorHome, tally: CoordinatorCounters
) -> CoordinatorSpans | None:
    tracer = open_tracer("coordinator", home.name)
    if tracer is None:
        return None

    def ignored(device: DeviceId) -> None:
        tally.refuse(RecordRefusal(device, Reason.MALFORMED, TRACEPARENT))

    return CoordinatorSpans(tracer, ignored)


def _settings(
    home: CoordinatorHome, config: CoordinatorConfig, genesis: Genesis
) -> CoordinatorSettings:
    key, root = home.signing_key(), config.evaluation.root
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
        # Unknown to boards, so that none can tell when its turn comes.
        selection_seed=os.urandom(32),
        lease_s=config.leases.duration_s,
        chunks_per_s=config.transfer.chunks_per_s,
        chunks_burst=config.transfer.chunks_burst,
        audit_blocks=config.storage.audit_blocks,
        audit_ms=1000 * config.storage.audit_s,
        vectors_bytes=config.storage.vectors_mib << 20,
        body_blocks=config.storage.body_blocks,
        shared=config.broker.shared and not peer_links(home, Topics(genesis.fleet)),
        root=pinned_root(home.path / root) if root else None,
    )


def _permit(home: CoordinatorHome, settings: CoordinatorSettings) -> VotingStart:
    public, chain_id = settings.ledger.key.public, settings.ledger.chain_id
    return votes_from(home.keys, home.state, chain_id, public, machine_name())


def _evaluator(home: CoordinatorHome, config: CoordinatorConfig) -> Evaluator | None:
    if not config.evaluation.data:
        return None
    held_out = load_held_out(home.path / config.evaluation.data)
    folder = home.state / TRIAL_FOLDER
    return Evaluator(held_out, config.evaluation.batch, folder)


def _root(home: CoordinatorHome, config: CoordinatorConfig) -> Evaluator | None:
    if not config.evaluation.root:
        return None
    path = home.path / config.evaluation.root
    examples = load_held_out(path, "evaluation.root")
    return Evaluator(examples, config.evaluation.batch, home.state / ROOT_FOLDER)


def _open_store(home: CoordinatorHome, genesis: Genesis) -> SqliteStore:
    path = home.state / CHAIN_FILE
    if not path.exists():
        return SqliteStore.create(path, genesis)
    store = SqliteStore.open(path)
    # Another chain's file under this home: its blocks would be signed for with our key.
    if store.genesis != genesis:
        raise ConfigError("starts from another genesis", file=str(path))
    return store


def _tally(status: Path, clock: Clock) -> CoordinatorCounters:
    """The counters, with those that the last run wrote; they are for people only."""
    tally = CoordinatorCounters(clock.now_ms(), clock.now_s)
    try:
        document = read_status(status) or {}
        updates = document["updates"]
        tally.accepted = int(updates["accepted"])
        tally.refused = Counter(updates["refused"])
        for row in document["devices"]:
            count = tally.device(device_from_name(row["id"]))
            count.refused = Counter(row["updates_refused"])
            count.bytes_up = int(row["bytes_up"])
            count.bytes_down = int(row["bytes_down"])
    # Missing, torn or of an older form: counting starts anew.
    except (FederationError, ValueError, LookupError, TypeError):
        return CoordinatorCounters(clock.now_ms(), clock.now_s)
    return tally

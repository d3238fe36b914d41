"""Document that `starling coordinator status` shows, made from the state."""

import json
import logging
import os
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

from starling.coordinator.chain.governance import credit_accounts
from starling.coordinator.chain.node.node import StateDiverged
from starling.coordinator.chain.state import (
    board_records,
    closure_records,
    task_records,
)
from starling.coordinator.chain.storage.chain_store import ChainStore, StoredVersion
from starling.coordinator.chain.tasks import (
    contribution_rewards,
    task_end,
)
from starling.coordinator.health.chain_stall import ChainStall, heartbeat_s
from starling.coordinator.health.consensus_status import attested, consensus
from starling.coordinator.loop.counters import CoordinatorCounters
from starling.coordinator.models import held_out_losses
from starling.coordinator.models.best_version import LossRankings
from starling.coordinator.peers import directory
from starling.coordinator.runtime.status import overload_report
from starling.coordinator.runtime.status.device_rows import DeviceRows
from starling.coordinator.runtime.status.host_health import HostReport, disk_section
from starling.coordinator.step.state import (
    CoordinatorSettings,
    CoordinatorState,
    TaskState,
)
from starling.coordinator.task_file.reward_settings import rewards_text
from starling.durable.files import replace_unsynced
from starling.protocol.errors import StorageError
from starling.protocol.ids import device_name
from starling.protocol.learning.reward_policy import RewardRule
from starling.protocol.learning.task import E12, LABEL_RESPONSE, PrivacyPolicy
from starling.protocol.privacy.mechanisms import NONE, epsilon_shown

log = logging.getLogger("starling.coordinator")

VERSIONS_SHOWN_MAX = 5000
_DELTA_WITHOUT_TASK = 1e-5


class StatusFile:
    """Makes the document and writes it; reads each version from the store once."""

    def __init__(
        self,
        path: Path,
        settings: CoordinatorSettings,
        store: ChainStore,
        tally: CoordinatorCounters,
    ) -> None:
        """Prepares to write.

        Args:
          path: `status.json`.
          settings: For names.
          store: For versions.
          tally: The counters.
        """
        self._path = path
        self._settings = settings
        self._store = store
        self._tally = tally
        self._epsilons: dict[tuple[int, float, frozenset[PrivacyPolicy]], float] = {}
        self._versions: dict[int, tuple[StoredVersion, ...]] = {}
        self._rankings = LossRankings(store.blob)
        self._devices = DeviceRows(tally)

    def versions_changed(self) -> None:
        """A version or its metrics were stored."""
        self._versions.clear()

    def write(
        self,
        state: CoordinatorState,
        condition: str,
        facts: HostReport,
        stall: ChainStall,
        now_s: float,
        now_ms: int,
    ) -> None:
        """Replaces the file; not synced, since it can be made again.

        Args:
          state: What to show.
          condition: `running`, `stopped`, or what is wrong.
          facts: What is around us.
          stall: How the chain goes on.
          now_s: Monotonic clock.
          now_ms: Unix time.
        """
        delta, policies = _delta(state), _policies(state)
        document = {
            **self._document(state, condition, now_s, now_ms),
            "broker": facts.broker,
            "broker_rights": facts.rights,
            "disk": disk_section(facts),
            "vectors": self._vectors(),
            "stall": _stall(stall),
        }
        devices = self._devices.text(
            state,
            lambda charge: self._epsilon(policies, charge, delta),
            (delta, policies),
        )
        # The rows of boards are text already, and most of the document.
        text = f'{json.dumps(document)[:-1]}, "devices": {devices}}}'
        try:
            replace_unsynced(self._path, text.encode())
        except StorageError as error:
            # A full disk ends the process where something must last, not here.
            log.warning("%s", error)
            self._write_over(document)

    def _vectors(self) -> dict[str, int]:
        """Vectors of updates that are kept, for traces, and how many may be."""
        used = self._store.vectors()
        return {
            "kept": used.count,
            "bytes": used.size_bytes,
            "bytes_max": self._settings.vectors_bytes,
        }

    def _write_over(self, document: dict[str, Any]) -> None:
        """Writes what is short into the room that the file has already.

        A full disk gives no room for another file, and whoever looks at it afterwards
        must see why the process ended.
        """
        tasks = [{**task, "versions": []} for task in document["tasks"]]
        text = json.dumps({**document, "tasks": tasks, "devices": []}).encode()
        try:
            with self._path.open("r+b") as file:
                room = file.seek(0, os.SEEK_END)
                if len(text) <= room:
                    file.seek(0)
                    file.write(text)
                    file.truncate()
        except OSError as error:
            log.warning("%s: %s", self._path, error.strerror)

    def _document(
        self,
        state: CoordinatorState,
        condition: str,
        now_s: float,
        now_ms: int,
    ) -> dict[str, Any]:
        ledger, tally = state.ledger, self._tally
        header = ledger.header
        phases = Counter(session.phase.name for _, session in state.sessions.items())
        *_, bytes_up, bytes_down = tally.totals()
        delta, policies = _delta(state), _policies(state)
        return {
            "state": condition,
            "id": self._settings.name,
            "pid": os.getpid(),
            "started_ms": tally.started_ms,
            "now_ms": now_ms,
            "chain": {
                "height": ledger.height,
                "tip": header.block_id().hex() if header else None,
                "state_root": header.state_root.hex() if header else None,
                "boards": board_records.board_count(ledger.tree),
                "waiting": ledger.mempool.size,
                "time_ms": header.time_ms if header else None,
                "heartbeat_s": heartbeat_s(state),
                "diverged": _diverged(state.diverged),
            },
            "consensus": consensus(self._settings, state, now_s),
            "finality_s": median(state.finalities_s) if state.finalities_s else None,
            "tasks": [
                self._task(task, state) for _, task in sorted(state.tasks.items())
            ],
            "phases": dict(phases),
            "updates": {
                "accepted": tally.accepted,
                "refused": dict(tally.refused),
                "passing": dict(tally.passing),
            },
            "refused_peers": [
                {
                    "name": directory.name_of(ledger, who),
                    "id": device_name(who),
                    "reasons": dict(counts),
                }
                for who, counts in sorted(tally.peers.items())
            ],
            "traffic": {
                "bytes_up": bytes_up,
                "bytes_down": bytes_down,
                **overload_report.shown(state, tally),
            },
            "privacy": {
                "epsilon_max": self._epsilon(policies, state.charge_max, delta),
                "delta": delta,
                "unit": _unit(policies),
            },
        }

    def _task(self, task: TaskState, state: CoordinatorState) -> dict[str, Any]:
        if task.number not in self._versions:
            self._versions[task.number] = self._store.versions(task.number)
        versions = self._versions[task.number]
        progress = task_records.progress(state.ledger.tree, task.number)
        delta = task.spec.privacy.delta_e12 / E12 or _DELTA_WITHOUT_TASK
        policies = _policies(state)
        if task.spec.privacy.mechanism == LABEL_RESPONSE:
            # Labels have an account of their own, which releases do not add to.
            policies = frozenset({task.spec.privacy})
        ended = closure_records.closure(state.ledger.tree, task.number)
        by_loss = self._rankings.by_loss(task.spec.bundle)
        return {
            "task": task.number,
            "name": task.spec.name,
            "head": task.head,
            "buffer": task.spec.aggregation.buffer,
            "pending": progress.pending if progress else 0,
            "job": task.job.version if task.job else None,
            "computing": task.computing,
            "sought": task.sought,
            "lacking": len(task.missing),
            "attested": attested(self._settings, state, task.number),
            "leases": len(task.leases.granted),
            "lease_places": task.leases.places,
            "waiting": len(task.leases.waiting),
            "closed": ended.text if ended else None,
            "held_out": held_out_losses.shown(state.ledger.tree, task),
            "evaluators": held_out_losses.evaluators(state.ledger, task),
            "rewards": _rewards(state, task),
            "ended": task_end.ended(state.ledger.tree, task.number, _time_ms(state)),
            "ranked_by": "loss" if by_loss else "accuracy",
            "versions": [
                {
                    "version": each.version,
                    "time_ms": each.time_ms,
                    "updates": each.updates,
                    "accuracy": each.accuracy,
                    "loss": each.loss,
                    "evaluation_failures": each.failures,
                    "staleness_mean": each.staleness_milli / 1000,
                    "epsilon_max": self._epsilon(policies, each.charge_max, delta),
                }
                for each in versions[-VERSIONS_SHOWN_MAX:]
            ],
        }

    def _epsilon(
        self, policies: frozenset[PrivacyPolicy], charge: int, delta: float
    ) -> float:
        key = (charge, delta, policies)
        # An epsilon takes a while to compute, and each status asks for that of every
        # version.
        if key not in self._epsilons:
            self._epsilons[key] = epsilon_shown(charge, policies, delta)
        return self._epsilons[key]


def _stall(found: ChainStall) -> dict[str, Any]:
    """Progress of the chain."""
    return {
        "stalled": found.stalled,
        "block_age_s": found.block_age_s,
        "step_age_s": found.stage_s,
        "missing_prevotes": list(found.missing.prevotes),
        "missing_precommits": list(found.missing.precommits),
        "why": list(found.why),
    }


def _time_ms(state: CoordinatorState) -> int:
    """Time of the newest header, in Unix milliseconds; 0 before the first."""
    header = state.ledger.header
    return 0 if header is None else header.time_ms


def _rewards(state: CoordinatorState, task: TaskState) -> dict[str, Any] | None:
    """Credits of a task, and their rule; None if it pays nothing."""
    tree, policy = state.ledger.tree, task.spec.rewards
    pool, owed = (
        credit_accounts.pool(tree, task.number),
        contribution_rewards.reward_account(tree, task.number),
    )
    if not (task.spec.pool or policy.use_price or pool):
        return None
    return {
        "rule": RewardRule(policy.rule).name.lower(),
        "text": rewards_text(task.spec),
        "version": task.spec.pool,
        "pool": pool,
        "set_aside": owed.credits,
        "boards": owed.boards,
        "use_price": policy.use_price,
    }


def _diverged(found: StateDiverged | None) -> dict[str, Any] | None:
    """The decided block that is invalid here."""
    if found is None:
        return None
    return {
        "height": found.height,
        "block": found.block_id.hex(),
        "certified": found.certified.hex(),
        "computed": None if found.computed is None else found.computed.hex(),
        "first_key": found.first_key.decode(errors="backslashreplace"),
        "detail": found.detail,
    }


def _policies(state: CoordinatorState) -> frozenset[PrivacyPolicy]:
    return frozenset(task.spec.privacy for task in state.tasks.values())


def _unit(policies: frozenset[PrivacyPolicy]) -> str:
    """Unit of the shown epsilon."""
    mechanisms = {policy.mechanism for policy in policies} - {NONE}
    if mechanisms == {LABEL_RESPONSE}:
        return "label, drawn once on the board; inputs are public"
    return "record, noise added on the board"


def _delta(state: CoordinatorState) -> float:
    """The smallest delta of any task with privacy: the one that all of them keep."""
    deltas = [task.spec.privacy.delta_e12 / E12 for task in state.tasks.values()]
    return min((delta for delta in deltas if delta), default=_DELTA_WITHOUT_TASK)

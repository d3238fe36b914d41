"""Reader of a deployment's state in its coordinator's home."""

import time
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from starling.console import status_facts
from starling.console.status_facts import StatusFacts, TaskFacts
from starling.coordinator.chain.state import task_records
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.operations.process_liveness import lives
from starling.coordinator.runtime.storage.sqlite_schema import CHAIN_FILE
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.durable.files import storage_errors
from starling.fleet.monitor.deployment import (
    chosen_task,
    deployment,
    document,
    privacy_terms,
)
from starling.fleet.monitor.run_snapshot import PrivacyTerms
from starling.fleet.monitor.terminal_view import render
from starling.fleet.runtime.processes.status_document import read_status
from starling.protocol.errors import OperationError


class DeploymentReader:
    """Reads a coordinator's status again and again."""

    def __init__(self, home: Path, task: int | None) -> None:
        """Nothing is read yet.

        Args:
          home: The coordinator's folder.
          task: Number of the task to show; None for the newest.
        """
        self._home = CoordinatorHome(home)
        self._task = task
        self._terms: dict[int, PrivacyTerms | None] = {}
        self._last: dict[str, Any] | None = None

    def document(self) -> dict[str, Any]:
        """The state now, for JSON.

        Raises:
          OperationError: If there is no status, no such task, or another release's.
          StorageError: If the chain is damaged.
        """
        facts = self._facts()
        task = chosen_task(facts, self._task)
        _, snapshot = deployment(facts, task, self._privacy(task))
        return document(facts, snapshot, task)

    def picture(self) -> RenderableType:
        """The state now, for a terminal; says first if the coordinator does not run.

        Raises:
          OperationError, StorageError: As `document`.
        """
        facts = self._facts()
        task = chosen_task(facts, self._task)
        view = render(*deployment(facts, task, self._privacy(task)))
        if facts.is_up:
            return view
        text = (
            f"The coordinator does not run: {facts.age_s:.0f} s without a word, the "
            f"last was: {facts.document['state']}. What follows is of then."
        )
        return Group(Text(text, style="bold red"), view)

    def _facts(self) -> StatusFacts:
        path = self._home.status
        found = read_status(path)
        # In the middle of being written the last whole one stands.
        self._last = found or self._last
        if self._last is None:
            raise OperationError(f"{path}: no status yet: has the coordinator run?")
        with storage_errors(path):
            age_s = max(0.0, time.time() - path.stat().st_mtime)
        facts = status_facts.read(self._last, age_s)
        if facts.is_up and not lives(facts.document["pid"]):
            # Its process is gone, and nothing wrote so.
            gone = {**facts.document, "state": "stopped"}
            facts = StatusFacts(gone, age_s, facts.tasks, facts.boards)
        return facts

    def _privacy(self, shown: TaskFacts | None) -> PrivacyTerms | None:
        if shown is None:
            return None
        task = shown.number
        # Once: the terms of a task never change.
        if task not in self._terms and (self._home.state / CHAIN_FILE).is_file():
            store = SqliteStore.read(self._home.state / CHAIN_FILE)
            try:
                with store.one_moment():
                    spec = task_records.task(store, task)
            finally:
                store.close()
            if spec is not None:
                self._terms[task] = privacy_terms(spec)
        return self._terms.get(task)

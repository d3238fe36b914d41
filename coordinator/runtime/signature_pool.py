"""Other processes that check the signatures of a stored chain ahead of its execution.

Execution goes from block to block on one core; signatures take as long and depend on
nothing. Threads would not do: one that comes back from libsodium waits for the
interpreter as long as the executing one keeps it.
"""

import multiprocessing
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice

from starling.coordinator.chain.storage.block_rows import BlockRow
from starling.coordinator.chain.verification.chain_replay import (
    NOTHING,
    Current,
    SignatureChecks,
    vouch,
)
from starling.protocol.chain.genesis import FaultModel, Genesis, ValidatorSet
from starling.protocol.ids import ChainId

ROWS_MAX = 32
"""Handed over at once."""
BYTES_MAX = 1 << 20
"""Of rows handed over at once, after the first."""


class SignaturePool:
    """Processes that live as long as its `with` block."""

    def __init__(self, genesis: Genesis, processes: int | None = None) -> None:
        """Starts nothing yet.

        Args:
          genesis: Of the chain.
          processes: How many; by default one for each further core.
        """
        self._chain_id = genesis.chain_id()
        self._fault_model = FaultModel(genesis.fault_model)
        cores = len(os.sched_getaffinity(0))
        self._processes = cores - 1 if processes is None else processes
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "SignaturePool":
        """Starts the processes, unless there is no core for one."""
        if self._processes > 0:
            # Not fork: an open SQLite connection must not be carried into a child, nor
            # a lock that another thread holds.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self._processes, mp_context=context)
        return self

    def __exit__(self, *error: object) -> None:
        """Ends the processes."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def ahead(
        self, rows: Iterator[BlockRow], current: Current
    ) -> Iterator[tuple[BlockRow, SignatureChecks]]:
        """All rows in order, with what holds of their signatures; see `verify.Ahead`.

        A process that dies costs time only: what it would have checked is not vouched.
        """
        handed: deque[tuple[list[BlockRow], Future[list[SignatureChecks]] | None]] = (
            deque()
        )
        for part in iter(lambda: _some(rows), []):
            # The set as executed so far: where validators change on the way, what it
            # does not vouch for is checked while it is executed.
            handed.append((part, self._hand_over(part, current())))
            # Two parts for each process: one in work, one waiting, and memory for no
            # more.
            if len(handed) > 2 * self._processes:
                yield from _vouched(*handed.popleft())
        for part, task in handed:
            yield from _vouched(part, task)

    def _hand_over(
        self, part: list[BlockRow], validators: ValidatorSet
    ) -> "Future[list[SignatureChecks]] | None":
        if self._pool is None:
            return None
        try:
            return self._pool.submit(
                _vouch_all, self._chain_id, self._fault_model, validators, part
            )
        except BrokenProcessPool:
            return None


def _some(rows: Iterator[BlockRow]) -> list[BlockRow]:
    some = list(islice(rows, 1))
    size = 0
    while some and size < BYTES_MAX and len(some) < ROWS_MAX:
        more = list(islice(rows, 1))
        if not more:
            break
        some += more
        size += len(more[0].body)
    return some


def _vouched(
    rows: list[BlockRow], task: "Future[list[SignatureChecks]] | None"
) -> Iterator[tuple[BlockRow, SignatureChecks]]:
    try:
        found = [NOTHING] * len(rows) if task is None else task.result()
    except BrokenProcessPool:
        found = [NOTHING] * len(rows)
    return zip(rows, found, strict=True)


def _vouch_all(
    chain_id: ChainId,
    fault_model: FaultModel,
    validators: ValidatorSet,
    rows: list[BlockRow],
) -> list[SignatureChecks]:
    """In a process of the pool."""
    return [vouch(chain_id, validators, fault_model, row) for row in rows]

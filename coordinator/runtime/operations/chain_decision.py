"""Decision of the chain on a submitted transaction, as far as it is known.

A command leaves its transaction in the running coordinator's inbox. It then waits until
the transaction stands in a block, or the coordinator notes there that it is refused.
"""

import argparse
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeVar

from starling.coordinator.chain.state import task_records
from starling.coordinator.chain.state.board_records import BOARDS, board, owner
from starling.coordinator.chain.tasks import contribution_rewards, evaluations
from starling.coordinator.runtime import command_inbox
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.operations.process_liveness import is_running
from starling.coordinator.runtime.storage.sqlite_schema import CHAIN_FILE, REMEDY
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.durable.files import is_there
from starling.protocol.chain.board_statement import BoardRecord
from starling.protocol.crypto.state_tree import StateTree
from starling.protocol.errors import (
    OperationError,
    ProtocolError,
    Reason,
    StorageError,
)
from starling.protocol.ids import DeviceId, Digest, PublicKey, device_id
from starling.protocol.learning.progress_guard import TaskLoss
from starling.protocol.refusals import REFUSALS
from starling.service.arguments import waiting_s

_FoundT = TypeVar("_FoundT")
WAIT_S = 30.0
"""A block takes a heartbeat of 10 s at the longest, and a few rounds if one is away."""
_POLL_S = 0.1
_AWAY = "the coordinator does not run; it is decided once it does"


@dataclass(frozen=True)
class ChainDecision:
    """Result of a transaction.

    Attributes:
      height: Of the block that holds it; None if none does yet.
      reason: Why it is refused; None if it is not.
      detail: Of the refusal, or why nothing is decided.
    """

    height: int | None = None
    reason: Reason | None = None
    detail: str = ""

    def document(self) -> dict[str, Any]:
        """For `--json`."""
        return {"height": self.height, "decided": self.height is not None}

    def text(self, done: str, waits: str) -> str:
        """For people: `done` if it stands in a block, else that it waits."""
        if self.height is not None:
            return f"{done} at height {self.height}"
        return f"handed in, not decided yet: {waits}; {self.detail}"

    def require(self, what: str, remedy: str = "") -> None:
        """Ends the command if the chain refuses.

        Args:
          what: That did not happen, as `not revoked`.
          remedy: What to do; empty for what helps against the reason in general.

        Raises:
          OperationError: With the reason, and what to do about it.
        """
        if self.reason is not None:
            do = remedy or REFUSALS[self.reason].remedy
            raise OperationError(f"{what}: {self.detail} ({self.reason.name}). {do}")


def add_wait(verb: argparse.ArgumentParser) -> None:
    """Adds `--wait` and `--no-wait`."""
    verb.add_argument(
        "--wait",
        type=waiting_s,
        default=WAIT_S,
        metavar="SECONDS",
        help=f"for the block that decides, at most (default {WAIT_S:g})",
    )
    verb.add_argument(
        "--no-wait",
        dest="wait",
        action="store_const",
        const=0.0,
        help="only hand it in; the chain decides later",
    )


def await_decision(
    home: CoordinatorHome,
    identity: Digest,
    wait_s: float,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> ChainDecision:
    """Waits until the chain decided about a transaction.

    Args:
      home: Whose inbox it lies in.
      identity: The transaction's id.
      wait_s: How long at most, while the coordinator runs; 0 does not look.
      clock: Monotonic time in s.
      pause: Lets so many seconds pass.

    Raises:
      StorageError: If what is stored cannot be read.
    """
    until_s = clock() + wait_s
    if not wait_s:
        return ChainDecision(detail="nobody waited for it")
    while True:
        runs = is_running(home.status)
        # The chain last: what is refused may be so because it stands there already.
        refusal = command_inbox.take_refusal(home.inbox, identity)
        height = _height(home, identity)
        if height is not None:
            return ChainDecision(height)
        if refusal is not None:
            return ChainDecision(reason=refusal.reason, detail=refusal.detail)
        # Asked before the chain: what it decided before it ended was seen by now.
        if not runs:
            return ChainDecision(detail=_AWAY)
        if clock() >= until_s:
            detail = f"no block took it within {wait_s:g} s: starling coordinator check"
            return ChainDecision(detail=detail)
        pause(_POLL_S)


def known_board(home: CoordinatorHome, device: DeviceId) -> BoardRecord | None:
    """Record of a board in the stored chain; None if it is unknown.

    Raises:
      StorageError: If the chain cannot be read, or the record is damaged.
    """
    return _read(home, lambda store: board(store, device), None)


def key_owner(home: CoordinatorHome, public: PublicKey) -> DeviceId:
    """Board that a key belongs to in the stored chain, also by a rotation.

    Raises:
      StorageError: If the chain cannot be read, or the record is damaged.
    """
    return _read(home, lambda store: owner(store, public), device_id(public))


def _read(
    home: CoordinatorHome, look: Callable[[SqliteStore], _FoundT], unknown: _FoundT
) -> _FoundT:
    path = home.state / CHAIN_FILE
    if not is_there(path):
        return unknown
    with closing(SqliteStore.read(path)) as store:
        try:
            return look(store)
        except ProtocolError as error:
            raise StorageError(f"{path}: a board: {error}; {REMEDY}") from error


def boards_enrolled(home: CoordinatorHome) -> int:
    """Number of boards that may take part by the stored chain."""
    rows = _state(home).items(BOARDS.prefix)
    return sum(not BOARDS.codec.unpack(packed).revoked for _, packed in rows)


def held_out_loss(home: CoordinatorHome, number: int) -> TaskLoss | None:
    """A task's best and newest held-out loss by the stored chain; None before any."""
    return evaluations.task_loss(_state(home), number)


def uses_paid(
    home: CoordinatorHome, number: int, operator: DeviceId
) -> tuple[int, int]:
    """Uses of a task's model that an operator has paid for, and the price of one."""
    state = _state(home)
    spec = task_records.task(state, number)
    before = contribution_rewards.METERS.get(state, number, operator) or 0
    return before, 0 if spec is None else spec.rewards.use_price


def _state(home: CoordinatorHome) -> StateTree:
    if not (home.state / CHAIN_FILE).exists():
        return StateTree()
    store = SqliteStore.read(home.state / CHAIN_FILE)
    with store.one_moment():
        tree = store.tip().tree
    store.close()
    return tree


def _height(home: CoordinatorHome, identity: Digest) -> int | None:
    if not (home.state / CHAIN_FILE).exists():
        return None
    store = SqliteStore.read(home.state / CHAIN_FILE)
    with store.one_moment():
        place = store.locate(identity)
    store.close()
    return None if place is None else place.height

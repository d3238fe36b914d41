"""Rows of the boards in the status."""

import json
from collections.abc import Callable, Hashable
from typing import Any

from starling.coordinator.chain.state import board_records
from starling.coordinator.loop.counters import (
    CoordinatorCounters,
    DeviceCounters,
)
from starling.coordinator.step.board_session import BoardSession
from starling.coordinator.step.state import CoordinatorState
from starling.protocol.ids import DeviceId, device_name
from starling.protocol.persistent_map import PersistentMap

DEVICES_SHOWN_MAX = 2000


class DeviceRows:
    """The rows of all boards as JSON, made anew only when something changed.

    A thousand boards take 20 ms, which is more than all else that a coordinator at rest
    does in a second.
    """

    def __init__(self, tally: CoordinatorCounters) -> None:
        """Starts with nothing made.

        Args:
          tally: What is counted of boards.
        """
        self._tally = tally
        self._seen: tuple[Hashable, ...] | None = None
        self._sessions: PersistentMap[BoardSession] | None = None
        self._text = ""

    def text(
        self, state: CoordinatorState, epsilon: Callable[[int], float], unit: Hashable
    ) -> str:
        """An array with an object for each board.

        Args:
          state: To show.
          epsilon: What a total charge amounts to.
          unit: Changes whenever `epsilon` does.
        """
        # Whatever is in a row shows in one of these, or in the identity of the
        # sessions' map.
        seen = (state.ledger.tree.root(), self._tally.totals(), unit)
        if seen != self._seen or state.sessions is not self._sessions:
            self._text = json.dumps(self._rows(state, epsilon))
            self._seen, self._sessions = seen, state.sessions
        return self._text

    def _rows(
        self, state: CoordinatorState, epsilon: Callable[[int], float]
    ) -> list[dict[str, Any]]:
        known = {device for device, _ in state.sessions.items()}
        shown = sorted(known | set(self._tally.devices))[:DEVICES_SHOWN_MAX]
        return [self._row(state, DeviceId(device), epsilon) for device in shown]

    def _row(
        self, state: CoordinatorState, device: DeviceId, epsilon: Callable[[int], float]
    ) -> dict[str, Any]:
        board = board_records.board(state.ledger.tree, device)
        session = state.sessions.get(device) or BoardSession()
        count = self._tally.devices.get(device) or DeviceCounters()
        return {
            "id": device_name(device),
            "phase": session.phase.name,
            "updates_accepted": board.updates if board else 0,
            "updates_refused": dict(count.refused),
            "ignored": self._tally.ignored[device_name(device)],
            "bytes_up": count.bytes_up,
            "bytes_down": count.bytes_down,
            "epsilon": epsilon(board.charge if board else 0),
        }

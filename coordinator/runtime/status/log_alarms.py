"""Alarms of the log: what an operator must see, once and not each second."""

import logging
from collections.abc import Iterable

from starling.coordinator.health.chain_stall import ChainStall
from starling.coordinator.step.effects import RecordRefusal
from starling.protocol.errors import Reason
from starling.protocol.ids import device_name

AGAIN_S = 3600.0
"""The same warning comes again after so long."""
WARNINGS_MAX = 4096
STALL_AGAIN_S = 60.0


class LogAlarms:
    """Logs what is wrong, and that it is well again."""

    def __init__(self, log: logging.Logger) -> None:
        """Nothing was said yet."""
        self._log = log
        self._said_at_s: dict[str, float] = {}
        self._stalled_from_s: float | None = None
        self._stall_at_s = 0.0

    def refused(self, effect: RecordRefusal, peer: str, now_s: float) -> None:
        """Something was refused; of a peer's, a warning for each peer and reason.

        Args:
          effect: What and why.
          peer: Name of the coordinator that did wrong; empty if it was a board's or an
            operator's, which are too many and too free to be worth a warning.
          now_s: Monotonic clock.
        """
        reason = Reason(effect.reason).name
        if not peer:
            whose = device_name(effect.device) if effect.device else "operator"
            self._log.debug("refused %s: %s: %s", whose, reason, effect.detail)
            return
        text = f"refused {peer}: {reason}"
        self._warn(text, f"{text}: {effect.detail}", now_s)

    def warn(self, texts: Iterable[str], now_s: float) -> None:
        """Something around us is wrong."""
        for text in texts:
            self._warn(text.split(":", 1)[0], text, now_s)

    def stall(self, stall: ChainStall, height: int, now_s: float) -> None:
        """Says that the chain stands still, why, and that it goes on."""
        began_s = self._stalled_from_s
        if not stall.stalled:
            if began_s is not None:
                self._log.info(
                    "goes on at height %d after %.0f s", height, now_s - began_s
                )
            self._stalled_from_s = None
            return
        if began_s is None:
            self._stalled_from_s = now_s - stall.block_age_s
        elif now_s < self._stall_at_s:
            return
        self._stall_at_s = now_s + STALL_AGAIN_S
        self._log.warning(
            "stands still at height %d, no block for %.0f s: %s",
            height,
            stall.block_age_s,
            "; ".join(stall.why),
        )

    def _warn(self, key: str, text: str, now_s: float) -> None:
        said_at_s = self._said_at_s.get(key)
        if said_at_s is not None and now_s - said_at_s < AGAIN_S:
            return
        # Beyond it new kinds are left unsaid, so that memory has a bound.
        if said_at_s is None and len(self._said_at_s) >= WARNINGS_MAX:
            return
        self._said_at_s[key] = now_s
        self._log.warning("%s", text)

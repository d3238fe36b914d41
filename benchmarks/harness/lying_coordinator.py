"""A coordinator that lies: the product behind a bus that does what an attack wants.

`python -m benchmarks.harness.lying_coordinator HOME ATTACK SWITCH [DIGEST]` is honest
while the file SWITCH is not there. While it is, what it says is withheld, lent to one
listener at a time or replaced, and what it may say besides is said. So calm and attack
are measured on the same processes.
"""

import os
import random
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks.harness.byzantine_attacks import ATTACKS
from benchmarks.harness.byzantine_variants import VARIANTS
from benchmarks.harness.coordinator_attack import Attack
from starling.broker.link_events import (
    AckToken,
    Delivered,
    LinkEvent,
    LinkSettings,
    MessageArrived,
    MqttMessage,
)
from starling.coordinator.chain.chain_step import ChainStep
from starling.coordinator.chain.consensus.round_state import RoundStep
from starling.coordinator.chain.execution import block_builder
from starling.coordinator.chain.execution.block_builder import ExecutedBlock
from starling.coordinator.chain.node import height, node
from starling.coordinator.runtime import process
from starling.coordinator.runtime.environment import (
    Bus,
    CoordinatorEnvironment,
    open_link,
)
from starling.coordinator.runtime.home import CoordinatorHome
from starling.protocol.errors import EXIT_FAILED

ACTS_EVERY_S = 0.02


class LyingBus:
    """A link through which an attack reads and writes.

    Attributes:
      attack: What is done while the switch is there.
    """

    def __init__(
        self,
        attack: Attack,
        switch: Path,
        settings: LinkSettings,
        on_event: Callable[[LinkEvent], None],
    ) -> None:
        """Connects to nothing yet."""
        self.attack = attack
        self._switch = switch
        self._on_event = on_event
        self._bus: Bus = open_link(settings, self._happened)
        self._dropped = 0
        self._ends = threading.Event()
        self._guard = threading.RLock()
        attack.send = self._bus.publish

    def start(self) -> None:
        """Connects, and begins to act."""
        self._bus.start()
        threading.Thread(target=self._acts, daemon=True).start()

    def stop(self, timeout_s: float) -> None:
        """Ends both."""
        self._ends.set()
        self._bus.stop(timeout_s)

    def acknowledge_many(self, tokens: Iterable[AckToken]) -> None:
        """As the link."""
        self._bus.acknowledge_many(tokens)

    def publish(self, message: MqttMessage) -> int:
        """Lets what the product says pass, or drops it and says that it arrived."""
        with self._guard:
            if not self._switch.exists() or self.attack.passes(message):
                return self._bus.publish(message)
            self._dropped -= 1
            dropped = self._dropped
        threading.Timer(0.0, lambda: self._on_event(Delivered(dropped, 0))).start()
        return dropped

    def _happened(self, event: LinkEvent) -> None:
        if isinstance(event, MessageArrived):
            with self._guard:
                self.attack.hears(event.topic, event.payload, self._switch.exists())
        self._on_event(event)

    def _acts(self) -> None:
        try:
            while not self._ends.wait(ACTS_EVERY_S):
                if self._switch.exists():
                    with self._guard:
                        self.attack.act(time.monotonic())
        except BaseException:  # noqa: BLE001 - said, and the end
            # A liar that has fallen silent would be measured as an attack that is calm.
            traceback.print_exc()
            os._exit(EXIT_FAILED)


def begin_every_height_at_once(switch: Path) -> None:
    """Plants the driver of heights into this process's own core."""
    begin_if_due, wake_at_s = height.begin_if_due, node._wake_at_s  # noqa: SLF001 - a bug is planted

    def hurries(step: ChainStep) -> bool:
        here = step.validator.index is not None and switch.exists()
        return here and step.state.consensus.step is RoundStep.NEW_HEIGHT

    def begin(step: ChainStep) -> None:
        if hurries(step) and step.moment.now_s >= step.state.propose_from_s:
            height.begin_now(step)
        begin_if_due(step)

    def wake(step: ChainStep) -> float:
        at_s = wake_at_s(step)
        return min(at_s, step.state.propose_from_s) if hurries(step) else at_s

    height.begin_if_due = begin
    node._wake_at_s = wake  # noqa: SLF001 - a bug is planted


def leave_everything_out(switch: Path) -> None:
    """Plants a maker of blocks without transactions into this process's own core."""
    make = height._make

    def empty(step: ChainStep) -> ExecutedBlock:
        if not switch.exists():
            return make(step)
        index = step.validator.index
        assert index is not None
        return block_builder.make(step.state.tip, index, step.state.mempool, 0)[0]

    height._make = empty


def main() -> int:
    """Runs it."""
    home, name, switch = CoordinatorHome(Path(sys.argv[1])), sys.argv[2], sys.argv[3]
    digest = bytes.fromhex(sys.argv[4]) if len(sys.argv) > 4 else b""
    draw = random.Random(1)  # noqa: S311 - what an attack chooses
    attack = {**ATTACKS, **VARIANTS}[name](
        home.signing_key(), home.genesis(), digest, draw, home.operator_key()
    )
    if name == "hurry":
        begin_every_height_at_once(Path(switch))
    if name == "empty":
        leave_everything_out(Path(switch))

    def open_bus(settings: LinkSettings, on_event: Callable[[LinkEvent], None]) -> Bus:
        return LyingBus(attack, Path(switch), settings, on_event)

    return process.run(home, CoordinatorEnvironment(open_bus=open_bus))


if __name__ == "__main__":
    sys.exit(main())

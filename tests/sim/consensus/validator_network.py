"""Several ledgers over a bus that loses, doubles, delays and cuts, in virtual time.

Everything follows from the seed. After every step the blocks of all correct validators
are compared, what each wrote down is held against the model's rules (`refinement`), and
no validator may have written down two different votes of one kind.
"""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.consensus.round_state import Timeouts
from starling.coordinator.chain.node.node import (
    ChainTicked,
    Event,
    JournalVote,
    StoreBlock,
    TransactionSubmitted,
)
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.ids import PublicKey
from starling.protocol.wire.envelope import Envelope
from tests.sim.consensus.model_refinement import Witness
from tests.unit.coordinator.fixtures.single_validator import SingleValidator, message_of
from tests.unit.coordinator.fixtures.small_chain import SmallChain

Cut = Callable[[float, int, int], bool]
"""Whether the link from one node to another is cut at a time."""


@dataclass(frozen=True)
class Weather:
    """What the bus does to a message.

    Attributes:
      loss: Probability that a copy is lost.
      double: Probability that it arrives twice.
      delay_s: Longest delay; a random one reorders messages.
      crash: Probability per step that the power goes after some of its effects.
      calm_from_s: From then on nothing is lost, cut or crashed.
    """

    loss: float = 0.0
    double: float = 0.0
    delay_s: float = 0.2
    crash: float = 0.0
    calm_from_s: float = 60.0


def never(now_s: float, source: int, target: int) -> bool:
    """No link is ever cut."""
    del now_s, source, target
    return False


@dataclass
class Bus:
    """The world.

    Attributes:
      seed: Everything random follows from it.
      weather: What happens to messages and power.
      cut: Which links are cut when.
      correct: Indices of the nodes whose blocks must agree.
      listen_s: How long each only listens after each start.
    """

    seed: int
    world: SmallChain
    keys: list[SigningKey]
    weather: Weather = field(default_factory=Weather)
    cut: Cut = never
    correct: range = range(4)
    listen_s: float = 0.0

    def __post_init__(self) -> None:
        self.draw = random.Random(self.seed)
        self.now_s = 0.0
        timeouts = Timeouts(propose_s=3.0, vote_s=1.5, growth_s=1.0, most_s=20.0)
        self.nodes = [
            SingleValidator(
                self.world.genesis, key, timeouts=timeouts, listen_s=self.listen_s
            )
            for key in self.keys
        ]
        self.up = [True] * len(self.nodes)
        self.witness = Witness(self.nodes[0].state.validator.quorum)
        self.decided: dict[int, bytes] = {}
        self.seen = [0] * len(self.nodes)
        self.wakes_s = [0.0] * len(self.nodes)
        self._queue: list[tuple[float, int, int, bytes | Envelope | None]] = []
        self._order = count()
        for node in range(len(self.nodes)):
            self._at(0.0, node, None)

    def _at(self, when_s: float, node: int, what: bytes | Envelope | None) -> None:
        heapq.heappush(self._queue, (when_s, next(self._order), node, what))

    def submit(self, when_s: float, envelope: Envelope) -> None:
        """A client sends a transaction to every node."""
        for node in range(len(self.nodes)):
            self._at(when_s, node, envelope)

    def run(self, until_s: float, done: Callable[[], bool]) -> None:
        """Goes on until `done`, or fails at `until_s`."""
        while not done():
            assert self._queue, f"seed {self.seed}: nothing left to happen"
            self.now_s, _, node, what = heapq.heappop(self._queue)
            assert self.now_s <= until_s, (
                f"seed {self.seed}: stalled at heights {self.heights()}, rounds "
                f"{[running.state.consensus.round for running in self.nodes]}"
            )
            self._happen(node, what)

    def heights(self) -> list[int]:
        """Of the correct nodes."""
        return [self.nodes[node].state.height for node in self.correct]

    def _happen(self, node: int, what: bytes | Envelope | None) -> None:
        running = self.nodes[node]
        if what is None and self.now_s != self.wakes_s[node]:
            # A later step asked to be woken at another time.
            return
        if not self.up[node]:
            if what is None:
                running.restart(self.now_s)
                self.up[node] = True
                self._wake(node)
            return
        if isinstance(what, bytes):
            event: Event = message_of(what)
        elif isinstance(what, Envelope):
            event = TransactionSubmitted(what)
        else:
            event = ChainTicked()
        stop_after = self._power_goes_after(node)
        running.step(event, self.now_s, stop_after)
        crash = stop_after is not None
        self._check(node)
        if not crash and node in self.correct:
            self.witness.rests(node, running.state.consensus, self.now_s)
        self._send(node)
        if crash:
            self.up[node] = False
            self._wake_at(node, self.now_s + self.draw.uniform(0.1, 5.0))
        else:
            self._wake(node)

    def _power_goes_after(self, node: int) -> int | None:
        """After how many effects of this step the power goes; None if it stays."""
        del node
        calm = self.now_s >= self.weather.calm_from_s
        if calm or self.draw.random() >= self.weather.crash:
            return None
        return self.draw.randrange(4)

    def _wake(self, node: int) -> None:
        wake_s = max(self.nodes[node].state.wake_at_s, self.now_s + 0.001)
        if wake_s != self.wakes_s[node]:
            self._wake_at(node, wake_s)

    def _wake_at(self, node: int, when_s: float) -> None:
        self.wakes_s[node] = when_s
        self._at(when_s, node, None)

    def _public(self, node: int) -> PublicKey:
        return self.nodes[node].settings.key.public

    def _send(self, source: int) -> None:
        running = self.nodes[source]
        calm = self.now_s >= self.weather.calm_from_s
        for payload in running.sent:
            for target in range(len(self.nodes)):
                only = running.only.get(payload)
                if target == source or only not in (None, self._public(target)):
                    continue
                lost = self.draw.random() < self.weather.loss
                if not calm and (lost or self.cut(self.now_s, source, target)):
                    continue
                copies = 1 + (self.draw.random() < self.weather.double)
                for _ in range(copies):
                    delay_s = self.draw.uniform(0.001, self.weather.delay_s)
                    self._at(self.now_s + delay_s, target, payload)
        running.sent = []

    def _check(self, node: int) -> None:
        running = self.nodes[node]
        if node not in self.correct:
            return
        for effect in running.heard[self.seen[node] :]:
            if isinstance(effect, JournalVote):
                entry = gossip_messages.JOURNAL_ENTRY.unpack(effect.payload)
                self.witness.wrote(node, entry, self.now_s)
            if isinstance(effect, StoreBlock):
                header = effect.block.header
                known = self.decided.setdefault(header.height, header.block_id())
                assert known == header.block_id(), (
                    f"seed {self.seed}: fork at height {header.height}"
                )
        self.seen[node] = len(running.heard)

    def check_votes(self) -> None:
        """No correct node ever wrote down two different votes of one kind."""
        for node in self.correct:
            votes: dict[tuple[int, int, int], bytes | None] = {}
            for payload in self.nodes[node].journal:
                vote = gossip_messages.JOURNAL_ENTRY.unpack(payload).vote
                if vote is not None:
                    place = (vote.height, vote.round, vote.vote_type)
                    known = votes.setdefault(place, vote.block_id)
                    assert known == vote.block_id, f"seed {self.seed}: node {node}"

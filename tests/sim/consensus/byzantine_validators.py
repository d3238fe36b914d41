"""Liars that know all and tell each listener something else, in virtual time.

A liar has a validator's key and runs no core. It is woken every few milliseconds, sees
the state of every honest validator, and sends to each what it likes; honest messages
reach everybody, it cannot stop them. It chooses anew after everything that happens, so
that what it does answers what the honest do.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.consensus.round_state import Timeouts
from starling.coordinator.chain.execution.block_builder import make
from starling.coordinator.chain.gossip_messages import (
    STATUS,
    FrameSubject,
    ValidatorStatus,
)
from starling.protocol.chain.blocks import BLOCK, Proposal, Vote, VoteType, vote_bytes
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.ids import SIGNATURE_BYTES, BlockHash, PublicKey
from starling.protocol.wire.envelope import Envelope
from tests.sim.consensus.validator_network import Bus, Cut, Weather, never
from tests.unit.coordinator.fixtures.single_validator import SingleValidator
from tests.unit.coordinator.fixtures.small_chain import SmallChain

WAKE_S = 0.02
TIMEOUTS = Timeouts(1.0, 0.3, 0.5)
"""As a coordinator has them."""


@dataclass
class ByzantineValidators:
    """Some keys in one hand; does nothing by itself.

    Attributes:
      keys: Of validators, by place in the set.
      draw: Its chance.
    """

    keys: dict[int, SigningKey]
    draw: random.Random
    bus: "LiedTo" = field(init=False)

    def act(self) -> None:
        """Does what it likes; called every `WAKE_S`."""

    def overhear(self, payload: bytes) -> None:
        """A message of an honest validator."""

    def tell(self, listener: int, payload: bytes, wait_s: float = 0.001) -> None:
        """Sends to one honest validator only."""
        self.bus.deliver(listener, payload, wait_s)

    def tell_vote(
        self,
        listener: int,
        liar: int,
        kind: VoteType,
        height: int,
        number: int,
        block_id: BlockHash | None,
        extra: int = 0,
    ) -> None:
        """Votes towards one honest validator only."""
        chain_id = self.bus.world.chain_id
        signed = vote_bytes(chain_id, kind, height, number, block_id, extra)
        signature = self.keys[liar].sign(signed)
        vote = Vote(kind, height, number, block_id, extra, liar, signature)
        self.tell(listener, gossip_messages.wrap_vote(vote))

    def offer(
        self, liar: int, number: int, place: SingleValidator, transactions: int
    ) -> Proposal:
        """A fresh block on top of what an honest validator has."""
        tip = place.state.tip
        prepared, _ = make(tip, liar, place.state.mempool, transactions)
        block_id = prepared.block.header.block_id()
        height, packed = tip.height + 1, BLOCK.pack(prepared.block)
        unsigned = bytes(SIGNATURE_BYTES)
        bare = Proposal(
            height, number, 0, block_id, liar, unsigned, packed, None, tip.certificate
        )
        chain_id = self.bus.world.chain_id
        signature = self.keys[liar].sign(bare.signed_bytes(chain_id))
        return replace(bare, signature=signature)


class LiedTo(Bus):
    """A bus with honest validators and liars.

    Attributes:
      honest: The running ones, by place in the validator set.
      liars: The others.
      said: Messages that honest validators sent so far.
    """

    def __init__(
        self,
        seed: int,
        validators: int,
        lying: Sequence[int],
        liars: type[ByzantineValidators],
        weather: Weather,
        cut: Cut = never,
        **options: float,
    ) -> None:
        world = SmallChain(validators)
        keys = list(world.validators)
        count = validators - len(lying)
        honest = [place for place in range(validators) if place not in lying]
        crew = [keys[place] for place in honest]
        super().__init__(seed, world, crew, weather, cut, range(count))
        settings = {"patience_s": 0.25, "block_interval_s": 0.02, **options}
        self.nodes = [
            SingleValidator(world.genesis, key, timeouts=TIMEOUTS, **settings)
            for key in crew
        ]
        self.witness.prompt = cut is never
        self.honest = dict(zip(honest, self.nodes, strict=True))
        self.said = 0
        self.liars = liars({place: keys[place] for place in lying}, self.draw)
        self.liars.bus = self
        self._at(0.0, count, None)

    def deliver(self, place: int, payload: bytes, wait_s: float) -> None:
        """A message to one honest validator."""
        self._at(self.now_s + wait_s, list(self.honest).index(place), payload)

    def _happen(self, node: int, what: bytes | Envelope | None) -> None:
        if node < len(self.nodes):
            super()._happen(node, what)
        else:
            self.liars.act()
            self._at(self.now_s + WAKE_S, node, None)

    def _send(self, source: int) -> None:
        for payload in self.nodes[source].sent:
            self.said += 1
            self.liars.overhear(payload)
        super()._send(source)

    def rounds(self) -> list[int]:
        """In which round each block was decided."""
        return [stored.certificate.round for stored in self.nodes[0].blocks()]


class Lender(ByzantineValidators):
    """Offers to some only, and lends its votes to one listener at a time.

    To the others it says something else or nothing, as it was made; and it does so at
    once or at the last moment before a timeout.
    """

    equivocates = True
    late = False

    def __init__(self, keys: dict[int, SigningKey], draw: random.Random) -> None:
        super().__init__(keys, draw)
        self.done: set[tuple[object, ...]] = set()
        self.lucky: dict[tuple[int, int, int], int] = {}
        self.lent = 0

    def act(self) -> None:
        height = max(node.state.consensus.height for node in self.bus.nodes)
        here = {
            place: node
            for place, node in self.bus.honest.items()
            if node.state.consensus.height == height and node.state.fork is None
        }
        top = max(node.state.consensus.round for node in here.values())
        for number in range(max(0, top - 1), top + 1):
            self._lead(height, number, here)
            for kind in VoteType:
                self._lend(height, number, kind, here)

    def _once(self, *what: object) -> bool:
        new = what not in self.done
        self.done.add(what)
        return new

    def _lead(self, height: int, number: int, here: dict[int, SingleValidator]) -> None:
        node = next(iter(here.values()))
        leader = node.state.validator.proposer(number)
        waits = number == 0 and not node.state.mempool.size
        if leader not in self.keys or waits or not self._once("lead", height, number):
            return
        offers = [self.offer(leader, number, node, most) for most in (10, 0)]
        # Just so many that the votes of the liars make the quorum.
        enough = node.state.validator.quorum - len(self.keys)
        for place in self._listeners(enough, here):
            chosen = offers[self.equivocates and self.draw.random() < 0.2]
            self.tell(place, gossip_messages.wrap_proposal(chosen))

    def _lend(
        self, height: int, number: int, kind: VoteType, here: dict[int, SingleValidator]
    ) -> None:
        cast = {
            place: node.state.consensus.vote_set.cast(number, kind).get(place)
            for place, node in here.items()
        }
        votes = [vote for vote in cast.values() if vote is not None]
        backed = [(v.block_id, v.extra if kind == 1 else 0) for v in votes]
        chances = {one for one in backed if one[0] is not None}
        quorum = next(iter(here.values())).state.validator.quorum
        for chance in sorted(chances):
            if backed.count(chance) + len(self.keys) < quorum:
                continue
            place = (height, number, int(kind))
            backers = [
                who
                for who, vote in sorted(cast.items())
                if vote is not None and vote.block_id == chance[0]
            ]
            lucky = self.lucky.setdefault(place, self._lucky(number, backers, here))
            ready = lucky in here and self._is_time(here[lucky], kind)
            if ready and self._once("lend", *place):
                self._lend_to_one(height, number, kind, chance, here, lucky)

    def _is_time(self, node: SingleValidator, kind: VoteType) -> bool:
        if not self.late or kind is VoteType.PRECOMMIT:
            return True
        at_s = node.state.consensus.prevote_at_s
        return at_s is not None and self.bus.now_s > at_s - 2 * WAKE_S

    def _lend_to_one(
        self,
        height: int,
        number: int,
        kind: VoteType,
        chance: tuple[BlockHash | None, int],
        here: dict[int, SingleValidator],
        lucky: int,
    ) -> None:
        self.lent += 1
        for place in here:
            for liar in self.keys:
                block_id, extra = chance
                if place != lucky:
                    if not self.equivocates:
                        continue
                    if self.draw.random() < 0.5:
                        block_id, extra = None, 0
                    else:
                        extra += 1
                self.tell_vote(place, liar, kind, height, number, block_id, extra)

    def _listeners(self, enough: int, here: dict[int, SingleValidator]) -> list[int]:
        """To whom a lying leader offers."""
        size = enough if self.draw.random() < 0.8 else self.draw.randrange(len(here))
        return self.draw.sample(sorted(here), min(size, len(here)))

    def _lucky(
        self, number: int, backers: Sequence[int], here: dict[int, SingleValidator]
    ) -> int:
        """To whom the votes are lent."""
        roll = self.draw.random()
        if roll < 0.5:
            return min(backers, key=lambda p: here[p].state.consensus.locked_round)
        return self.draw.choice(backers if roll < 0.75 else sorted(here))


class Leapfrogger(Lender):
    """Lets locks overtake each other: without gossip of quorums no height ends.

    It offers to the last in the order, lets the very last lock, and lends its votes to
    each leader in turn: whoever leads next knows of no lock but its own older one.
    """

    def _order(self, here: dict[int, SingleValidator]) -> list[int]:
        order = next(iter(here.values())).state.validator.roster.order
        return [place for place in order if place in here]

    def _listeners(self, enough: int, here: dict[int, SingleValidator]) -> list[int]:
        return self._order(here)[-enough:]

    def _lucky(
        self, number: int, backers: Sequence[int], here: dict[int, SingleValidator]
    ) -> int:
        leader = next(iter(here.values())).state.validator.proposer(number)
        last = self._order(here)[-1]
        others = [place for place in backers if place != last]
        if leader in self.keys:
            return last
        return leader if leader in others else others[0]


class QuietLender(Lender):
    """Never says two things: nothing convicts it."""

    equivocates = False


class LateLender(Lender):
    """Speaks at the last moment."""

    late = True


class Replayer(ByzantineValidators):
    """Signs nothing; says again what the honest said, however long ago."""

    def __init__(self, keys: dict[int, SigningKey], draw: random.Random) -> None:
        super().__init__(keys, draw)
        self.first: dict[bytes, bytes] = {}
        self.kept: list[bytes] = []

    def overhear(self, payload: bytes) -> None:
        message = gossip_messages.FRAME.unpack(payload)
        if message.subject == FrameSubject.STATUS:
            self.first.setdefault(STATUS.unpack(message.content).validator, payload)
        if len(self.kept) < 4000:
            self.kept.append(payload)
        else:
            self.kept[self.draw.randrange(4000)] = payload

    def act(self) -> None:
        old = self.draw.choices(self.kept, k=2) if self.kept else []
        for payload in (*self.first.values(), *old):
            for place in self.bus.honest:
                self.tell(place, payload)


class Hurrier(ByzantineValidators):
    """Is at each height before all others, and offers empty blocks at once."""

    def __init__(self, keys: dict[int, SigningKey], draw: random.Random) -> None:
        super().__init__(keys, draw)
        self.done: set[int] = set()

    def act(self) -> None:
        node = max(self.bus.nodes, key=lambda node: node.state.height)
        height = node.state.height + 1
        if height in self.done:
            return
        self.done.add(height)
        for number in range(3):
            leader = node.state.validator.proposer(number)
            for place in self.bus.honest:
                if leader in self.keys:
                    block = gossip_messages.wrap_proposal(
                        self.offer(leader, number, node, 0)
                    )
                    self.tell(place, block)
                for liar in self.keys:
                    for kind in VoteType:
                        self.tell_vote(place, liar, kind, height, number, None)


class Asker(ByzantineValidators):
    """Says all the time, truly signed and anew, that it lacks everything."""

    def __init__(self, keys: dict[int, SigningKey], draw: random.Random) -> None:
        super().__init__(keys, draw)
        self.counter = 0

    def act(self) -> None:
        node = max(self.bus.nodes, key=lambda node: node.state.height)
        tip, height = node.state.tip, node.state.height
        for liar, key in self.keys.items():
            self.counter += 1
            wanted = height + self.draw.randrange(2)
            status = ValidatorStatus(
                PublicKey(key.public),
                self.counter,
                max(1, wanted),
                tip.parent(),
                0,
                (),
                bytes([liar]) * gossip_messages.NONCE_BYTES,
                (),
                bytes(SIGNATURE_BYTES),
            )
            signature = key.sign(status.signed_bytes(self.bus.world.chain_id))
            packed = STATUS.pack(replace(status, signature=signature))
            for place in self.bus.honest:
                self.tell(place, gossip_messages.frame(FrameSubject.STATUS, packed))

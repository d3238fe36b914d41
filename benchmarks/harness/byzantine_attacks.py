"""Attacks of one coordinator on the others: see `benchmarks.attacks`."""

from dataclasses import replace

from benchmarks.harness.coordinator_attack import Attack
from starling.broker.link_events import MqttMessage
from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.gossip_messages import FrameSubject, frame
from starling.coordinator.chain.state import transaction_codec
from starling.coordinator.wire.frames import REQUEST, PeerRequest, payloads
from starling.protocol.chain.blocks import (
    BLOCK,
    PROPOSAL,
    VOTE,
    Block,
    Header,
    Proposal,
    Vote,
    VoteType,
    vote_bytes,
)
from starling.protocol.chain.genesis import FORMAT_VERSION
from starling.protocol.crypto import merkle
from starling.protocol.ids import (
    SIGNATURE_BYTES,
    BlockHash,
    Digest,
    H,
    PublicKey,
    TaskId,
    Version,
)
from starling.protocol.wire.envelope import ENVELOPE, MessageKind, sign
from starling.protocol.wire.message_bodies import CONTRIBUTION, Contribution

REQUEST_BYTES_PER_S = 25_000
LATE_S = 0.95
"""Just before others give a proposal up."""
KEPT_MAX = 2000
REQUESTS_FROM = 1 << 50
"""Counters of requests, above all that the liar's honest half signs."""


class Lend(Attack):
    """Offers to some only, and lends its prevote to one listener at a time (F1)."""

    def begin(self) -> None:
        """Prepares what it remembers."""
        self.offers: dict[tuple[int, int], Proposal] = {}
        self.cast: dict[tuple[int, int], dict[int, Vote]] = {}
        self.done: set[tuple[int, int]] = set()

    def passes(self, message: MqttMessage) -> bool:
        """Whether something that its honest half says is said."""
        said = self.said(message)
        if isinstance(said, Proposal):
            self.offers[said.height, said.round] = said
            for to in self.draw.sample(self.others, 2):
                self.tell(to, gossip_messages.wrap_proposal(said))
            return False
        silent = (FrameSubject.PROPOSAL, FrameSubject.POLKA, FrameSubject.CERTIFICATE)
        return not isinstance(said, Vote) and said not in silent

    def overhears(self, topic: FrameSubject, content: bytes, payload: bytes) -> None:
        """Something was said of the ledger."""
        if topic is FrameSubject.PROPOSAL:
            proposal = PROPOSAL.unpack(content)
            self.offers[proposal.height, proposal.round] = proposal
        elif topic is FrameSubject.VOTE:
            vote = VOTE.unpack(content)
            if vote.vote_type == VoteType.PREVOTE and vote.voter != self.me:
                place = vote.height, vote.round
                self.cast.setdefault(place, {})[vote.voter] = vote

    def act(self, now_s: float) -> None:
        """Called many times a second while it is active."""
        if not self.cast:
            return
        top = max(self.cast)[0]
        self.cast = {at: one for at, one in self.cast.items() if at[0] >= top - 1}
        self.offers = {at: one for at, one in self.offers.items() if at[0] >= top - 1}
        for place, cast in sorted(self.cast.items()):
            named = {vote.block_id for vote in cast.values()} - {None}
            if place in self.done or not named:
                continue
            block = sorted(one for one in named if one is not None)[0]
            backers = sorted(at for at in cast if cast[at].block_id == block)
            if len(backers) == len(self.others) - 1:
                self.done.add(place)
                self._lend(place, block, backers, cast[backers[0]].extra)

    def _lend(
        self, place: tuple[int, int], block: BlockHash, backers: list[int], extra: int
    ) -> None:
        proposal = self.offers.get(place)
        leader = None if proposal is None else proposal.proposer
        lucky = leader if leader in backers else backers[-1]
        for to in self.others:
            if to == lucky:
                kind = VoteType.PREVOTE
                signed = vote_bytes(self.chain_id, kind, *place, block, extra)
                vote = Vote(kind, *place, block, extra, self.me, self.key.sign(signed))
                self.tell(to, gossip_messages.wrap_vote(vote))
            else:
                self.tell(to, self.vote(VoteType.PREVOTE, *place, None))


class Withhold(Attack):
    """Offers to one, to nobody or at the last moment; votes late or never (F7)."""

    def begin(self) -> None:
        """Prepares what it remembers."""
        self.late: list[tuple[float, int, bytes]] = []
        self.now_s = 0.0

    def passes(self, message: MqttMessage) -> bool:
        """Whether something that its honest half says is said."""
        said = self.said(message)
        if isinstance(said, Proposal):
            listeners = self.draw.choice([[], self.others[:1], self.others])
            wait_s = self.draw.choice([0.0, LATE_S])
            content = gossip_messages.wrap_proposal(said)
            self.late += [(self.now_s + wait_s, to, content) for to in listeners]
            return False
        if isinstance(said, Vote):
            # Said at last, so that it is there again and has its turn.
            content = gossip_messages.wrap_vote(said)
            to = self.draw.choice(self.others)
            self.late.append((self.now_s + LATE_S, to, content))
            return False
        return said not in (FrameSubject.PROPOSAL, FrameSubject.POLKA)

    def act(self, now_s: float) -> None:
        """Called many times a second while it is active."""
        self.now_s = now_s
        due = [one for one in self.late if one[0] <= now_s]
        self.late = [one for one in self.late if one[0] > now_s]
        for _, to, content in due:
            self.tell(to, content)


class Replay(Attack):
    """Says again what others once said: their first statuses, and old votes (F2)."""

    def begin(self) -> None:
        """Prepares what it remembers."""
        self.first: dict[PublicKey, bytes] = {}
        self.kept: list[bytes] = []
        self.next_s = 0.0

    def overhears(self, topic: FrameSubject, content: bytes, payload: bytes) -> None:
        """Something was said of the ledger."""
        if topic is FrameSubject.STATUS:
            who = gossip_messages.STATUS.unpack(content).validator
            self.first.setdefault(who, payload)
        if len(self.kept) < KEPT_MAX:
            self.kept.append(payload)
        else:
            self.kept[self.draw.randrange(KEPT_MAX)] = payload

    def act(self, now_s: float) -> None:
        """Called many times a second while it is active."""
        if now_s < self.next_s or not self.kept:
            return
        self.next_s = now_s + 0.2
        for payload in (*self.first.values(), *self.draw.choices(self.kept, k=4)):
            self.everybody(payload)


class Want(Attack):
    """Asks for everything all the time, 25 kB a second (F3)."""

    def begin(self) -> None:
        """Prepares what it remembers."""
        self.from_s = 0.0
        self.asked = 0
        self.turn = 0

    def act(self, now_s: float) -> None:
        """Called many times a second while it is active."""
        if not self.from_s:
            self.from_s = now_s
        earned = (now_s - self.from_s) * REQUEST_BYTES_PER_S - self.asked
        if earned > REQUEST_BYTES_PER_S:
            # It was calm for a while, which earns nothing.
            self.from_s, self.asked, earned = now_s, 0, 0.0
        while earned > 0:
            payload = self._request()
            topic = self.topics.gossip(self.names[self.me])
            self._say(topic, payload)
            self.asked += len(payload)
            earned -= len(payload)

    def _request(self) -> bytes:
        self.turn += 1
        kinds: tuple[tuple[FrameSubject, tuple[bytes, ...], tuple[int, ...]], ...] = (
            (FrameSubject.WHOLE, (self.digest, *self._any(63)), ()),
            (FrameSubject.WHOLE, (self.digest,), tuple(range(16))),
            (FrameSubject.BLOCKS, ((1 + self.turn % 50).to_bytes(8),), ()),
            (FrameSubject.UPLOAD, self._any(64), ()),
        )
        return self.request(*kinds[self.turn // len(self.others) % len(kinds)])

    def request(
        self, subject: FrameSubject, keys: tuple[bytes, ...], pieces: tuple[int, ...]
    ) -> bytes:
        """A signed request of one of the others, each in turn."""
        asked = self.ids[self.others[self.turn % len(self.others)]]
        body = REQUEST.pack(PeerRequest(asked, subject, keys, pieces))
        counter = REQUESTS_FROM + self.turn
        kind_of = MessageKind.PEER_REQUEST
        signed = sign(self.key, self.chain_id, kind_of, counter, body)
        return frame(FrameSubject.REQUEST, ENVELOPE.pack(signed))

    def _any(self, count: int) -> tuple[bytes, ...]:
        return tuple(self.draw.randbytes(32) for _ in range(count))


class Hurry(Attack):
    """Begins every height at once: `lying_coordinator` plants that in its core (F4)."""


class Garbage(Attack):
    """Offers blocks of updates that nobody has, signed by nobody or by itself (F6)."""

    def begin(self) -> None:
        """Prepares what it remembers."""
        self.next_s = 0.0
        self.height = 1
        self.transactions = [self._update(number) for number in range(200)]

    def _update(self, number: int) -> bytes:
        body = CONTRIBUTION.pack(
            Contribution(
                TaskId(0),
                Version(0),
                1,
                16,
                0,
                0,
                H(b"blob", number.to_bytes(4)),
                H(b"commitment"),
            )
        )
        signed = sign(self.key, self.chain_id, MessageKind.UPDATE, 1, body)
        sender = PublicKey(self.draw.randbytes(32))
        return transaction_codec.pack(replace(signed, sender=sender))

    def overhears(self, topic: FrameSubject, content: bytes, payload: bytes) -> None:
        """Something was said of the ledger."""
        if topic is FrameSubject.VOTE:
            self.height = max(self.height, VOTE.unpack(content).height)

    def act(self, now_s: float) -> None:
        """Called many times a second while it is active."""
        if now_s < self.next_s:
            return
        self.next_s = now_s + 0.05
        count = self.draw.choice([1, 12, 100])
        content = self._proposal(self.draw.sample(self.transactions, count))
        for payload in payloads(content):
            self.everybody(payload)

    def _proposal(self, transactions: list[bytes]) -> bytes:
        validators = self.genesis.validators.digest()
        header = Header(
            FORMAT_VERSION,
            self.chain_id,
            self.height + self.draw.randrange(2),
            0,
            BlockHash(H(self.draw.randbytes(8))),
            merkle.root(transactions),
            Digest(H(b"state")),
            validators,
            validators,
            self.me,
        )
        packed = BLOCK.pack(Block(header, tuple(transactions)))
        number, bare = self.draw.randrange(4), bytes(SIGNATURE_BYTES)
        found = Proposal(
            header.height,
            number,
            0,
            header.block_id(),
            self.me,
            bare,
            packed,
            None,
            None,
        )
        signature = self.draw.choice(
            [
                self.draw.randbytes(SIGNATURE_BYTES),
                self.key.sign(found.signed_bytes(self.chain_id)),
            ]
        )
        return gossip_messages.wrap_proposal(replace(found, signature=signature))


ATTACKS: dict[str, type[Attack]] = {
    "calm": Attack,
    "lend": Lend,
    "withhold": Withhold,
    "replay": Replay,
    "want": Want,
    "hurry": Hurry,
    "garbage": Garbage,
}

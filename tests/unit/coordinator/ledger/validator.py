"""One validator over a memory store and a list for a journal, as a rim would run it."""

from collections.abc import Mapping
from dataclasses import replace

from coordinator.ledger import node
from coordinator.ledger.heard import Lacking
from coordinator.ledger.memory import MemoryStore
from coordinator.ledger.node import (
    Effect,
    Event,
    Gossip,
    JournalVote,
    LedgerSettings,
    LedgerState,
    StoreBlock,
    Submitted,
    Ticked,
)
from coordinator.ledger.wire import MESSAGE, Topic, wrap_decision
from protocol.chain import PROPOSAL, Proposal
from protocol.envelope import Envelope
from protocol.genesis import Genesis
from protocol.ids import H, PublicKey
from protocol.keys import SigningKey

SERVED_MAX = 64


class Running:
    """A ledger with its disk. A crash keeps the disk only.

    Attributes:
      disk: The blocks.
      journal: The vote journal.
      heard: Effects since the start, in order.
      sent: Gossip that nobody took yet.
      only: For whom alone the last step said what of it.
      boots: How often it started.
    """

    def __init__(self, genesis: Genesis, key: SigningKey, **options: object) -> None:
        settings = LedgerSettings(genesis, key)
        self.settings: LedgerSettings = replace(settings, **options)  # type: ignore[arg-type]  # a table's fields
        self.disk = MemoryStore(genesis)
        self.journal: list[bytes] = []
        self.heard: list[Effect] = []
        self.sent: list[bytes] = []
        self.only: dict[bytes, PublicKey] = {}
        self.boots = 0
        self.state = self._begin(0.0)

    def _begin(self, now_s: float) -> LedgerState:
        self.boots += 1
        self.settings = replace(
            self.settings,
            status_from=self.boots << 32,
            nonce=H(b"nonce", self.settings.key.public, self.boots.to_bytes(4))[:8],
        )
        tip = self.disk.tip()
        last = None if tip.header is None else self.disk.block(tip.header.height)
        return node.begin(
            self.settings,
            tip.header,
            tip.certificate,
            tip.tree,
            self.journal,
            now_s,
            None if last is None else last.block,
        )

    def restart(self, now_s: float) -> None:
        """Power off and on."""
        self.sent = []
        self.state = self._begin(now_s)

    def step(
        self,
        event: Event,
        now_s: float,
        stop_after: int | None = None,
        now_ms: int | None = None,
    ) -> None:
        """One step; the power goes after `stop_after` effects, if given."""
        known = self.state.lacking
        wall_ms = int(1000 * now_s) if now_ms is None else now_ms
        self.state, effects = node.step(
            self.settings, self.state, event, now_s, wall_ms
        )
        self.only = {}
        for effect in effects[:stop_after]:
            self._carry_out(effect)
        if stop_after is None:
            self._serve(known)

    def _serve(self, known: Mapping[bytes, Lacking]) -> None:
        """Tells who just showed to be far behind what they would ask for."""
        top = self.state.tip.height
        for who, lacking in self.state.lacking.items():
            told = lacking is not known.get(who) and self.state.fork is None
            if not told or lacking.height >= top:
                continue
            most = min(top, lacking.height + SERVED_MAX - 1)
            for height in range(lacking.height, most + 1):
                stored = self.disk.block(height)
                assert stored is not None
                self.sent.append(wrap_decision(stored.block, stored.certificate))

    def _carry_out(self, effect: Effect) -> None:
        self.heard.append(effect)
        match effect:
            case JournalVote():
                self.journal.append(effect.payload)
            case StoreBlock():
                identities = [result.identity for result in effect.results]
                with self.disk.transaction():
                    self.disk.put_block(
                        effect.block, effect.certificate, effect.changes, identities
                    )
            case Gossip():
                self.sent.append(effect.payload)
                if effect.to is not None:
                    self.only[effect.payload] = effect.to
            case _:
                pass

    def submit(self, *envelopes: Envelope, now_s: float = 0.0) -> None:
        """Submits transactions."""
        for envelope in envelopes:
            self.step(Submitted(envelope), now_s)

    def tick(self, now_s: float) -> None:
        """Sends `Ticked`."""
        self.step(Ticked(), now_s)

    def of(self, kind: type[Effect]) -> list[Effect]:
        """The effects of one kind so far."""
        return [effect for effect in self.heard if isinstance(effect, kind)]

    def blocks(self) -> list[StoreBlock]:
        """The blocks that were decided since it was made, in order."""
        return [effect for effect in self.heard if isinstance(effect, StoreBlock)]

    def votes(self) -> list[JournalVote]:
        """What was written down since it was made, in order."""
        return [effect for effect in self.heard if isinstance(effect, JournalVote)]


def first_offer(genesis: Genesis, key: SigningKey, waiting: Envelope) -> Proposal:
    """What the proposer of height 1 offers for one transaction."""
    proposer = Running(genesis, key)
    proposer.submit(waiting)
    proposer.tick(0.0)
    messages = [MESSAGE.unpack(payload) for payload in proposer.sent]
    (offer,) = [one.content for one in messages if one.topic == Topic.PROPOSAL]
    return PROPOSAL.unpack(offer)

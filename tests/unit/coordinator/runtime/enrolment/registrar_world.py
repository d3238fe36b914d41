"""A registrar's handler with a chain that decides, and newcomers at its door."""

from dataclasses import dataclass, field
from pathlib import Path

from starling.broker.link_events import MqttMessage
from starling.broker.runtime.enrolment_client import EnrolmentClient
from starling.coordinator.enrolment.registrar import Registrar, TokenRecord
from starling.coordinator.runtime.enrolment.enrolment_handler import EnrolmentHandler
from starling.coordinator.runtime.enrolment.enrolment_store import EnrolmentStore
from starling.coordinator.runtime.enrolment.newcomers import RETRY_S
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.setup.genesis_setup import (
    assemble_genesis,
    identify,
)
from starling.durable.files import write_atomic
from starling.protocol.chain.genesis import GENESIS, FaultModel
from starling.protocol.crypto.scram import scram_keys
from starling.protocol.errors import DecodeError, OperationError
from starling.protocol.wire.enrolment_messages import (
    EnrolmentKind,
    EnrolmentOutcome,
)
from starling.protocol.wire.enrolment_token import EnrolmentToken

NOW_S = 1_700_000_000.0


AUTHORITY = b"\xaa" * 32


TOKEN = EnrolmentToken("h", 1, "meadow", AUTHORITY, b"token-01", bytes(range(20)))


@dataclass
class Gate:
    """Newcomers whose document is their name; what the chain says is settable."""

    says: bytes | Exception | None = b'{"admitted": 1}'
    asked: list[str] = field(default_factory=list)
    retry_s: float = RETRY_S
    retries_refused: bool = False
    waits_for: str = ""
    expelled: set[str] = field(default_factory=set)

    def waiting_text(self, home: CoordinatorHome) -> str:
        return self.waits_for

    def name(self, document: bytes) -> str:
        if not document.isalnum():
            raise DecodeError("no name")
        return document.decode()

    def refuse_expelled(self, home: CoordinatorHome, document: bytes) -> None:
        if self.name(document) in self.expelled:
            raise OperationError(f"{self.name(document)} was expelled")

    def admit(self, home: CoordinatorHome, document: bytes) -> bytes | None:
        self.asked.append(document.decode())
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


class World:
    """A handler, and newcomers that talk to it."""

    def __init__(self, path: Path) -> None:
        self.home = CoordinatorHome(path)
        genesis = assemble_genesis(
            "meadow", [identify(self.home, "one")], FaultModel.BYZANTINE, 10
        )
        write_atomic(path / "genesis", GENESIS.pack(genesis))
        self.store = EnrolmentStore(path)
        self.store.prepare()
        self.gate = Gate()
        self.now_s = NOW_S
        self.begin()

    def begin(self) -> None:
        """As after a restart: nothing but the files is left."""
        rules = Registrar(
            self.home.signing_key().public, AUTHORITY, str(id(object())).encode() * 2
        )
        gates = dict.fromkeys(EnrolmentKind, self.gate)
        self.handler = EnrolmentHandler(
            self.home, "meadow", rules, self.store, lambda: self.now_s, gates
        )

    def token(self, uses: int = 1, *, by_hand: bool = False) -> None:
        self.store.add_token(
            TokenRecord(
                TOKEN.identity,
                EnrolmentKind.BOARD,
                scram_keys(TOKEN.secret),
                uses,
                int(NOW_S) + 3600,
                by_hand,
            )
        )

    def newcomer(self, name: str, client: str = "") -> EnrolmentClient:
        """One that has its challenge."""
        talk = EnrolmentClient(
            TOKEN, EnrolmentKind.BOARD, name.encode(), client or name, b"n" * 32
        )
        self.pass_on(talk)
        return talk

    def pass_on(self, talk: EnrolmentClient) -> EnrolmentOutcome | None:
        """Sends what it has to say, and gives it the answers."""
        decided = None
        for answer in self.handler.receive(talk.topic, talk.payload):
            decided = talk.receive(answer.topic, answer.payload) or decided
        return decided


def told(talk: EnrolmentClient, messages: list[MqttMessage]) -> EnrolmentOutcome | None:
    outcome = None
    for message in messages:
        outcome = talk.receive(message.topic, message.payload) or outcome
    return outcome

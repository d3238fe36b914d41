"""Programs of a fleet that newcomers join."""

import os
import time
from contextlib import ExitStack
from pathlib import Path

from starling.agent.runtime.storage.agent_home import AgentHome
from starling.broker.backoff import BackoffPolicy
from starling.broker.broker_settings import LOCAL_HOSTS, BrokerSettings
from starling.broker.link_events import (
    NO_SUBSCRIBER,
    Delivered,
    LinkConnected,
    LinkSettings,
    MessageArrived,
    PasswordLogin,
    ServerTls,
)
from starling.broker.runtime.broker_home import BrokerHome
from starling.broker.runtime.enrolment_client import EnrolmentClient
from starling.broker.runtime.mosquitto_process import free_port
from starling.broker.runtime.pinned_authority import fingerprint
from starling.coordinator.enrolment.registrar import TokenRecord
from starling.coordinator.runtime.enrolment.enrolment_store import EnrolmentStore
from starling.coordinator.runtime.enrolment.registrar_threads import registrar_beside
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.setup.genesis_setup import GenesisOptions, found
from starling.protocol.crypto.scram import scram_keys
from starling.protocol.wire.enrolment_messages import (
    OUTCOME,
    EnrolmentKind,
)
from starling.protocol.wire.enrolment_token import EnrolmentToken
from starling.protocol.wire.topics import Topics
from tests.e2e.conftest import RecordedLink
from tests.e2e.deadline import DEADLINE_S

FLEET = "meadow"


TOPICS = Topics(FLEET)


HOST = LOCAL_HOSTS[0]


class Door:
    """An enrolment listener with its registrar, and no coordinator that runs.

    Attributes:
      home: Of the coordinator.
      broker: Of the broker.
      token: Good for two boards.
      registrar: Ends it when it is closed.
    """

    def __init__(self, path: Path) -> None:
        self.stack = ExitStack()
        self.broker = BrokerHome(path / "broker")
        self.settings = BrokerSettings(
            FLEET, bind=HOST, port=free_port(), enrol_port=free_port()
        )
        self.broker.prepare(self.settings)
        self.home = CoordinatorHome(path / "north")
        found(self.home, GenesisOptions(FLEET, self.broker.path, "", 0, 10))
        self.store = EnrolmentStore(self.broker.path)
        self.token = EnrolmentToken(
            HOST,
            self.settings.enrol_port,
            FLEET,
            fingerprint(self.broker.authority_certificate),
            os.urandom(8),
            os.urandom(20),
        )
        keys = scram_keys(self.token.secret)
        until_s = int(time.time()) + 3600
        kind = EnrolmentKind.BOARD
        self.store.add_token(
            TokenRecord(self.token.identity, kind, keys, 2, until_s, True)
        )
        self.stack.enter_context(self.broker.enrolment.process(log_to_file=True))
        gate = self.broker.enrolment.gate(self.settings)
        self.stack.callback(gate.stop)
        gate.start()
        self.registrar = self.stack.enter_context(ExitStack())
        self.registrar.enter_context(registrar_beside(self.home))
        self.until_somebody_listens()

    def until_somebody_listens(self) -> None:
        name = f"probe-{os.urandom(4).hex()}"
        probe = self.connect(name)
        probe.wait(LinkConnected)
        deadline_s = time.monotonic() + DEADLINE_S
        reason = NO_SUBSCRIBER
        while reason == NO_SUBSCRIBER:
            assert time.monotonic() < deadline_s, "no registrar"
            probe.publish(TOPICS.enrolment_hello(name), b"")
            reason = probe.wait(Delivered).reason_code

    def connect(
        self, client: str, *filters: str, login: PasswordLogin | None = None
    ) -> RecordedLink:
        """A stranger's link, begun; it knows the authority as everybody may."""
        settings = LinkSettings(
            host=HOST,
            port=self.settings.enrol_port,
            client_id=client,
            tls=ServerTls(self.broker.authority_certificate),
            login=login,
            session_expiry_s=0,
            subscriptions=filters,
            backoff=BackoffPolicy(first_s=5.0, most_s=5.0),
        )
        recorded = RecordedLink(settings)
        self.stack.callback(recorded.link.stop, 1.0)
        recorded.link.start()
        return recorded

    def newcomer(self, name: str) -> tuple[EnrolmentClient, RecordedLink]:
        """One that asks for admission in earnest, and is connected."""
        board = AgentHome(self.home.path.parent / name)
        board.begin({})
        request = board.write_request().read_bytes()
        kind = EnrolmentKind.BOARD
        talk = EnrolmentClient(self.token, kind, request, name, os.urandom(32))
        link = self.connect(name, *talk.filters)
        link.wait(LinkConnected)
        return talk, link


def answered(talk: EnrolmentClient, link: RecordedLink) -> int:
    """State of the answer to a claim."""
    link.publish(talk.topic, talk.payload)
    arrived = link.wait(MessageArrived, lambda each: each.topic.endswith("/outcome"))
    link.link.acknowledge(arrived.token)
    talk.receive(arrived.topic, arrived.payload)
    return OUTCOME.unpack(arrived.payload).state

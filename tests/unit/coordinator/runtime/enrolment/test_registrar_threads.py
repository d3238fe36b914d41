"""The registrar beside a coordinator: what is wrong with it ends nothing else."""

import logging
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from starling.broker.broker_settings import BrokerSettings
from starling.broker.health_checks import Verdict
from starling.broker.link_events import (
    AckToken,
    LinkConnected,
    LinkDisconnected,
    LinkEvent,
    LinkSettings,
    MessageArrived,
    MqttMessage,
    ServerTls,
)
from starling.broker.runtime.broker_home import BrokerHome
from starling.coordinator.cli.self_check import certificate_checks, registrar_checks
from starling.coordinator.config import CoordinatorConfig
from starling.coordinator.runtime.enrolment import registrar_threads
from starling.coordinator.runtime.enrolment.registrar_threads import (
    RegistrarThreads,
    registrar_beside,
)
from starling.coordinator.runtime.home import CoordinatorHome
from starling.protocol.errors import ConfigError, LimitError, TransportError
from starling.protocol.schema.toml_settings import sample

HUGE, FLOOD = "huge", "flood"
WAIT_S = 60.0


@pytest.fixture
def home(tmp_path: Path) -> CoordinatorHome:
    """A coordinator's folder beside a broker's whose settings are damaged."""
    broker = tmp_path / "broker"
    broker.mkdir()
    (broker / "broker.json").write_text('{"fleet": "gar')
    text = sample(CoordinatorConfig, {"broker.home": str(broker)})
    (tmp_path / "coordinator.toml").write_text(text)
    return CoordinatorHome(tmp_path)


def test_damaged_broker_keeps_no_coordinator_from_its_work(
    home: CoordinatorHome, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)

    with registrar_beside(home):
        pass

    assert "newcomers are not answered from here" in caplog.text
    assert "broker.json: damaged" in caplog.text


def test_broker_folder_that_cannot_be_written_is_warned_of_and_checked(
    home: CoordinatorHome, warnings: "Warnings"
) -> None:
    broker = BrokerHome(Path(home.config().broker.home))
    (broker.path / "broker.json").unlink()
    broker.prepare(BrokerSettings("meadow", enrol_port=8884))
    # Where the folder has to come, something else is: as on a read-only disk.
    (broker.path / "enrolment").touch()

    with registrar_beside(home):
        said = warnings.said.get(timeout=WAIT_S)
        (row,) = registrar_checks(home)

    assert "newcomers are not answered from here" in said
    assert row.verdict is Verdict.WARN
    assert "nobody answers newcomers" in row.found


@pytest.mark.usefixtures("fake_mosquitto")
def test_registrar_that_answers_passes_its_check(
    home: CoordinatorHome, link: type["FakeLink"]
) -> None:
    broker = BrokerHome(Path(home.config().broker.home))
    (broker.path / "broker.json").unlink()
    broker.prepare(BrokerSettings("meadow"))

    with registrar_beside(home):
        link.begun.get(timeout=WAIT_S)
        (row,) = registrar_checks(home)

    assert row.verdict is Verdict.OK


class FakeLink:
    """A link of which tests see what it does.

    Attributes:
      begun: Client ids of the links that were started, as they are.
      sent: Topics of what was published.
      is_up: Whether it takes messages.
      tries: Counts messages, also those that it does not take.
      done: Packet ids of messages that were acknowledged.
      put: Lets an event come in at the newest link.
    """

    begun: queue.SimpleQueue[str]
    sent: queue.SimpleQueue[str]
    done: queue.SimpleQueue[int]
    put: Callable[[LinkEvent], None]
    is_up: threading.Event
    tries: threading.Semaphore

    def __init__(
        self, settings: LinkSettings, put: Callable[[LinkEvent], None], _: object
    ) -> None:
        self._settings = settings
        type(self).put = staticmethod(put)

    def start(self) -> None:
        self.begun.put(self._settings.client_id.partition("-")[0])

    def stop(self, timeout_s: float = 5.0) -> None:
        pass

    def publish(self, message: MqttMessage) -> int:
        self.tries.release()
        if not self.is_up.is_set():
            raise TransportError("not connected to the broker")
        if message.topic == HUGE:
            raise LimitError("too large")
        self.sent.put(message.topic)
        return 1

    def acknowledge(self, token: AckToken) -> None:
        self.done.put(token.packet)


@pytest.fixture
def link(monkeypatch: pytest.MonkeyPatch) -> type[FakeLink]:
    class Link(FakeLink):
        begun = queue.SimpleQueue[str]()
        sent = queue.SimpleQueue[str]()
        done = queue.SimpleQueue[int]()
        is_up = threading.Event()
        tries = threading.Semaphore(0)

    monkeypatch.setattr(registrar_threads, "MqttLink", Link)
    monkeypatch.setattr(registrar_threads, "RETRY_S", 0.01)
    monkeypatch.setattr(registrar_threads, "LOOK_EVERY_S", 0.01)
    return Link


class Warnings(logging.Handler):
    """What was warned of, to wait for."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: queue.SimpleQueue[str] = queue.SimpleQueue()

    def emit(self, record: logging.LogRecord) -> None:
        self.said.put(record.getMessage())


@pytest.fixture
def warnings() -> Iterator[Warnings]:
    handler = Warnings()
    registrar_threads.log.addHandler(handler)
    yield handler
    registrar_threads.log.removeHandler(handler)


@pytest.mark.usefixtures("fake_mosquitto")
def test_registrar_s_certificate_that_comes_later_is_noticed(
    home: CoordinatorHome, link: type[FakeLink], warnings: Warnings
) -> None:
    broker = BrokerHome(Path(home.config().broker.home))
    (broker.path / "broker.json").unlink()
    broker.prepare(BrokerSettings("meadow"))
    certificate = broker.path / "registrar.pem"
    away = certificate.rename(broker.path / "away")

    with registrar_beside(home):
        said = warnings.said.get(timeout=WAIT_S)
        assert "renewals are not answered from here" in said
        assert "registrar.pem: missing" in said
        away.rename(certificate)
        assert link.begun.get(timeout=WAIT_S) == "registrar"

    assert warnings.said.empty()


def test_fault_of_one_desk_leaves_the_other_alone(
    link: type[FakeLink], warnings: Warnings
) -> None:
    ending, tries = threading.Event(), 0

    def handler(name: str) -> RegistrarThreads:
        settings = LinkSettings("127.0.0.1", 1, name, tls=ServerTls(Path("a.pem")))
        return RegistrarThreads(name, Work([]), settings)

    def faulty() -> RegistrarThreads:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise ConfigError("others may read it", file="registrar.password")
        return handler("newcomers")

    handlers = {"newcomers": faulty, "renewals": lambda: handler("renewals")}
    with ExitStack() as stack:
        registrar_threads._open(handlers, stack, ending)

    assert tries == 4
    assert [link.begun.get_nowait() for _ in range(2)] == ["renewals", "newcomers"]
    assert link.begun.empty()
    assert "newcomers are not answered" in warnings.said.get_nowait()
    assert warnings.said.empty()


class Work:
    """A handler that has carried out something, once."""

    def __init__(self, topics: list[str]) -> None:
        self._topics = topics

    def admits(self, topic: str, size: int) -> bool:
        return topic != FLOOD

    def receive(self, topic: str, payload: bytes) -> list[MqttMessage]:
        return [MqttMessage(topic, payload)]

    def process_pending(self) -> list[MqttMessage]:
        topics, self._topics = self._topics, []
        return [MqttMessage(topic, b"") for topic in topics]

    def write_status(self) -> None:
        pass


def test_answers_wait_for_the_link(link: type[FakeLink]) -> None:
    settings = LinkSettings("127.0.0.1", 1, "r", tls=ServerTls(Path("a.pem")))
    threads = RegistrarThreads("renewals", Work(["a", HUGE, "b"]), settings)
    threads.start()
    for _ in range(2):
        assert link.tries.acquire(timeout=WAIT_S)
    assert link.sent.empty()

    link.is_up.set()

    assert [link.sent.get(timeout=WAIT_S) for _ in range(2)] == ["a", "b"]
    threads.stop()
    assert link.sent.empty()


def test_answer_that_finds_the_window_full_goes_when_there_is_room(
    link: type[FakeLink],
) -> None:
    settings = LinkSettings("127.0.0.1", 1, "r", tls=ServerTls(Path("a.pem")))
    threads = RegistrarThreads("newcomers", Work([]), settings)
    for number, topic in enumerate(("a", "b")):
        link.put(MessageArrived(topic, b"", AckToken(1, number)))
    threads.start()
    assert [link.done.get(timeout=WAIT_S) for _ in range(2)] == [0, 1]
    assert link.sent.empty()

    link.is_up.set()

    assert [link.sent.get(timeout=WAIT_S) for _ in range(2)] == ["a", "b"]
    threads.stop()


def test_broker_that_stays_away_is_said_once(
    link: type[FakeLink], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, registrar_threads.log.name)
    settings = LinkSettings("127.0.0.1", 1, "r", tls=ServerTls(Path("a.pem")))
    threads = RegistrarThreads("renewals", Work([]), settings)
    link.is_up.set()
    away = LinkDisconnected("cannot connect: refused", 1.0)
    events: list[LinkEvent] = [
        away,
        away,
        away,
        LinkDisconnected("cannot connect: no route", 1.0),
        away,
        LinkConnected(100, False, 0),
        away,
        away,
        MessageArrived("b", b"", AckToken(1, 1)),
    ]
    for event in events:
        link.put(event)
    threads.start()
    assert link.sent.get(timeout=WAIT_S) == "b"
    threads.stop()

    said = [row.getMessage() for row in caplog.records if row.levelno >= logging.INFO]
    assert said == [
        "renewals: cannot connect: refused",
        "renewals: cannot connect: no route",
        "renewals are answered",
        "renewals: cannot connect: refused",
    ]


def test_flood_of_one_client_delays_no_other(
    link: type[FakeLink], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A message that is heard has its second; a flood that waited would have hours.
    monkeypatch.setattr(registrar_threads, "MESSAGES_PER_S", 1.0)
    settings = LinkSettings("127.0.0.1", 1, "r", tls=ServerTls(Path("a.pem")))
    threads = RegistrarThreads("renewals", Work([]), settings)
    link.is_up.set()
    for number in range(10_000):
        topic = FLOOD if number < 9_999 else "b"
        link.put(MessageArrived(topic, b"", AckToken(1, number)))
    threads.start()

    assert link.sent.get(timeout=WAIT_S) == "b"
    done = [link.done.get(timeout=WAIT_S) for _ in range(10_000)]
    assert done == list(range(10_000))
    threads.stop()


def test_flood_of_many_clients_is_said_once(
    link: type[FakeLink], monkeypatch: pytest.MonkeyPatch, warnings: Warnings
) -> None:
    monkeypatch.setattr(registrar_threads, "MESSAGES_PER_S", 20.0)
    settings = LinkSettings("127.0.0.1", 1, "r", tls=ServerTls(Path("a.pem")))
    threads = RegistrarThreads("newcomers", Work([]), settings)
    link.is_up.set()
    for number in range(25):
        link.put(MessageArrived("a", b"", AckToken(1, number)))
    threads.start()

    assert [link.done.get(timeout=WAIT_S) for _ in range(25)] == list(range(25))
    threads.stop()
    assert "newcomers: more than 20 messages a second" in warnings.said.get_nowait()
    assert warnings.said.empty()


def test_damaged_broker_is_a_row_of_the_check(home: CoordinatorHome) -> None:
    row = certificate_checks(home, 0.0)[-1]

    assert (row.name, row.verdict.value) == ("tls.renewals", "fail")
    assert "broker.json: damaged" in row.found
    assert "starling broker check" in row.fix

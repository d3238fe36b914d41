"""A real Mosquitto with our own configuration, and links to it that record events."""

import queue
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from starling.broker.backoff import BackoffPolicy
from starling.broker.broker_settings import LOCAL_HOSTS, BrokerSettings
from starling.broker.link_events import (
    LinkConnected,
    LinkEvent,
    LinkSettings,
    MqttMessage,
    TlsFiles,
)
from starling.broker.runtime.broker_home import BrokerHome
from starling.broker.runtime.mosquitto_process import MosquittoProcess, free_port
from starling.broker.runtime.mqtt_link import MqttLink
from starling.protocol.wire.topics import Topics
from tests.e2e.deadline import DEADLINE_S
from tests.e2e.required_mosquitto import require_mosquitto

COORDINATOR = "coordinator-1"

_Event = TypeVar("_Event")


class RecordedLink:
    """A link and what it reported."""

    def __init__(self, settings: LinkSettings) -> None:
        self.events: queue.SimpleQueue[LinkEvent] = queue.SimpleQueue()
        self.seen: list[LinkEvent] = []
        self.link = MqttLink(settings, self.events.put, random.Random(1).random)

    def wait(
        self,
        kind: type[_Event],
        condition: Callable[[_Event], bool] = lambda event: True,
    ) -> _Event:
        """The next event of a kind; fails with all events seen at the deadline."""
        deadline_s = time.monotonic() + DEADLINE_S
        while (left_s := deadline_s - time.monotonic()) > 0:
            try:
                event = self.events.get(timeout=left_s)
            except queue.Empty:
                break
            self.seen.append(event)
            if isinstance(event, kind) and condition(event):
                return event
        pytest.fail(f"no {kind.__name__} within {DEADLINE_S} s; saw {self.seen}")

    def drain(self) -> list[LinkEvent]:
        """All events so far, without waiting."""
        while not self.events.empty():
            self.seen.append(self.events.get())
        return self.seen

    def publish(self, topic: str, payload: bytes) -> int:
        return self.link.publish(MqttMessage(topic, payload))


class Broker:
    """A running broker, and clients of it."""

    def __init__(self, home: BrokerHome, process: MosquittoProcess) -> None:
        self.home = home
        self.process = process
        self.topics = Topics("test")
        self._stack = ExitStack()

    def files(self, user: str) -> TlsFiles:
        folder = self.home.path.parent / "clients"
        folder.mkdir(exist_ok=True)
        if not (folder / f"{user}.pem").exists():
            return self.home.certificates.issue_files(user, folder)
        return TlsFiles(
            self.home.authority_certificate,
            folder / f"{user}.pem",
            folder / f"{user}.key",
        )

    def settings(self, user: str, *filters: str) -> LinkSettings:
        return LinkSettings(
            host=LOCAL_HOSTS[0],
            port=self.process.port,
            client_id=user,
            tls=self.files(user),
            subscriptions=filters,
            backoff=BackoffPolicy(first_s=0.05, most_s=0.2),
        )

    def begin(self, settings: LinkSettings) -> RecordedLink:
        """Starts a link, which is stopped at the test's end."""
        recorded = RecordedLink(settings)
        self._stack.callback(recorded.link.stop, 1.0)
        recorded.link.start()
        return recorded

    def connect(self, user: str, *filters: str, **changes: object) -> RecordedLink:
        """A link that is connected."""
        # The type of `changes` is checked by the constructor that `replace` calls.
        settings = replace(self.settings(user, *filters), **changes)  # type: ignore[arg-type]  # a test's fields
        recorded = self.begin(settings)
        recorded.wait(LinkConnected)
        return recorded

    def close(self) -> None:
        self._stack.close()
        self.process.stop()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A real Mosquitto; without it the test fails in CI and is skipped elsewhere."""
    require_mosquitto()
    home = BrokerHome(tmp_path / "broker")
    home.prepare(
        BrokerSettings("test", LOCAL_HOSTS[0], free_port(), coordinators=(COORDINATOR,))
    )
    process = home.process()
    process.start()
    running = Broker(home, process)
    yield running
    running.close()

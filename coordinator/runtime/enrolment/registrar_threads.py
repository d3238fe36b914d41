"""The registrar beside a running coordinator: links of its own, and two threads each.

It renews certificates at the fleet's listener, and answers newcomers at theirs. It
shares no queue with the coordinator's loop. It takes as many messages a second as
`MESSAGES_PER_S` says and acknowledges each only then, so that a flood waits, and is
dropped, in the broker.
"""

import logging
import os
import queue
import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from starling.broker.broker_settings import REGISTRAR, BrokerSettings
from starling.broker.link_events import (
    LinkConnected,
    LinkDisconnected,
    LinkEvent,
    LinkSettings,
    MessageArrived,
    MqttMessage,
)
from starling.broker.runtime.broker_home import BrokerHome
from starling.broker.runtime.mqtt_link import MqttLink
from starling.broker.runtime.pinned_authority import fingerprint
from starling.coordinator.enrolment.registrar import Registrar
from starling.coordinator.runtime.enrolment.desk import Desk
from starling.coordinator.runtime.enrolment.enrolment_store import EnrolmentStore
from starling.coordinator.runtime.enrolment.registrar_desk import RegistrarDesk
from starling.coordinator.runtime.enrolment.renewal_desk import RenewalDesk
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.operations.chain_decision import known_board
from starling.durable.files import lock
from starling.protocol.errors import FederationError, LimitError, TransportError
from starling.protocol.wire.topics import Topics
from starling.service.repeated_warnings import RepeatedWarnings

log = logging.getLogger("starling.coordinator")

MESSAGES_PER_S = 50.0
LOOK_EVERY_S = 0.25
"""How often decisions of operators are looked for."""
RETRY_S = 5.0
"""After which what cannot be done now is tried again."""
LOCK_RETRY_S = 1.0
"""After which one that does not answer looks whether it is to."""
_STOP_S = 2.0
_NONCE_KEY_BYTES = 32


@contextmanager
def registrar_beside(home: CoordinatorHome) -> Iterator[None]:
    """Has the registrar answer during the block, if the broker's folder is here.

    Of several coordinators with one broker's folder, one answers; another takes its
    place when it ends.
    """
    folder = home.config().broker.home
    broker = BrokerHome(Path(folder))
    settings = None
    try:
        settings = broker.settings() if folder else None
    except FederationError as error:
        # The coordinator itself needs nothing of it.
        log.warning("newcomers are not answered from here: %s", error)
    if settings is None:
        yield
        return
    ending = threading.Event()
    thread = threading.Thread(
        target=_answer_alone,
        args=(home, broker, settings, ending),
        name="registrar",
        daemon=True,
    )
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join(2 * _STOP_S)


def _answer_alone(
    home: CoordinatorHome,
    broker: BrokerHome,
    settings: BrokerSettings,
    ending: threading.Event,
) -> None:
    """Answers until the end, once nobody else does."""
    store, told = EnrolmentStore(broker.path), RepeatedWarnings()
    while not ending.is_set():
        try:
            store.prepare()
            with lock(store.lock_file), ExitStack() as stack:
                for desk in _desks(home, broker, settings, store):
                    desk.start()
                    stack.callback(desk.stop)
                ending.wait()
        except FederationError as error:
            # Another coordinator answers, or a file is damaged.
            if told.is_new(str(error), time.monotonic()):
                log.info("newcomers are not answered from here: %s", error)
            ending.wait(LOCK_RETRY_S)


def _desks(
    home: CoordinatorHome,
    broker: BrokerHome,
    settings: BrokerSettings,
    store: EnrolmentStore,
) -> Iterator["RegistrarThreads"]:
    """Desks of the registrar, each with its listener."""
    topics = Topics(settings.fleet)
    if broker.certificates.client(REGISTRAR).certificate.exists():
        link = replace(
            broker.own_client(REGISTRAR),
            receive_maximum=16,
            subscriptions=(topics.renewal("+"),),
        )
        renewals = RenewalDesk(broker, partial(known_board, home))
        yield RegistrarThreads("renewals", renewals, link)
    if settings.enrol_port:
        store.forget_old(time.time())
        authority = fingerprint(broker.authority_certificate)
        nonce_key = os.urandom(_NONCE_KEY_BYTES)
        rules = Registrar(home.signing_key().public, authority, nonce_key)
        newcomers = RegistrarDesk(home, rules, store, time.time)
        link = broker.enrolment.registrar(settings, broker.authority_certificate)
        yield RegistrarThreads("newcomers", newcomers, link)


class RegistrarThreads:
    """One thread that answers, and one that carries out."""

    def __init__(self, name: str, desk: Desk, settings: LinkSettings) -> None:
        """Starts nothing yet.

        Args:
          name: Of what is answered, for people.
          desk: Decides.
          settings: Of the link.
        """
        self._name = name
        self._desk = desk
        self._events: queue.SimpleQueue[LinkEvent] = queue.SimpleQueue()
        self._link = MqttLink(settings, self._events.put, random.SystemRandom().random)
        self._ending = threading.Event()
        self._told = RepeatedWarnings()
        self._threads = [
            threading.Thread(target=work, name=f"{name}-{what}", daemon=True)
            for what, work in (("answers", self._answer), ("work", self._work))
        ]

    def start(self) -> None:
        """Begins to answer.

        Raises:
          TransportError: If the system gives this process no further thread.
        """
        self._link.start()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends both threads; what is undone is done at the next start."""
        self._ending.set()
        self._link.stop(1.0)
        for thread in self._threads:
            thread.join(_STOP_S)

    def _answer(self) -> None:
        free_s = 0.0
        while not self._ending.is_set():
            with suppress(queue.Empty):
                event = self._events.get(timeout=LOOK_EVERY_S)
                match event:
                    case LinkConnected():
                        log.info("%s are answered", self._name)
                    case LinkDisconnected() if not self._ending.is_set():
                        log.info("%s: %s", self._name, event.reason)
                    case MessageArrived():
                        now_s = time.monotonic()
                        free_s = max(free_s, now_s - 1.0) + 1 / MESSAGES_PER_S
                        self._ending.wait(max(0.0, free_s - now_s))
                        self._take(event)
                    case _:
                        pass
                continue
            # Only while nobody asks: a flood is to cost no writes.
            with suppress(FederationError):
                self._desk.note()

    def _take(self, event: MessageArrived) -> None:
        try:
            self._publish(self._desk.hear(event.topic, event.payload))
        except FederationError as error:
            # The disk, or a damaged file: the newcomer asks again.
            self._warn(error)
        self._link.acknowledge(event.token)

    def _work(self) -> None:
        pause_s = LOOK_EVERY_S
        while not self._ending.wait(pause_s):
            try:
                self._publish(self._desk.work())
                pause_s = LOOK_EVERY_S
            except FederationError as error:
                self._warn(error)
                pause_s = RETRY_S

    def _warn(self, error: FederationError) -> None:
        if self._told.is_new(str(error), time.monotonic()):
            log.warning("%s: %s", self._name, error)

    def _publish(self, messages: list[MqttMessage]) -> None:
        for message in messages:
            # Whoever hears nothing asks again.
            with suppress(TransportError, LimitError):
                self._link.publish(message)

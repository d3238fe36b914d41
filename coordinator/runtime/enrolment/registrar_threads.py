"""The registrar beside a running coordinator: links of its own, and two threads each.

It renews certificates at the fleet's listener, and answers newcomers at theirs. It
shares no queue with the coordinator's loop. What a client sends beyond its allowance is
ignored at once. Of the rest it takes as many messages a second as `MESSAGES_PER_S` says
and acknowledges each only then, so that a flood waits, and is dropped, in the broker.
"""

import logging
import os
import queue
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
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
from starling.coordinator.runtime.enrolment.enrolment_handler import EnrolmentHandler
from starling.coordinator.runtime.enrolment.enrolment_store import EnrolmentStore
from starling.coordinator.runtime.enrolment.renewal_handler import RenewalHandler
from starling.coordinator.runtime.enrolment.request_handler import RequestHandler
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.operations.chain_decision import known_board
from starling.durable.files import is_there
from starling.durable.locks import is_locked, lock
from starling.protocol.errors import (
    ConfigError,
    FederationError,
    LimitError,
    TransportError,
)
from starling.protocol.wire.topics import Topics
from starling.service.repeated_warnings import RepeatedWarnings

log = logging.getLogger("starling.coordinator")

MESSAGES_PER_S = 50.0
LOOK_EVERY_S = 0.25
"""How often decisions of operators are looked for."""
NOTE_EVERY_S = 5.0
"""How often what people look at is written down: a flood is to cost few writes."""
RETRY_S = 5.0
"""After which what cannot be done now is tried again."""
LOCK_RETRY_S = 1.0
"""After which one that does not answer looks whether it is to."""
UNSENT_MAX = 4096
"""Answers and results that wait for the link; what is lost beyond it is asked again."""
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


@contextmanager
def newcomers_answered(home: CoordinatorHome, broker: BrokerHome) -> Iterator[None]:
    """Has newcomers answered during the block, for a home without a chain yet.

    Raises:
      ConfigError: If the broker takes no newcomers, or a coordinator answers them.
    """
    settings, store = broker.require_settings(), EnrolmentStore(broker.path)
    store.prepare()
    with lock(store.lock_file):
        threads = _newcomers(home, broker, settings, store)
        threads.start()
        try:
            yield
        finally:
            threads.stop()


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
                unstarted: dict[str, Callable[[], RegistrarThreads]] = {
                    "renewals": partial(_renewals, home, broker, settings)
                }
                # Certificates are renewed at the fleet's listener, which every broker
                # has.
                if settings.enrol_port:
                    unstarted["newcomers"] = partial(
                        _newcomers, home, broker, settings, store
                    )
                _open(unstarted, stack, ending)
                ending.wait()
        except FederationError as error:
            # Another coordinator answers, or files cannot be written or read.
            level = logging.INFO if is_locked(store.lock_file) else logging.WARNING
            if told.is_new(str(error), time.monotonic()):
                log.log(level, "newcomers are not answered from here: %s", error)
            # The lock falls free without a word when its holder ends.
            ending.wait(LOCK_RETRY_S)


def _open(
    unstarted: dict[str, Callable[[], "RegistrarThreads"]],
    stack: ExitStack,
    ending: threading.Event,
) -> None:
    """Starts all, which answer until `stack` ends; what is wrong with one is its own.

    Args:
      unstarted: What makes each, by name; emptied of those that answer.
      stack: Stops them.
      ending: Ends the wait for those that cannot answer yet.
    """
    told = RepeatedWarnings()
    while unstarted and not ending.is_set():
        for name, made in list(unstarted.items()):
            try:
                threads = made()
                threads.start()
            except FederationError as error:
                if told.is_new(f"{name}: {error}", time.monotonic()):
                    log.warning("%s are not answered from here: %s", name, error)
            else:
                stack.callback(threads.stop)
                del unstarted[name]
        if unstarted:
            ending.wait(RETRY_S)


def _renewals(
    home: CoordinatorHome, broker: BrokerHome, settings: BrokerSettings
) -> "RegistrarThreads":
    """Link and threads for certificates.

    Raises:
      FederationError: If it cannot answer now.
    """
    certificate = broker.certificates.client(REGISTRAR).certificate
    if not is_there(certificate):
        key = broker.certificates.authority_key.name
        raise ConfigError(
            f"missing, so that no certificate is renewed; put {key} back, and start "
            "the broker again",
            file=str(certificate),
        )
    link = replace(
        broker.own_client(REGISTRAR),
        # The broker holds the rest back: few are in our memory, and dropped ones are
        # sent again.
        receive_maximum=16,
        subscriptions=(Topics(settings.fleet).renewal("+"),),
    )
    handler = RenewalHandler(broker, partial(known_board, home))
    return RegistrarThreads("renewals", handler, link)


def _newcomers(
    home: CoordinatorHome,
    broker: BrokerHome,
    settings: BrokerSettings,
    store: EnrolmentStore,
) -> "RegistrarThreads":
    """Link and threads for newcomers.

    Raises:
      FederationError: If it cannot answer now.
    """
    store.forget_old(time.time())
    authority = fingerprint(broker.authority_certificate)
    # Of this start alone: challenges of an earlier one are answered with another.
    nonce_key = os.urandom(_NONCE_KEY_BYTES)
    rules = Registrar(home.signing_key().public, authority, nonce_key)
    link = broker.enrolment.registrar(settings, broker.authority_certificate)
    handler = EnrolmentHandler(home, settings.fleet, rules, store, time.time)
    return RegistrarThreads("newcomers", handler, link)


class RegistrarThreads:
    """One thread that answers, and one that carries out."""

    def __init__(
        self, name: str, handler: RequestHandler, settings: LinkSettings
    ) -> None:
        """Starts nothing yet.

        Args:
          name: Of what is answered, for people.
          handler: Decides.
          settings: Of the link.
        """
        self._name = name
        self._handler = handler
        self._events: queue.SimpleQueue[LinkEvent] = queue.SimpleQueue()
        self._link = MqttLink(settings, self._events.put, random.SystemRandom().random)
        self._ending = threading.Event()
        self._unsent: deque[MqttMessage] = deque(maxlen=UNSENT_MAX)
        self._told = RepeatedWarnings()
        self._away = RepeatedWarnings()
        self._threads = [
            threading.Thread(target=work, name=f"{name}-{what}", daemon=True)
            for what, work in (("answers", self._answer), ("work", self._work))
        ]

    def start(self) -> None:
        """Begins to answer.

        Raises:
          TransportError: If the system gives this process no further thread.
        """
        try:
            self._link.start()
        except TransportError:
            self._link.stop()
            raise
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends both threads; what is undone is done at the next start."""
        self._ending.set()
        self._link.stop(1.0)
        for thread in self._threads:
            thread.join(_STOP_S)

    def _answer(self) -> None:
        free_s = note_at_s = 0.0
        while not self._ending.is_set():
            with suppress(queue.Empty):
                event = self._events.get(timeout=LOOK_EVERY_S)
                match event:
                    case LinkConnected():
                        self._away.forget()
                        log.info("%s are answered", self._name)
                    case LinkDisconnected() if not self._ending.is_set():
                        self._report_disconnect(event.reason)
                    case MessageArrived(topic, payload):
                        if self._handler.admits(topic, len(payload)):
                            free_s = self._await_turn(free_s)
                            self._take(event)
                        else:
                            self._link.acknowledge(event.token)
                    case _:
                        pass
            if time.monotonic() >= note_at_s:
                note_at_s = time.monotonic() + NOTE_EVERY_S
                with suppress(FederationError):
                    self._handler.write_status()

    def _await_turn(self, free_s: float) -> float:
        """Waits until a message may be taken, and says once an hour if many wait.

        Args:
          free_s: Monotonic time of the turn before.

        Returns:
          This turn's.
        """
        now_s = time.monotonic()
        # A quiet second may be made up for at once, and no more.
        free_s = max(free_s, now_s - 1.0) + 1 / MESSAGES_PER_S
        if free_s > now_s:
            text = (
                f"{self._name}: more than {MESSAGES_PER_S:g} messages a second come; "
                "the rest waits at the broker, or is dropped there and sent again"
            )
            if self._told.is_new(text, now_s):
                log.warning("%s", text)
            self._ending.wait(free_s - now_s)
        return free_s

    def _report_disconnect(self, reason: str) -> None:
        """Says why the link ended, the same once an hour; else in detail only."""
        is_new = self._away.is_new(reason, time.monotonic())
        level = logging.INFO if is_new else logging.DEBUG
        log.log(level, "%s: %s", self._name, reason)

    def _take(self, event: MessageArrived) -> None:
        try:
            for answer in self._handler.receive(event.topic, event.payload):
                self._answer_with(answer)
        except FederationError as error:
            # The disk, or a damaged file: the newcomer asks again.
            self._warn(error)
        self._link.acknowledge(event.token)

    def _answer_with(self, answer: MqttMessage) -> None:
        try:
            self._link.publish(answer)
        except TransportError:
            # A slow broker has its window full of other answers: this one goes next.
            self._unsent.append(answer)
        except LimitError as error:
            # It would never go.
            self._warn(error)

    def _work(self) -> None:
        pause_s = LOOK_EVERY_S
        while not self._ending.wait(pause_s):
            try:
                self._unsent.extend(self._handler.process_pending())
                pause_s = LOOK_EVERY_S
            except FederationError as error:
                self._warn(error)
                pause_s = RETRY_S
            self._send()

    def _send(self) -> None:
        """Sends what was carried out; what cannot go now goes later, in order."""
        while self._unsent:
            message = self._unsent.popleft()
            try:
                self._link.publish(message)
            except TransportError:
                # There is no connection: its successors would fail, too, and must not
                # overtake it.
                self._unsent.appendleft(message)
                return
            except LimitError as error:
                self._warn(error)

    def _warn(self, error: FederationError) -> None:
        if self._told.is_new(str(error), time.monotonic()):
            log.warning("%s: %s", self._name, error)

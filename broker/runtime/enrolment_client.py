"""Enrolment over the broker, on the newcomer's side.

Source: as `protocol.wire.enrolment_messages`.
"""

import logging
import os
import queue
import random
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from starling.broker.backoff import BackoffPolicy
from starling.broker.link_events import (
    Delivered,
    LinkConnected,
    LinkDisconnected,
    LinkEvent,
    LinkSettings,
    MessageArrived,
    MqttMessage,
    ServerTls,
)
from starling.broker.runtime.mqtt_link import MqttLink
from starling.protocol.errors import OperationError, ProtocolError, TransportError
from starling.protocol.wire.enrolment_messages import (
    CHALLENGE,
    CLAIM,
    EXCHANGE_VERSION,
    HELLO,
    NONCE_BYTES,
    OUTCOME,
    EnrolmentHello,
    EnrolmentKind,
    EnrolmentOutcome,
    EnrolmentState,
    check_outcome,
    make_claim,
    short_code,
    transcript,
)
from starling.protocol.wire.enrolment_token import EnrolmentToken
from starling.protocol.wire.topics import Topics
from starling.service.repeated_warnings import RepeatedWarnings

log = logging.getLogger("starling.enrolment")

RESEND_S = 5.0
"""After which a message without an answer is sent again."""
NOBODY_ANSWERS = (
    "the broker is there, and no coordinator answers newcomers yet: "
    "see `starling coordinator check` there"
)
_CHALLENGES_MAX = 64
"""A registrar that starts again answers a claim with another challenge."""


class EnrolmentClient:
    """One newcomer's side of the exchange; it knows what to say, and sends nothing.

    Attributes:
      payload: What is to be sent next, or again.
      topic: Where.
      code: For people to compare; empty before the challenge.
      waiting: What the registrar says that it waits for; empty for nothing.
    """

    def __init__(
        self,
        token: EnrolmentToken,
        kind: EnrolmentKind,
        document: bytes,
        client: str,
        nonce: bytes,
    ) -> None:
        """Begins an exchange.

        Args:
          token: As the operator gave it.
          kind: What the newcomer is.
          document: Its request or identity, as JSON.
          client: Its client id at the broker.
          nonce: (32,) random bytes.
        """
        self._token = token
        self._topics = Topics(token.fleet)
        self._client = client
        self._hello = EnrolmentHello(
            EXCHANGE_VERSION, token.identity, kind, nonce, document
        )
        self._proven = b""
        self._challenges = 0
        self.topic = self._topics.enrolment_hello(client)
        self.payload = HELLO.pack(self._hello)
        self.code = ""
        self.waiting = ""

    @property
    def filters(self) -> tuple[str, ...]:
        """Topics of the answers."""
        topics, client = self._topics, self._client
        return topics.enrolment_challenge(client), topics.enrolment_outcome(client)

    @property
    def waits_for(self) -> str:
        """Next thing that somebody is to do, for people."""
        if not self.code:
            return "a coordinator is to run with its enrolment listener"
        if self._hello.kind == EnrolmentKind.PARTY:
            return "the founder and all other parties are to run `coordinator init`"
        return f"a coordinator is to accept {self.code}"

    def receive(self, topic: str, payload: bytes) -> EnrolmentOutcome | None:
        """Takes one message.

        Returns:
          A decision; None if there is none yet.

        Raises:
          ProtocolError: If it is malformed, or nobody proves it.
          OperationError: If the registrar does not know the token.
        """
        if topic == self._topics.enrolment_challenge(self._client):
            self._challenged(payload)
            return None
        if topic != self._topics.enrolment_outcome(self._client):
            return None
        outcome = OUTCOME.unpack(payload)
        if outcome.state == EnrolmentState.REFUSED and not outcome.signature:
            raise OperationError(f"refused: {outcome.detail}")
        check_outcome(self._token.secret, self._proven, outcome)
        if outcome.state == EnrolmentState.PENDING:
            self.waiting = outcome.detail
            return None
        return outcome

    def _challenged(self, payload: bytes) -> None:
        challenge = CHALLENGE.unpack(payload)
        self._challenges += 1
        if self._challenges > _CHALLENGES_MAX:
            raise OperationError("the registrar does not come to a decision")
        token = self._token
        claim = make_claim(token.secret, token.authority, self._hello, challenge)
        # The outcome is proven over the newest challenge: an answer to an older one
        # does not pass.
        self._proven = transcript(token.authority, self._hello, challenge)
        self.code = short_code(self._proven)
        self.topic = self._topics.enrolment_claim(self._client)
        self.payload = CLAIM.pack(claim)


def enrol(
    token: EnrolmentToken,
    kind: EnrolmentKind,
    document: bytes,
    authority: Path,
    wait_s: float,
    show_code: Callable[[str], None],
    tell: Callable[[str], None] = lambda _text: None,
) -> bytes:
    """Enrols at a broker, and waits for the decision.

    Args:
      token: As the operator gave it.
      kind: What the newcomer is.
      document: Its request or identity, as JSON; of a party, what it says.
      authority: PEM of the authority, whose fingerprint is the token's.
      wait_s: How long at most.
      show_code: Called with each code that there is to compare.
      tell: Called with what the registrar says that it waits for.

    Returns:
      The admission, as JSON, or a founder's answer.

    Raises:
      OperationError: If it is refused, or nobody decided in time.
      TransportError: If the broker cannot be reached in time.
    """
    # Nobody can guess the client id, which is the only right that a newcomer has.
    name = secrets.token_hex(16)
    talk = EnrolmentClient(token, kind, document, name, os.urandom(NONCE_BYTES))
    events: queue.SimpleQueue[LinkEvent] = queue.SimpleQueue()
    settings = LinkSettings(
        host=token.host,
        port=token.port,
        client_id=name,
        tls=ServerTls(authority),
        session_expiry_s=0,
        receive_maximum=4,
        subscriptions=talk.filters,
        backoff=BackoffPolicy(first_s=0.5, most_s=10.0),
    )
    link = MqttLink(settings, events.put, random.SystemRandom().random)
    link.start()
    try:
        return _converse(link, events, talk, wait_s, show_code, tell)
    finally:
        link.stop(1.0)


def _converse(
    link: MqttLink,
    events: "queue.SimpleQueue[LinkEvent]",
    talk: EnrolmentClient,
    wait_s: float,
    show_code: Callable[[str], None],
    tell: Callable[[str], None],
) -> bytes:
    now_s = time.monotonic()
    # Monotonic, since the wall clock of a board may jump once it has a network.
    until_s, send_at_s, away = now_s + wait_s, now_s + RESEND_S, "no answer"
    told = RepeatedWarnings()
    while now_s < until_s:
        with suppress(queue.Empty):
            event = events.get(timeout=max(0.0, min(send_at_s, until_s) - now_s))
            code, waiting = talk.code, talk.waiting
            match event:
                case LinkConnected():
                    away, send_at_s = "", 0.0
                case LinkDisconnected():
                    away = event.reason
                case MessageArrived():
                    link.acknowledge(event.token)
                    if (outcome := _outcome_in(talk, event)) is not None:
                        return _document(outcome)
                case Delivered():
                    pass
            if talk.waiting != waiting:
                tell(talk.waiting)
            # A challenge has come: the claim goes out at once, and not at the next
            # repetition.
            if talk.code != code:
                show_code(talk.code)
                send_at_s = 0.0
        now_s = time.monotonic()
        if now_s >= send_at_s:
            _warn_of_silence(talk, told if send_at_s else None, away, until_s)
            # Without a connection it is sent at the next one.
            with suppress(TransportError):
                link.publish(MqttMessage(talk.topic, talk.payload))
            send_at_s = now_s + RESEND_S
    raise _undecided(talk, away, wait_s)


def _undecided(
    talk: EnrolmentClient, away: str, wait_s: float
) -> OperationError | TransportError:
    """Error once the time is over."""
    if away:
        return TransportError(f"{away}, for {wait_s:.0f} s")
    return OperationError(
        f"nobody decided within {wait_s:.0f} s; {talk.waits_for}. Run this "
        "again with the same token: a use is counted once for each newcomer"
    )


def _warn_of_silence(
    talk: EnrolmentClient, told: RepeatedWarnings | None, away: str, until_s: float
) -> None:
    """Warns once of each thing that keeps the newcomer waiting for its first answer.

    Args:
      talk: With a code once there was an answer.
      told: What was warned of; None before anything was asked.
      away: Why there is no connection; empty if there is one.
      until_s: Monotonic time at which it gives up.
    """
    said, now_s = away or NOBODY_ANSWERS, time.monotonic()
    if not talk.code and told is not None and told.is_new(said, now_s):
        log.warning("%s; waits for up to %.0f s", said, until_s - now_s)


def _outcome_in(
    talk: EnrolmentClient, event: MessageArrived
) -> EnrolmentOutcome | None:
    try:
        return talk.receive(event.topic, event.payload)
    except ProtocolError:
        # Of whoever it is, it is not of the registrar: the next one may be.
        return None


def _document(outcome: EnrolmentOutcome) -> bytes:
    if outcome.state == EnrolmentState.REFUSED:
        raise OperationError(f"refused: {outcome.detail}")
    return outcome.document

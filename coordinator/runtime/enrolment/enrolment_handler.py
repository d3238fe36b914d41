"""Enrolment at the registrar: claims in, outcomes out, each step first on disk.

`receive` takes what newcomers send, and answers at once. `process_pending` carries out
what was accepted, which may take as long as the chain does, and is for another thread.
"""

import hashlib
import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from starling.broker.link_events import MqttMessage
from starling.coordinator.enrolment.registrar import (
    ProvenClaim,
    Registrar,
    Tokens,
    require_good,
)
from starling.coordinator.runtime.enrolment.enrolment_store import (
    ClaimState,
    EnrolmentStore,
    StoredClaim,
)
from starling.coordinator.runtime.enrolment.newcomers import NEWCOMERS, Newcomers
from starling.coordinator.runtime.enrolment.request_handler import printable
from starling.coordinator.runtime.home import CoordinatorHome
from starling.protocol.crypto.scram import ScramKeys
from starling.protocol.errors import (
    FederationError,
    OperationError,
    ProtocolError,
    ReplayError,
)
from starling.protocol.wire.enrolment_messages import (
    CHALLENGE,
    OUTCOME,
    EnrolmentClaim,
    EnrolmentKind,
    EnrolmentOutcome,
    EnrolmentState,
    sign_outcome,
)
from starling.protocol.wire.enrolment_token import letters
from starling.protocol.wire.topics import Topics
from starling.service.repeated_warnings import RepeatedWarnings

log = logging.getLogger("starling.coordinator")

CLIENT_CHARS_MAX = 64
LISTENERS_MAX = 4096
"""Newcomers whose connection is remembered; others hear when they ask again."""
YOUNG_S = 2.0
"""For which tokens that were just changed are read again and again."""


@dataclass(frozen=True)
class _Listener:
    """Connection on which a newcomer waits, with what it proved."""

    client: str
    keys: ScramKeys
    transcript: bytes


class EnrolmentHandler:
    """Answers newcomers.

    Attributes:
      refused: Messages that were refused, by reason.
    """

    def __init__(
        self,
        home: CoordinatorHome,
        fleet: str,
        registrar: Registrar,
        store: EnrolmentStore,
        now_s: Callable[[], float],
        newcomers: Mapping[EnrolmentKind, Newcomers] = NEWCOMERS,
    ) -> None:
        """Reads what is stored.

        Args:
          home: With the operator's key and the broker's folder.
          fleet: Name of the fleet, which may have no genesis yet.
          registrar: The rules.
          store: Prepared.
          now_s: Unix time.
          newcomers: How each kind is admitted.

        Raises:
          ConfigError: If something stored is damaged.
        """
        self._home = home
        self._registrar = registrar
        self._store = store
        self._now_s = now_s
        self._newcomers = newcomers
        self._topics = Topics(fleet)
        self._guard = threading.Lock()
        self._claims = {claim.stem: claim for claim in store.claims()}
        self._listeners: dict[str, _Listener] = {}
        self._retry_at_s: dict[str, float] = {}
        self._tokens: Tokens = {}
        # No file's time, so that the first look reads.
        self._stamp = -1
        self._told = RepeatedWarnings()
        self.refused: Counter[str] = Counter(store.refused())
        self._noted = self.refused.total()

    def admits(self, topic: str, size: int) -> bool:
        """True: newcomers choose their names; the gate bounds what they can send."""
        return True

    def receive(self, topic: str, payload: bytes) -> list[MqttMessage]:
        """Takes one message of a newcomer.

        Returns:
          The answers; none to what is no message of a newcomer.
        """
        try:
            _, client, leaf = self._topics.parse(topic)
        except ProtocolError as error:
            self.refused[error.reason.name] += 1
            return []
        # Its name would be in the topic of the answer, and in memory as a listener.
        if len(client) > CLIENT_CHARS_MAX:
            return []
        try:
            if topic == self._topics.enrolment_hello(client):
                challenge = self._registrar.challenge(
                    client, payload, self._known_tokens(), self._now_s()
                )
                answer = CHALLENGE.pack(challenge)
                return [MqttMessage(self._topics.enrolment_challenge(client), answer)]
            return self._claimed(client, payload)
        except ProtocolError as error:
            # Unproven, and so without a signature.
            self.refused[error.reason.name] += 1
            log.debug("enrolment: %s of %s is refused: %s", leaf, client, error)
            refusal = EnrolmentOutcome(
                EnrolmentState.REFUSED, printable(str(error)), b"", b""
            )
            return [self._outcome(client, refusal)]

    def write_status(self) -> None:
        """Writes down how many messages were refused.

        Raises:
          StorageError: If the disk refuses.
        """
        if (refused := self.refused.total()) != self._noted:
            self._noted = refused
            self._store.put_refused(dict(self.refused))

    def process_pending(self) -> list[MqttMessage]:
        """Carries out what operators decided, and admits who is accepted.

        Returns:
          What newcomers are to hear of it.

        Raises:
          StorageError: If the disk refuses.
        """
        told, now_s = self._decided(), self._now_s()
        for stem in [claim.stem for claim in self._claims_now()]:
            claim = self._claims[stem]
            is_due = self._retry_at_s.get(stem, 0.0) <= now_s
            if claim.state is ClaimState.ACCEPTED and is_due:
                told += self._admit(claim)
                # A crowd takes a while, in which its token may have been revoked.
                told += self._decided()
        return told

    def _known_tokens(self) -> Tokens:
        stamp = self._store.tokens_stamp()
        # What changed twice within one tick of the disk's clock has one stamp.
        is_young = abs(self._now_s() - stamp / 1e9) < YOUNG_S
        if stamp != self._stamp or is_young:
            self._tokens, self._stamp = self._store.tokens(), stamp
        return self._tokens

    def _claims_now(self) -> list[StoredClaim]:
        with self._guard:
            return list(self._claims.values())

    def _claimed(self, client: str, payload: bytes) -> list[MqttMessage]:
        now_s = self._now_s()
        found, message = self._registrar.prove(payload, self._known_tokens())
        name = self._newcomers[found.token.kind].name(found.document.encode())
        listener = _Listener(client, found.token.keys, found.transcript)
        with self._guard:
            stem = f"{letters(found.token.identity)}-{name}"
            known = self._claims.get(stem)
            if known is None or known.document != found.document:
                # Who waits for an operator may be accepted later, with these keys.
                require_good(found.token, now_s)
            # The same claim again is no replay: an answer may be lost, and is sent once
            # more.
            if known is None or known.transcript != _digest(found.transcript):
                if (again := self._stale(client, message, now_s)) is not None:
                    return [again]
                known = self._taken(found, name, known, int(now_s))
            if known is None:
                text = "the token was used as often as it may be; ask for another"
                return [self._refusal(listener, text)]
            # Put in anew, it is the youngest: the one that was heard longest ago is
            # forgotten first.
            self._listeners.pop(stem, None)
            self._listeners[stem] = listener
            while len(self._listeners) > LISTENERS_MAX:
                del self._listeners[next(iter(self._listeners))]
            return [self._answer(listener, known)]

    def _stale(
        self, client: str, message: EnrolmentClaim, now_s: float
    ) -> MqttMessage | None:
        """Another challenge for a claim that answers none of ours; None if it does."""
        try:
            self._registrar.require_fresh(client, message, now_s)
        except ReplayError as error:
            self.refused[error.reason.name] += 1
            anew = self._registrar.challenge_for(client, message.hello, now_s)
            topic = self._topics.enrolment_challenge(client)
            return MqttMessage(topic, CHALLENGE.pack(anew))
        return None

    def _taken(
        self, found: ProvenClaim, name: str, known: StoredClaim | None, now_s: int
    ) -> StoredClaim | None:
        """Stores a claim; None if the token has no use left for another newcomer."""
        token, document = letters(found.token.identity), found.document
        digest = _digest(found.transcript)
        if known is not None and known.document == document:
            claim = replace(known, code=found.code, transcript=digest)
            refused = known.state is ClaimState.REFUSED
            if refused and self._newcomers[known.kind].retries_refused:
                claim = replace(claim, state=ClaimState.ACCEPTED, detail="")
        else:
            # Of all claims, also refused ones: a use is not given back, or one secret
            # could try for ever.
            used = sum(each.token == token for each in self._claims.values())
            if known is None and used >= found.token.uses:
                return None
            by_hand = found.token.by_hand
            state = ClaimState.PENDING if by_hand else ClaimState.ACCEPTED
            kind = found.token.kind
            claim = StoredClaim(
                token, kind, name, document, found.code, digest, state, "", now_s
            )
            if by_hand:
                log.info(
                    "%s wants to enrol and shows %s: starling coordinator enrol accept",
                    name,
                    found.code,
                )
        self._put(claim)
        return claim

    def _decided(self) -> list[MqttMessage]:
        told = []
        for stem, accepted in self._store.decisions().items():
            with self._guard:
                claim = self._claims.get(stem)
                open_states = {ClaimState.PENDING}
                if not accepted:
                    # Its token was revoked before the chain decided.
                    open_states.add(ClaimState.ACCEPTED)
                if claim is not None and claim.state in open_states:
                    if accepted:
                        claim = replace(claim, state=ClaimState.ACCEPTED)
                    else:
                        detail = "the operator rejected it"
                        claim = replace(claim, state=ClaimState.REJECTED, detail=detail)
                    self._put(claim)
                    told += self._answer_listener(claim)
            # Last: after a power cut before, it is carried out again, which then
            # changes nothing.
            self._store.forget_decision(stem)
        return told

    def _admit(self, claim: StoredClaim) -> list[MqttMessage]:
        state, detail = ClaimState.ADMITTED, ""
        try:
            admit = self._newcomers[claim.kind].admit
            admission = admit(self._home, claim.document.encode())
        except OperationError as error:
            state, detail, admission = ClaimState.REFUSED, str(error), b""
            log.warning("%s is not enrolled: %s", claim.name, error)
        except FederationError as error:
            # What is wrong here is no newcomer's fault; it waits until it is mended.
            if self._told.is_new(f"{claim.stem}: {error}", self._now_s()):
                log.warning("%s waits to be enrolled: %s", claim.name, error)
            admission = None
        if admission is None:
            retry_s = self._newcomers[claim.kind].retry_s
            self._retry_at_s[claim.stem] = self._now_s() + retry_s
            return []
        with self._guard:
            now = self._claims[claim.stem]
            if now.document != claim.document:
                # It asked anew, with other keys, and is admitted anew.
                return []
            if admission:
                # Before the claim says that it is there.
                self._store.put_admission(claim, admission)
                log.info("%s is enrolled", claim.name)
            self._put(replace(now, state=state, detail=detail))
            return self._answer_listener(self._claims[claim.stem])

    def _put(self, claim: StoredClaim) -> None:
        self._store.put_claim(claim)
        self._claims[claim.stem] = claim

    def _answer_listener(self, claim: StoredClaim) -> list[MqttMessage]:
        listener = self._listeners.get(claim.stem)
        return [] if listener is None else [self._answer(listener, claim)]

    def _answer(self, listener: _Listener, claim: StoredClaim) -> MqttMessage:
        if claim.state in {ClaimState.REJECTED, ClaimState.REFUSED}:
            return self._refusal(listener, claim.detail)
        said, keys = listener.transcript, listener.keys
        if claim.state is ClaimState.ADMITTED:
            newcomers = self._newcomers[claim.kind]
            try:
                newcomers.refuse_expelled(self._home, claim.document.encode())
            except OperationError as error:
                return self._refusal(listener, str(error))
            admission = self._store.admission(claim)
            admitted = EnrolmentState.ADMITTED
            outcome = sign_outcome(keys, said, admitted, document=admission)
        else:
            text = self._newcomers[claim.kind].waiting_text(self._home)
            outcome = sign_outcome(keys, said, EnrolmentState.PENDING, printable(text))
        return self._outcome(listener.client, outcome)

    def _refusal(self, listener: _Listener, detail: str) -> MqttMessage:
        keys, said = listener.keys, listener.transcript
        outcome = sign_outcome(keys, said, EnrolmentState.REFUSED, printable(detail))
        return self._outcome(listener.client, outcome)

    def _outcome(self, client: str, outcome: EnrolmentOutcome) -> MqttMessage:
        topic = self._topics.enrolment_outcome(client)
        return MqttMessage(topic, OUTCOME.pack(outcome))


def _digest(transcript: bytes) -> str:
    return hashlib.sha256(transcript).hexdigest()

"""Documents of newcomers, read and checked, and their admission."""

from collections.abc import Mapping
from typing import Protocol

from starling.broker.runtime.broker_home import BrokerHome
from starling.coordinator.runtime.founding.founder import Founder, party_of
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.operations import board_admission
from starling.coordinator.runtime.operations.chain_decision import (
    WAIT_S,
    await_decision,
)
from starling.coordinator.runtime.operations.submission import submit
from starling.coordinator.runtime.setup.genesis_setup import (
    CoordinatorIdentity,
    identity_from_json,
)
from starling.coordinator.runtime.setup.own_broker import own_broker
from starling.coordinator.runtime.storage.receipt_reader import checkpoint
from starling.durable.files import read_limited
from starling.protocol.chain.enrolment import (
    DOCUMENT_BYTES_MAX,
    Admission,
    request_from_json,
)
from starling.protocol.errors import Reason
from starling.protocol.ids import device_id, device_name
from starling.protocol.wire.enrolment_messages import EnrolmentKind
from starling.protocol.wire.envelope import MessageKind
from starling.protocol.wire.message_bodies import LEARNER, LearnerChange

RETRY_S = 15.0
"""After which an admission that the chain did not decide is tried again."""
PARTY_RETRY_S = 0.5
"""After which it is looked again whether all parties of a founding are in."""


class Newcomers(Protocol):
    """Port of the registrar for one kind of newcomer.

    Attributes:
      retry_s: After which an admission that cannot be made now is tried again.
      retries_refused: Whether one that was refused is tried when it asks again.
    """

    retry_s: float
    retries_refused: bool

    def name(self, document: bytes) -> str:
        """Reads a document and checks its signature.

        Raises:
          ProtocolError: If it is malformed or not signed by its own key.
        """

    def waiting_text(self, home: CoordinatorHome) -> str:
        """Text for those who wait; empty if there is nothing to say.

        Raises:
          ConfigError: If a file of the home is damaged.
        """

    def admit(self, home: CoordinatorHome, document: bytes) -> bytes | None:
        """Admits a newcomer.

        Returns:
          Its admission, as JSON; None if the chain did not decide yet.

        Raises:
          OperationError: If the chain refuses.
          ConfigError: If this home cannot admit anybody now.
        """

    def refuse_expelled(self, home: CoordinatorHome, document: bytes) -> None:
        """Refuses one that was admitted, and that our broker expelled since.

        Raises:
          OperationError: With the way back.
        """


_LET_BACK = "The broker's operator may let it back: starling broker init --coordinator"


class _Boards:
    """Newcomers that train."""

    retry_s = RETRY_S
    retries_refused = False

    def name(self, document: bytes) -> str:
        """See `Newcomers`."""
        return device_name(request_from_json(document).device)

    def waiting_text(self, home: CoordinatorHome) -> str:
        """See `Newcomers`: the operator's word, which needs no text."""
        return ""

    def admit(self, home: CoordinatorHome, document: bytes) -> bytes | None:
        """See `Newcomers`: what `starling coordinator admit` does."""
        request = request_from_json(document)
        admitted = board_admission.admit(home, request, WAIT_S)
        if admitted.decision.height is None and not admitted.before:
            return None
        return admitted.admission.to_json().encode()

    def refuse_expelled(self, home: CoordinatorHome, document: bytes) -> None:
        """See `Newcomers`."""
        board_admission.refuse_expelled(home, request_from_json(document))


class _Coordinators:
    """Newcomers that get a coordinator's rights at the broker, and may learn."""

    retry_s = RETRY_S
    retries_refused = False

    def name(self, document: bytes) -> str:
        """See `Newcomers`."""
        identity = identity_from_json(document)
        # Its name for people has to fit the chain.
        LEARNER.pack(LearnerChange(1, identity.public, identity.name))
        return _name(identity)

    def waiting_text(self, home: CoordinatorHome) -> str:
        """See `Newcomers`: the operator's word, which needs no text."""
        return ""

    def admit(self, home: CoordinatorHome, document: bytes) -> bytes | None:
        """See `Newcomers`; a validator of the genesis needs no word of the chain."""
        identity, genesis = identity_from_json(document), home.genesis()
        settings, name = home.config().broker, _name(identity)
        broker = own_broker(settings)
        # Before the chain is asked: an expelled one would be a learner that nobody lets
        # in.
        self.refuse_expelled(home, document)
        # A validator of the genesis is known to the chain as it is.
        if genesis.validators.index_of(identity.public) is None:
            body = LEARNER.pack(LearnerChange(1, identity.public, identity.name))
            transaction = submit(home, MessageKind.LEARNER, body)
            decision = await_decision(home, transaction, WAIT_S)
            # Known from a try that did not get as far as the broker: it goes on from
            # there.
            if decision.reason != Reason.ALREADY_KNOWN:
                decision.require(f"{name} may not learn")
                if decision.height is None:
                    return None
        # After the chain's word: rights at the broker are for whom the chain knows.
        broker.admit_coordinator(name)
        broker.reload_running()
        return _admission(home, broker, identity).to_json().encode()

    def refuse_expelled(self, home: CoordinatorHome, document: bytes) -> None:
        """See `Newcomers`."""
        name = _name(identity_from_json(document))
        broker = own_broker(home.config().broker)
        broker.refuse_expelled(name, f"{_LET_BACK} {name}")


class _Parties:
    """Coordinators that found a chain with this one."""

    retry_s = PARTY_RETRY_S
    retries_refused = True

    def name(self, document: bytes) -> str:
        """See `Newcomers`."""
        return device_name(device_id(party_of(document)))

    def waiting_text(self, home: CoordinatorHome) -> str:
        """See `Newcomers`: who is in, and who agreed."""
        progress = Founder(home).progress()
        return "" if progress is None else progress.text()

    def admit(self, home: CoordinatorHome, document: bytes) -> bytes | None:
        """See `Newcomers`: a roster once all entries are in, a record once all agree.

        Nothing of either is secret.
        """
        return Founder(home).answer(document)

    def refuse_expelled(self, home: CoordinatorHome, document: bytes) -> None:
        """See `Newcomers`: nobody has rights yet that could be taken away."""


NEWCOMERS: Mapping[EnrolmentKind, Newcomers] = {
    EnrolmentKind.BOARD: _Boards(),
    EnrolmentKind.COORDINATOR: _Coordinators(),
    EnrolmentKind.PARTY: _Parties(),
}


def _name(identity: CoordinatorIdentity) -> str:
    return device_name(device_id(identity.public))


def _admission(
    home: CoordinatorHome, broker: BrokerHome, identity: CoordinatorIdentity
) -> Admission:
    genesis, settings = home.genesis(), home.config().broker
    certificate = broker.certificates.authority().issue(_name(identity), identity.tls)
    return Admission(
        device_id(identity.public),
        genesis,
        board_admission.advertised_host(settings, broker),
        settings.port,
        read_limited(home.tls_files().authority, DOCUMENT_BYTES_MAX).decode(),
        certificate.decode(),
        checkpoint(home.state, genesis),
    )

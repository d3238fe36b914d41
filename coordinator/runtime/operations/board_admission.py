"""Admission and exclusion of a board by its fleet's operator."""

from dataclasses import dataclass
from pathlib import Path

from starling.broker.broker_settings import board_host, is_loopback
from starling.broker.runtime.broker_home import BrokerHome
from starling.coordinator.chain.governance.board_registry import BOARD_REVOKED
from starling.coordinator.config import BrokerEndpointSettings
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.operations.chain_decision import (
    ChainDecision,
    await_decision,
    key_owner,
    known_board,
)
from starling.coordinator.runtime.operations.submission import submit
from starling.coordinator.runtime.setup.own_broker import own_broker
from starling.coordinator.runtime.storage.receipt_reader import checkpoint
from starling.durable.files import read_limited
from starling.protocol.chain.enrolment import (
    DOCUMENT_BYTES_MAX,
    Admission,
    EnrolmentRequest,
)
from starling.protocol.errors import (
    ConfigError,
    FederationError,
    OperationError,
    ProtocolError,
    Reason,
)
from starling.protocol.ids import DeviceId, device_from_name, device_name
from starling.protocol.wire.envelope import MessageKind
from starling.protocol.wire.message_bodies import REGISTER, REVOKE, Register, Revoke

_NEW_HOME = "It comes back with a new home alone: starling agent init --home ANOTHER"


@dataclass(frozen=True)
class AdmittedBoard:
    """A board that was let in.

    Attributes:
      name: Its device name.
      admission: What it is given.
      broker: Host and port where it connects.
      decision: Of the chain.
      before: What to say if it was admitted before; empty if it was not.
    """

    name: str
    admission: Admission
    broker: str
    decision: ChainDecision
    before: str

    def text(self) -> str:
        """Text of it, for people."""
        name = self.name
        waits = f"whether {name} is admitted"
        return self.before or self.decision.text(f"admitted {name}", waits)


def admit(
    home: CoordinatorHome, request: EnrolmentRequest, wait_s: float
) -> AdmittedBoard:
    """Admits a board.

    Args:
      home: Of the coordinator, with the operator's key and a broker's folder.
      request: As the board made it.
      wait_s: For the chain's decision, at most.

    Raises:
      ConfigError: If the home cannot admit boards.
      OperationError: If the chain refuses it, the broker expelled it, or it asks with a
        key that it gave up.
    """
    config, genesis = home.config(), home.genesis()
    device = _owner(home, request)
    name = device_name(device)
    broker = own_broker(config.broker)
    host = advertised_host(config.broker, broker)
    certificate = broker.certificates.authority().issue(name, request.tls_public_key)
    admission = Admission(
        device,
        genesis,
        host,
        config.broker.port,
        read_limited(home.tls_files().authority, DOCUMENT_BYTES_MAX).decode(),
        certificate.decode(),
        checkpoint(home.state, genesis),
    )
    body = REGISTER.pack(Register(request.public_key))
    identity = submit(home, MessageKind.REGISTER, body)
    decision = await_decision(home, identity, wait_s)
    before = _admitted_before(home, device, decision)
    # A board that is admitted already gets its papers again.
    if not before:
        known = known_board(home, device)
        is_revoked = decision.detail == BOARD_REVOKED or bool(known and known.revoked)
        decision.require(f"{name} is not admitted", _NEW_HOME if is_revoked else "")
    # After the chain's word, which says more of whom it revoked.
    broker.refuse_expelled(name, _NEW_HOME)
    place = f"{host}:{config.broker.port}"
    return AdmittedBoard(name, admission, place, decision, before)


def refuse_expelled(home: CoordinatorHome, request: EnrolmentRequest) -> None:
    """Refuses a board that was admitted and that our broker expelled since.

    Raises:
      OperationError: With the way back.
    """
    name = device_name(key_owner(home, request.public_key))
    own_broker(home.config().broker).refuse_expelled(name, _NEW_HOME)


def _owner(home: CoordinatorHome, request: EnrolmentRequest) -> DeviceId:
    """Board that asks: it keeps the id of its first key when it changes its key.

    Raises:
      OperationError: If it asks with a key that it gave up.
    """
    device = key_owner(home, request.public_key)
    known = known_board(home, device)
    if known is None or known.public == request.public_key:
        return device
    # Whoever has that key may have stolen it, and would get a certificate for the
    # board's name at the broker.
    raise OperationError(
        f"{device_name(device)} is not admitted: it gave up the key of this request; "
        "make one with its present key: starling agent enrol"
    )


def revoke(home: CoordinatorHome, name: str, wait_s: float) -> ChainDecision:
    """Excludes a board for good, from the chain and then from our own broker.

    Args:
      home: Of the coordinator, with the operator's key.
      name: The board's device name.
      wait_s: For the chain's decision, at most.

    Returns:
      The decision; `ALREADY_KNOWN` if it was excluded before.

    Raises:
      ConfigError: If that is no device's name.
      OperationError: If the chain does not know it, or refuses otherwise; or if the
        broker's access file could not be changed.
    """
    try:
        device = device_from_name(name)
    except ProtocolError as error:
        raise ConfigError(str(error), key="device") from error
    identity = submit(home, MessageKind.REVOKE, REVOKE.pack(Revoke(device)))
    decision = await_decision(home, identity, wait_s)
    if decision.reason == Reason.NOT_ENROLLED:
        raise OperationError(f"not revoked: the chain knows no board {name}")
    if decision.reason != Reason.ALREADY_KNOWN:
        decision.require(f"{name} is not revoked")
    # Not while nothing is decided: the chain may yet refuse, and an expulsion is for
    # good.
    if decision.height is not None or decision.reason is not None:
        _expel(home, name)
    return decision


def revoked_text(name: str, decision: ChainDecision) -> str:
    """Text of a decision to exclude a board, for people."""
    if decision.reason == Reason.ALREADY_KNOWN:
        return f"{name} was revoked before"
    return decision.text(f"revoked {name}", f"whether {name} is revoked")


def advertised_host(settings: BrokerEndpointSettings, broker: BrokerHome) -> str:
    """The address of the broker that newcomers are told.

    Raises:
      ConfigError: If it would lead each board to itself, and nobody said that all of
        them are on this machine.
    """
    if settings.board_host:
        return settings.board_host
    asked = broker.require_settings()
    host = board_host(asked) or settings.host
    if is_loopback(host) and not is_loopback(asked.bind) and host not in asked.hosts:
        raise ConfigError(
            f"a board elsewhere cannot reach {host}; name the broker as boards know "
            f"it: starling broker init --home {broker.path} --host NAME; or, for a "
            "fleet on this machine alone, --bind 127.0.0.1",
            key="broker.board_host",
        )
    return host


def _expel(home: CoordinatorHome, name: str) -> None:
    """Has our broker, if it is on this machine, deny a revoked board everything."""
    folder = home.config().broker.home
    if not folder or not Path(folder).exists():
        return
    broker = BrokerHome(Path(folder))
    try:
        broker.expel(name)
        broker.reload_running()
    except FederationError as error:
        raise OperationError(
            f"{name} is revoked, but may still write to its own topics at the broker: "
            f"{error}; then run: starling broker expel {name} --home {folder}"
        ) from error


def _admitted_before(
    home: CoordinatorHome, device: DeviceId, decision: ChainDecision
) -> str:
    """Text for a board that needs no other admission; empty for any other."""
    if decision.reason != Reason.ALREADY_KNOWN:
        return ""
    board = known_board(home, device)
    if board is None or board.revoked:
        return ""
    name = device_name(device)
    return f"{name} was admitted before, at height {board.registered}"

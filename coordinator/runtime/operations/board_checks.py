"""The checks of a board, asked for over the link."""

import time
from collections.abc import Callable

from starling.broker.health_checks import HealthCheck, from_rows
from starling.coordinator.runtime import command_inbox
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.operations.process_liveness import is_running
from starling.coordinator.runtime.operations.submission import submit
from starling.protocol.errors import ConfigError, OperationError, ProtocolError
from starling.protocol.ids import Digest, device_from_name
from starling.protocol.wire.envelope import MessageKind
from starling.protocol.wire.health_messages import (
    HEALTH_REPORT,
    HEALTH_REQUEST,
    HealthReport,
    HealthRequest,
)

_POLL_S = 0.2


def check_board(
    home: CoordinatorHome,
    name: str,
    wait_s: float,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> list[HealthCheck]:
    """Asks a board what its checks say.

    Args:
      home: Of the running coordinator, with the operator's key.
      name: The board's device name.
      wait_s: For its answer, at most.
      clock: Monotonic time in s.
      pause: Lets so many seconds pass.

    Raises:
      ConfigError: If that is no device's name.
      OperationError: If the coordinator does not run or refuses, or the board does not
        answer, or its owner does not allow it to.
    """
    try:
        body = HEALTH_REQUEST.pack(HealthRequest(device_from_name(name)))
    except ProtocolError as error:
        raise ConfigError(str(error), key="--remote") from error
    if not is_running(home.status):
        raise OperationError("the coordinator does not run: starling coordinator run")
    identity = submit(home, MessageKind.HEALTH_REQUEST, body)
    until_s = clock() + wait_s
    while (report := _answer(home, identity, name)) is None:
        if clock() >= until_s:
            # Nobody would take the answer away.
            command_inbox.withdraw(home.inbox, identity)
            raise OperationError(
                f"{name} did not answer within {wait_s:g} s: it is away, at another "
                "broker, or of a release that does not know the question"
            )
        pause(_POLL_S)
    if not report.allowed:
        raise OperationError(
            f"the owner of {name} does not let coordinators see its checks; on the "
            "board: privacy.tell_health = true in agent.toml, or starling agent check"
        )
    return from_rows(report.rows)


def _answer(home: CoordinatorHome, identity: Digest, name: str) -> HealthReport | None:
    refusal = command_inbox.take_refusal(home.inbox, identity)
    if refusal is not None:
        raise OperationError(f"{name} is not asked: {refusal.detail}")
    answer = command_inbox.take_answer(home.inbox, identity)
    return None if answer is None else HEALTH_REPORT.unpack(answer)

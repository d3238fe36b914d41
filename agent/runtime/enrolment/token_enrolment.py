"""A board's enrolment by a token: keys, request, admission, with no file carried."""

from collections.abc import Callable

from starling.agent.runtime.storage.agent_home import AgentHome
from starling.broker.runtime.token_exchange import admission_by_token
from starling.durable.files import read_limited
from starling.protocol.chain.enrolment import Admission
from starling.protocol.errors import ConfigError
from starling.protocol.wire.enrolment_messages import DOCUMENT_BYTES_MAX, EnrolmentKind
from starling.protocol.wire.enrolment_token import EnrolmentToken


def enrol_by_token(
    home: AgentHome,
    token: EnrolmentToken,
    wait_s: float,
    show: Callable[[str], None],
    *,
    replace: bool,
) -> Admission:
    """Enrols a board whose home was begun.

    Args:
      home: Of the board.
      token: As the operator gave it.
      wait_s: For the operator, at most.
      show: Called with each code to compare.
      replace: Whether another fleet's admission may be replaced.

    Raises:
      ConfigError: If the board belongs to another fleet, or a key is no key.
      OperationError: If it is refused, or nobody decided in time.
      TransportError: If the broker cannot be reached.
    """
    before = home.admission()
    if before is not None and not replace and before.genesis.fleet != token.fleet:
        # Before a use of the token is spent.
        raise ConfigError(
            f"this board belongs to the fleet {before.genesis.fleet!r}; use --replace "
            f"to change over to {token.fleet!r}",
            key="--token",
        )
    # The same request at each try: keys are drawn once, so that a broken-off enrolment
    # goes on.
    request = read_limited(home.write_request(), DOCUMENT_BYTES_MAX)
    _, content = admission_by_token(token, EnrolmentKind.BOARD, request, wait_s, show)
    return home.take(content, home.admission_file, replace=replace)

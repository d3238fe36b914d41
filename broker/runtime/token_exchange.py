"""Both steps of an enrolment by a token: the authority by its fingerprint, the talk."""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from starling.broker.runtime.enrolment_client import enrol
from starling.broker.runtime.pinned_authority import fetch_authority
from starling.durable.files import write_atomic
from starling.protocol.chain.enrolment import Admission, admission_from_json
from starling.protocol.errors import (
    ConfigError,
    DecodeError,
    OperationError,
    ProtocolError,
)
from starling.protocol.wire.enrolment_messages import EnrolmentKind
from starling.protocol.wire.enrolment_token import (
    TOKEN_CHARS_MAX,
    EnrolmentToken,
    token_from_line,
)

WAIT_S = 900.0
"""Until an operator has compared the code, by default."""


def read_token(given: str) -> EnrolmentToken:
    """Reads a token from the command line, or from standard input for `-`.

    Other users of the machine see a command's words while it runs.

    Raises:
      ConfigError: If it is none.
    """
    try:
        line = sys.stdin.read(TOKEN_CHARS_MAX + 1) if given == "-" else given
        return token_from_line(line)
    except UnicodeDecodeError as error:
        raise ConfigError("standard input is no text", key="--token") from error
    except DecodeError as error:
        raise ConfigError(str(error), key="--token") from error


def admission_by_token(
    token: EnrolmentToken,
    kind: EnrolmentKind,
    document: bytes,
    wait_s: float,
    show: Callable[[str], None],
) -> tuple[Admission, bytes]:
    """Enrols by a token.

    Args:
      token: As the operator gave it.
      kind: What the newcomer is.
      document: Its request or identity, as JSON.
      wait_s: How long at most.
      show: Called with each code to compare.

    Returns:
      The admission, and its bytes.

    Raises:
      OperationError: If it is refused, nobody decided, or the broker is another.
      TransportError: If the broker cannot be reached.
    """
    if token.founding:
        raise OperationError(
            "the token is for a coordinator that founds a chain with others: "
            "starling coordinator init --token LINE"
        )
    content, pem = answer_by_token(token, kind, document, wait_s, show)
    try:
        admission = admission_from_json(content)
    except ProtocolError as error:
        raise OperationError(f"the admission is malformed: {error}") from error
    # The board pins what the admission names from here on, and the token vouched for
    # the other.
    if admission.ca_pem.strip() != pem.strip():
        raise OperationError("the admission names another authority than the token")
    return admission, content


def answer_by_token(
    token: EnrolmentToken,
    kind: EnrolmentKind,
    document: bytes,
    wait_s: float,
    show: Callable[[str], None],
    tell: Callable[[str], None] = lambda _text: None,
) -> tuple[bytes, str]:
    """Says something by a token, and waits for the answer.

    Args:
      token: As the operator gave it.
      kind: What the newcomer is.
      document: What it says.
      wait_s: How long at most.
      show: Called with each code to compare.
      tell: Called with what the registrar says that it waits for.

    Returns:
      The proven answer, and the certificate of the broker's authority as PEM.

    Raises:
      OperationError: If it is refused, nobody decided, or the broker is another.
      TransportError: If the broker cannot be reached.
    """
    # Two connections: the first believes nothing and learns the authority, the second
    # is checked against it.
    pem = fetch_authority(token.host, token.port, token.authority)
    with tempfile.TemporaryDirectory(prefix="starling-") as folder:
        authority = Path(folder) / "authority.pem"
        write_atomic(authority, pem.encode())
        content = enrol(token, kind, document, authority, wait_s, show, tell)
    return content, pem

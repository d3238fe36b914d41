"""A coordinator joins a broker on another machine by a token.

The broker's authority signs its TLS key there, and its secret stays there. With the
admission come genesis and trusted state of the chain, so that no file is carried.
"""

from collections.abc import Callable

from starling.broker.runtime.tls_key import write_tls_key
from starling.broker.runtime.token_exchange import admission_by_token
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.setup.genesis_setup import (
    identify,
    write_first_config,
)
from starling.durable.files import read_limited, write_atomic
from starling.protocol.chain.enrolment import Admission
from starling.protocol.chain.genesis import GENESIS
from starling.protocol.chain.light_client import TRUSTED
from starling.protocol.crypto.keys import SEED_BYTES
from starling.protocol.errors import ConfigError
from starling.protocol.ids import device_from_name
from starling.protocol.wire.enrolment_messages import EnrolmentKind
from starling.protocol.wire.enrolment_token import EnrolmentToken

_READABLE = 0o644


def join_broker(
    home: CoordinatorHome,
    token: EnrolmentToken,
    name: str,
    wait_s: float,
    show: Callable[[str], None],
) -> Admission:
    """Makes a coordinator's folder, and enrols it.

    Args:
      home: Its folder, which may not be there yet.
      token: As the broker's operator gave it.
      name: For people.
      wait_s: For an operator, at most.
      show: Called with each code to compare.

    Returns:
      What it was given.

    Raises:
      ConfigError: If the folder belongs to another chain.
      OperationError: If it is refused, or nobody decided in time.
      TransportError: If the broker cannot be reached.
      StorageError: If the disk refuses.
    """
    home.require_no_founding()
    document = identify(home, name).to_json().encode()
    admission, _ = admission_by_token(
        token, EnrolmentKind.COORDINATOR, document, wait_s, show
    )
    if admission.device != device_from_name(home.name):
        raise ConfigError("the admission is for another coordinator", key="--token")
    genesis_file = home.path / "genesis"
    if genesis_file.exists() and home.genesis() != admission.genesis:
        raise ConfigError("the folder belongs to another chain", key="genesis")
    keep_certificate(home, admission.ca_pem, admission.certificate_pem)
    # A pin that an operator set counts more than the word of a broker.
    if admission.trusted is not None and not home.pinned_file.exists():
        write_atomic(home.pinned_file, TRUSTED.pack(admission.trusted))
    place = (admission.broker_host, admission.broker_port)
    write_first_config(home, {"broker.host": place[0], "broker.port": place[1]})
    # Last: without it nothing starts, and after a power cut the same call goes on.
    if not genesis_file.exists():
        write_atomic(genesis_file, GENESIS.pack(admission.genesis))
    return admission


def keep_certificate(home: CoordinatorHome, authority: str, certificate: str) -> None:
    """Keeps what a coordinator shows at a broker elsewhere, for its key there.

    Args:
      home: Its folder.
      authority: PEM of the broker's authority.
      certificate: PEM of its own certificate.

    Raises:
      StorageError: If the disk refuses.
    """
    files = home.tls_files()
    write_tls_key(files.key, read_limited(home.keys / "peer", SEED_BYTES))
    write_atomic(files.certificate, certificate.encode(), _READABLE)
    write_atomic(files.authority, authority.encode(), _READABLE)

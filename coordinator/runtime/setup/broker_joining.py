"""A coordinator joins a broker on another machine by a token.

The broker's authority signs its TLS key there, and its secret stays there. With the
admission come genesis and trusted state of the chain, so that no file is carried.
"""

from collections.abc import Callable

from starling.broker.runtime.tls_key import write_tls_key
from starling.broker.runtime.token_exchange import admission_by_token
from starling.coordinator.config import FILE, CoordinatorConfig
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.setup.genesis_setup import identify
from starling.durable.files import read_limited, write_atomic
from starling.protocol.chain.enrolment import Admission
from starling.protocol.chain.genesis import GENESIS
from starling.protocol.chain.light_client import TRUSTED
from starling.protocol.crypto.keys import SEED_BYTES
from starling.protocol.errors import ConfigError
from starling.protocol.ids import device_from_name
from starling.protocol.schema.toml_settings import sample
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
    document = identify(home, name).to_json().encode()
    admission, _ = admission_by_token(
        token, EnrolmentKind.COORDINATOR, document, wait_s, show
    )
    if admission.device != device_from_name(home.name):
        raise ConfigError("the admission is for another coordinator", key="--token")
    genesis_file = home.path / "genesis"
    if genesis_file.exists() and home.genesis() != admission.genesis:
        raise ConfigError("the folder belongs to another chain", key="genesis")
    files = home.tls_files()
    write_tls_key(files.key, read_limited(home.keys / "peer", SEED_BYTES))
    write_atomic(files.certificate, admission.certificate_pem.encode(), _READABLE)
    write_atomic(files.authority, admission.ca_pem.encode(), _READABLE)
    if admission.trusted is not None and not home.pinned_file.exists():
        write_atomic(home.pinned_file, TRUSTED.pack(admission.trusted))
    if not (home.path / FILE).exists():
        values = {
            "broker.host": admission.broker_host,
            "broker.port": admission.broker_port,
        }
        write_atomic(home.path / FILE, sample(CoordinatorConfig, values).encode())
    if not genesis_file.exists():
        write_atomic(genesis_file, GENESIS.pack(admission.genesis))
    return admission

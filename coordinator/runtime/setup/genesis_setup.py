"""Making a coordinator's folder, and the genesis that several coordinators share.

Alone, `init` makes a chain of its own. Several found one over a broker, see
`coordinator.runtime.founding`, or with files that are carried by hand: each operator
runs `identity`, which makes the keys and a file without secrets; anybody assembles the
files with `genesis`; each operator runs `init --genesis` with the result. Nothing
secret leaves a folder.
"""

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from starling.broker.broker_settings import BrokerSettings, reachable_host
from starling.broker.runtime.broker_home import BrokerHome
from starling.broker.runtime.tls_key import write_tls_key
from starling.coordinator.config import FILE, CoordinatorConfig
from starling.coordinator.runtime.home import CONFIG_BYTES_MAX, CoordinatorHome
from starling.durable.files import make_folder, read_limited, write_atomic
from starling.protocol.chain.credit_policy import NO_ECONOMY, CreditPolicy
from starling.protocol.chain.genesis import (
    GENESIS,
    GENESIS_BYTES_MAX,
    FaultModel,
    Genesis,
    genesis_of,
)
from starling.protocol.crypto.keys import SEED_BYTES, verify
from starling.protocol.errors import ConfigError, DecodeError, ProtocolError
from starling.protocol.ids import KEY_BYTES, SIGNATURE_BYTES, PublicKey, SealingKey
from starling.protocol.schema.toml_settings import sample
from starling.protocol.wire.topics import check_fleet_name

IDENTITY_BYTES_MAX = 4096
NAME_CHARS_MAX = 64
_IDENTITY_TAG = b"starling/coordinator-identity/1"
_READABLE = 0o644


@dataclass(frozen=True)
class GenesisOptions:
    """Options of `init` for a genesis.

    Attributes:
      fleet: Name of the fleet.
      broker: Folder of the broker.
      board_host: Where boards reach the broker; empty for the broker's first host.
      port: Port of the broker; 0 for the one in its folder.
      heartbeat_s: Longest time without a block, for a chain of its own.
      genesis: File of a chain that several share; None for a chain of its own.
      joins: Whether the chain admits this coordinator only later, by a motion.
      economy: Credits of a chain of its own.
      broker_host: Where we reach the broker; empty for on this machine.
    """

    fleet: str
    broker: Path
    board_host: str
    port: int
    heartbeat_s: int
    genesis: Path | None = None
    joins: bool = False
    economy: CreditPolicy = NO_ECONOMY
    broker_host: str = ""


@dataclass(frozen=True)
class CoordinatorIdentity:
    """The public side of one coordinator and of its operator.

    Attributes:
      name: For people.
      public: Signs votes, receipts and attestations.
      sealing: Boards seal their updates to it.
      operator: May admit boards and publish tasks.
      tls: Its TLS key for the brokers of other coordinators.
      signature: By `public` over all of it, so that nobody swaps a key.
    """

    name: str
    public: PublicKey
    sealing: SealingKey
    operator: PublicKey
    tls: PublicKey
    signature: bytes

    def signed_bytes(self) -> bytes:
        """Bytes that the signature covers."""
        keys = self.public + self.sealing + self.operator + self.tls
        return _IDENTITY_TAG + keys + self.name.encode()

    def to_json(self) -> str:
        """The file that `genesis` reads."""
        document = {
            "format": 1,
            "name": self.name,
            "public": self.public.hex(),
            "sealing": self.sealing.hex(),
            "operator": self.operator.hex(),
            "tls": self.tls.hex(),
            "signature": self.signature.hex(),
        }
        return json.dumps(document, indent=1) + "\n"


def identify(home: CoordinatorHome, name: str) -> CoordinatorIdentity:
    """Makes the folder's keys if there are none, and shows their public side.

    Raises:
      ConfigError: If the name is too long or empty.
      StorageError: If the disk refuses.
    """
    if not (name.isprintable() and 0 < len(name.encode()) <= NAME_CHARS_MAX):
        raise ConfigError(f"1 to {NAME_CHARS_MAX} printable bytes", key="name")
    _make_folders_and_keys(home)
    key = home.signing_key()
    made = CoordinatorIdentity(
        name,
        key.public,
        home.sealing_key().public,
        home.operator_key().public,
        home.peer_public(),
        b"",
    )
    return replace(made, signature=key.sign(made.signed_bytes()))


def read_identity(path: Path) -> CoordinatorIdentity:
    """Reads and checks what `identity` wrote.

    Raises:
      ConfigError: Naming the file, if it is damaged or was changed.
    """
    try:
        return identity_from_json(read_limited(path, IDENTITY_BYTES_MAX))
    except ProtocolError as error:
        raise ConfigError(f"no coordinator's identity: {error}", file=str(path)) from (
            error
        )


def identity_from_json(content: bytes) -> CoordinatorIdentity:
    """Reads and checks an identity.

    Raises:
      DecodeError: If it is none.
      SignatureError: If it was changed.
    """
    try:
        document = json.loads(content)
        found = CoordinatorIdentity(
            _text(document, "name"),
            PublicKey(_binary(document, "public", KEY_BYTES)),
            SealingKey(_binary(document, "sealing", KEY_BYTES)),
            PublicKey(_binary(document, "operator", KEY_BYTES)),
            PublicKey(_binary(document, "tls", KEY_BYTES)),
            _binary(document, "signature", SIGNATURE_BYTES),
        )
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise DecodeError(f"no identity: {error}") from error
    verify(found.public, found.signed_bytes(), found.signature)
    return found


def _text(document: dict[str, Any], key: str) -> str:
    value = document[key]
    if not isinstance(value, str) or not 0 < len(value.encode()) <= NAME_CHARS_MAX:
        raise ValueError(f"{key}: 1 to {NAME_CHARS_MAX} bytes")
    return value


def _binary(document: dict[str, Any], key: str, length: int) -> bytes:
    value = bytes.fromhex(document[key])
    if len(value) != length:
        raise ValueError(f"{key}: {length} bytes")
    return value


def assemble_genesis(
    fleet: str,
    identities: Sequence[CoordinatorIdentity],
    fault_model: FaultModel,
    heartbeat_s: int,
    economy: CreditPolicy = NO_ECONOMY,
) -> Genesis:
    """The genesis of a chain that several coordinators keep.

    Args:
      fleet: Name of the fleet.
      identities: Of all of them, in any order.
      fault_model: Crash-only is for 2 or 3 whose operators trust each other.
      heartbeat_s: Longest time without a block.
      economy: The chain's credits.

    Raises:
      ConfigError: If there are none or too many, two are the same, or the fault model
        does not fit.
    """
    try:
        check_fleet_name(fleet)
        created_ms = time.time_ns() // 10**6
        return genesis_of(
            identities, fleet, created_ms, fault_model, heartbeat_s, economy
        )
    except ProtocolError as error:
        raise ConfigError(str(error), key="genesis") from error


def found(home: CoordinatorHome, asked: GenesisOptions) -> Genesis:
    """Makes a coordinator's folder; keeps what is there.

    Raises:
      ConfigError: If the name, the genesis or the broker's folder cannot be.
      StorageError: If the disk refuses.
    """
    try:
        check_fleet_name(asked.fleet)
    except DecodeError as error:
        raise ConfigError(str(error), key="fleet") from error
    broker = BrokerHome(asked.broker)
    settings = broker.require_settings()
    if settings.fleet != asked.fleet:
        raise ConfigError(
            f"the broker serves the fleet {settings.fleet!r}", key="fleet"
        )
    home.require_no_founding()
    _make_folders_and_keys(home)
    # Before the broker gives rights to anybody.
    shared = None if asked.genesis is None else _shared_genesis(home, asked)
    join_own_broker(home, broker)
    write_first_config(home, own_broker_values(asked, settings))
    if not (home.path / "genesis").exists():
        genesis = shared or assemble_genesis(
            asked.fleet,
            [identify(home, "coordinator 1")],
            FaultModel.BYZANTINE,
            asked.heartbeat_s,
            asked.economy,
        )
        write_atomic(home.path / "genesis", GENESIS.pack(genesis))
    elif shared is not None and shared != home.genesis():
        raise ConfigError("the folder belongs to another chain", key="genesis")
    return home.genesis()


def _make_folders_and_keys(home: CoordinatorHome) -> None:
    for folder in (home.path, home.keys, home.inbox, home.state):
        make_folder(folder)
    for name in ("signing", "sealing", "operator", "peer"):
        # Never over one that is there: a lost signing key is a lost validator.
        if not (home.keys / name).exists():
            write_atomic(home.keys / name, os.urandom(SEED_BYTES))
    if not home.peer_key.exists():
        write_tls_key(home.peer_key, read_limited(home.keys / "peer", SEED_BYTES))


def _shared_genesis(home: CoordinatorHome, asked: GenesisOptions) -> Genesis:
    assert asked.genesis is not None
    file = str(asked.genesis)
    try:
        genesis = GENESIS.unpack(read_limited(asked.genesis, GENESIS_BYTES_MAX))
    except ProtocolError as error:
        raise ConfigError(f"damaged: {error}", file=file) from error
    if genesis.fleet != asked.fleet:
        raise ConfigError(f"is of the fleet {genesis.fleet!r}", file=file, key="fleet")
    index = genesis.validators.index_of(home.signing_key().public)
    if index is None and asked.joins:
        return genesis
    if index is None:
        raise ConfigError(
            "does not name the key in keys/signing; for a chain that is to admit it "
            "later, give --join",
            file=file,
        )
    # Boards would seal updates to a key that nobody has.
    if genesis.validators.members[index].sealing != home.sealing_key().public:
        raise ConfigError("names another key than keys/sealing", file=file)
    return genesis


def join_own_broker(home: CoordinatorHome, broker: BrokerHome) -> None:
    """Gives a coordinator its rights and its certificate at a broker that is here.

    Raises:
      ConfigError: If the broker's folder is not finished, or refuses.
      StorageError: If the disk refuses.
    """
    name = home.name
    broker.admit_coordinator(name)
    # A broker that runs already reads its access file only when it is told to.
    broker.reload_running()
    files = home.tls_files()
    if not files.certificate.exists():
        broker.certificates.issue_files(name, home.keys)
    authority = read_limited(broker.authority_certificate, CONFIG_BYTES_MAX)
    write_atomic(files.authority, authority, _READABLE)


def own_broker_values(
    asked: GenesisOptions, settings: BrokerSettings
) -> dict[str, object]:
    """Settings of a coordinator beside its broker, which differ from the defaults."""
    return {
        "broker.host": asked.broker_host or reachable_host(settings),
        "broker.port": asked.port or settings.port,
        "broker.board_host": asked.board_host,
        "broker.home": str(asked.broker.absolute()),
    }


def write_first_config(home: CoordinatorHome, values: dict[str, object]) -> None:
    """Writes `coordinator.toml` with these values, unless there is one.

    Raises:
      StorageError: If the disk refuses.
    """
    if not (home.path / FILE).exists():
        write_atomic(home.path / FILE, sample(CoordinatorConfig, values).encode())

"""A coordinator's folder, and what `starling coordinator init` puts there.

coordinator.toml        settings
genesis                 the packed genesis, which boards pin
keys/signing            seed of the key that signs votes, receipts, attestations
keys/sealing            seed of the key that boards seal their updates to
keys/operator           seed of the operator's key that admits and publishes
keys/<id>.key, .pem     TLS key and certificate for the broker
keys/authority.pem      the broker's authority
inbox/                  transactions and blobs that wait for the running coordinator
state/                  chain, votes, counters
status.json             what `status` shows
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from broker.backoff import BackoffPolicy
from broker.events import LinkSettings, TlsFiles
from broker.rim.home import BrokerHome, BrokerSettings, reachable_host
from coordinator.config import FILE, CoordinatorConfig
from durable.files import (
    read_if_present,
    read_limited,
    require_private,
    storage_errors,
    write_atomic,
)
from protocol.chain import (
    FORMAT_VERSION,
    GENESIS,
    GENESIS_BYTES_MAX,
    FaultModel,
    Genesis,
    Validator,
    ValidatorSet,
)
from protocol.errors import ConfigError, DecodeError, StorageError
from protocol.ids import device_id, device_name
from protocol.keys import SEED_BYTES, OpeningKey, SigningKey
from protocol.settings import load_settings, sample
from protocol.topics import check_fleet_name

CONFIG_BYTES_MAX = 1 << 20
_COUNTER_BYTES_MAX = 32


@dataclass(frozen=True)
class CoordinatorHome:
    """Where everything is.

    Attributes:
      path: The folder.
    """

    path: Path

    @property
    def inbox(self) -> Path:
        """Transactions and blobs from the operator's commands."""
        return self.path / "inbox"

    @property
    def state(self) -> Path:
        """What the running coordinator keeps."""
        return self.path / "state"

    @property
    def keys(self) -> Path:
        """Secrets."""
        return self.path / "keys"

    @property
    def status(self) -> Path:
        """What the running coordinator shows."""
        return self.path / "status.json"

    def config(self) -> CoordinatorConfig:
        """Reads `coordinator.toml`.

        Raises:
          ConfigError: Naming file, key and bound, or the command that makes the file.
        """
        file = self.path / FILE
        content = read_if_present(file, CONFIG_BYTES_MAX)
        if content is None:
            raise ConfigError(
                "no coordinator here; run: starling coordinator init", file=str(file)
            )
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            raise ConfigError("not UTF-8", file=str(file)) from error
        return load_settings(CoordinatorConfig, text, str(file))

    def genesis(self) -> Genesis:
        """Reads the genesis.

        Raises:
          ConfigError: If it is missing or damaged.
        """
        file = self.path / "genesis"
        content = read_if_present(file, GENESIS_BYTES_MAX)
        if content is None:
            raise ConfigError("missing; run: starling coordinator init", file=str(file))
        try:
            return GENESIS.unpack(content)
        except DecodeError as error:
            raise ConfigError(f"damaged: {error}", file=str(file)) from error

    def signing_key(self) -> SigningKey:
        """The coordinator's own key."""
        return SigningKey(self._seed("signing"))

    def sealing_key(self) -> OpeningKey:
        """Opens the boards' updates."""
        return OpeningKey(self._seed("sealing"))

    def operator_key(self) -> SigningKey:
        """Admits boards and publishes tasks."""
        return SigningKey(self._seed("operator"))

    @property
    def name(self) -> str:
        """The coordinator's name for the broker and in topics."""
        return device_name(device_id(self.signing_key().public))

    def tls_files(self) -> TlsFiles:
        """For the connection to the broker."""
        name = self.name
        return TlsFiles(
            self.keys / "authority.pem",
            self.keys / f"{name}.pem",
            self.keys / f"{name}.key",
        )

    def next_counter(self, name: str) -> int:
        """Counts one of the folder's counters up, durably, and returns it.

        Raises:
          StorageError: If the file is damaged or the disk refuses.
        """
        file = self.state / f"{name}.counter"
        content = read_if_present(file, _COUNTER_BYTES_MAX) or b"0"
        if not content.strip().isdigit():
            raise StorageError(f"{file}: damaged; write a number above all used ones")
        number = int(content) + 1
        write_atomic(file, b"%d\n" % number)
        return number

    def _seed(self, name: str) -> bytes:
        file = self.keys / name
        if not file.exists():
            raise ConfigError("missing; run: starling coordinator init", file=str(file))
        require_private(file)
        seed = read_limited(file, SEED_BYTES)
        if len(seed) != SEED_BYTES:
            raise ConfigError(f"expected {SEED_BYTES} bytes", file=str(file))
        return seed


@dataclass(frozen=True)
class Founding:
    """What an operator asks `init` for.

    Attributes:
      fleet: Name of the fleet.
      broker: Folder of the broker.
      board_host: Where boards reach the broker; empty for where we do.
      port: Port of the broker; 0 for the one in its folder.
      heartbeat_s: Longest time without a block.
    """

    fleet: str
    broker: Path
    board_host: str
    port: int
    heartbeat_s: int


def found(home: CoordinatorHome, asked: Founding) -> Genesis:
    """Makes a coordinator's folder, and a chain of its own; keeps what is there.

    Raises:
      ConfigError: If the name or the broker's folder cannot be.
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
    for folder in (home.path, home.keys, home.inbox, home.state):
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name in ("signing", "sealing", "operator"):
        if not (home.keys / name).exists():
            write_atomic(home.keys / name, os.urandom(SEED_BYTES))
    _join_broker(home, broker)
    if not (home.path / FILE).exists():
        text = sample(CoordinatorConfig, _first_values(asked, broker, settings))
        write_atomic(home.path / FILE, text.encode(), 0o644)
    if not (home.path / "genesis").exists():
        write_atomic(home.path / "genesis", GENESIS.pack(_genesis(home, asked)), 0o644)
    return home.genesis()


def _join_broker(home: CoordinatorHome, broker: BrokerHome) -> None:
    name = home.name
    broker.admit_coordinator(name)
    files = home.tls_files()
    if not files.certificate.exists():
        broker.issue_files(name, home.keys)
    authority = read_limited(broker.authority_certificate, CONFIG_BYTES_MAX)
    write_atomic(files.authority, authority, 0o644)


def _first_values(
    asked: Founding, broker: BrokerHome, settings: BrokerSettings
) -> dict[str, object]:
    return {
        "broker.host": reachable_host(settings),
        "broker.port": asked.port or settings.port,
        "broker.board_host": asked.board_host,
        "broker.home": str(broker.path),
    }


def _genesis(home: CoordinatorHome, asked: Founding) -> Genesis:
    validator = Validator(
        home.signing_key().public, home.sealing_key().public, "coordinator 1"
    )
    return Genesis(
        version=FORMAT_VERSION,
        fleet=asked.fleet,
        created_ms=time.time_ns() // 10**6,
        fault_model=FaultModel.BYZANTINE,
        validators=ValidatorSet((validator,)),
        operators=(home.operator_key().public,),
        heartbeat_s=asked.heartbeat_s,
    )


def link_settings(
    home: CoordinatorHome, config: CoordinatorConfig, subscriptions: tuple[str, ...]
) -> LinkSettings:
    """How the running coordinator connects; its last will is set later."""
    return LinkSettings(
        host=config.broker.host,
        port=config.broker.port,
        client_id=home.name,
        tls=home.tls_files(),
        receive_maximum=512,
        window=512,
        subscriptions=subscriptions,
        # Coordinators are few and everybody waits for them, so they are impatient.
        backoff=BackoffPolicy(first_s=0.25, most_s=15.0),
    )

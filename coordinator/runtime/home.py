"""A coordinator's folder; `coordinator.runtime.setup.genesis_setup` makes it.

coordinator.toml        settings
genesis                 the packed genesis, which boards pin
keys/signing            seed of the key that signs votes, receipts, attestations
keys/sealing            seed of the key that boards seal their updates to
keys/operator           seed of the operator's key that admits and publishes
keys/retired            only once `retire` destroyed them
keys/<id>.key, .pem     TLS key and certificate for the broker
keys/authority.pem      the broker's authority
keys/peer, peer.key     seed and form of the TLS key for other brokers
peers/                  brokers of other coordinators
founding/               what was agreed with the others that founded the chain, if any
pinned                  a header that the chain must lead through, if any
inbox/                  transactions and blobs that wait for the running coordinator
state/                  chain, votes, counters
status.json             what `status` shows
"""

from dataclasses import dataclass
from pathlib import Path

from starling.broker.backoff import BackoffPolicy
from starling.broker.link_events import LinkSettings, TlsFiles, renewal_topics
from starling.coordinator.config import FILE, CoordinatorConfig
from starling.durable.files import (
    read_configured,
    read_if_present,
    require_private,
    write_atomic,
)
from starling.protocol.chain.genesis import GENESIS, GENESIS_BYTES_MAX, Genesis
from starling.protocol.chain.light_client import TRUSTED, TrustedState
from starling.protocol.crypto.keys import SEED_BYTES, OpeningKey, SigningKey
from starling.protocol.errors import (
    ConfigError,
    DecodeError,
    ProtocolError,
    StorageError,
)
from starling.protocol.ids import PublicKey, device_id, device_name
from starling.protocol.schema.toml_settings import ignored_keys, load_settings
from starling.protocol.wire.topics import Topics

CONFIG_BYTES_MAX = 1 << 20
RETIRED_FILE = "retired"
"""Name of the file in `keys/` that says that they were destroyed."""
_COUNTER_BYTES_MAX = 32
_UNFOUNDED = (
    "not all parties of the founding have agreed yet; run the same `starling "
    "coordinator init` again and wait until it ends, or remove this folder to give it "
    "up"
)


@dataclass(frozen=True)
class CoordinatorHome:
    """Paths of a coordinator's home.

    Attributes:
      path: The folder.
    """

    path: Path

    @property
    def settings_file(self) -> Path:
        """Path of `coordinator.toml`."""
        return self.path / FILE

    @property
    def inbox(self) -> Path:
        """Transactions and blobs from the operator's commands."""
        return self.path / "inbox"

    @property
    def state(self) -> Path:
        """Folder of the running coordinator's state."""
        return self.path / "state"

    @property
    def keys(self) -> Path:
        """Secrets."""
        return self.path / "keys"

    @property
    def founding(self) -> Path:
        """Files of a founding; see `coordinator.runtime.founding`."""
        return self.path / "founding"

    def require_no_founding(self) -> None:
        """Refuses a folder whose founding with others has no end yet.

        Raises:
          ConfigError: With what to do.
        """
        if self.founding.exists() and not (self.path / "genesis").exists():
            raise ConfigError(_UNFOUNDED, file=str(self.founding))

    @property
    def peers(self) -> Path:
        """Brokers of other coordinators, where gossip is read too."""
        return self.path / "peers"

    @property
    def peer_key(self) -> Path:
        """The TLS key for those."""
        return self.keys / "peer.key"

    def peer_public(self) -> PublicKey:
        """Its public side, which their operators certify."""
        return SigningKey(self._seed("peer")).public

    @property
    def status(self) -> Path:
        """Path of the running coordinator's status."""
        return self.path / "status.json"

    def config(self) -> CoordinatorConfig:
        """Reads `coordinator.toml`.

        Raises:
          ConfigError: Naming file, key and bound, or the command that makes the file.
        """
        text = self._config_text()
        return load_settings(CoordinatorConfig, text, str(self.path / FILE))

    def ignored_settings(self) -> tuple[str, ...]:
        """Keys of a later release's file that this release leaves out.

        Raises:
          ConfigError: If it cannot be read.
        """
        text = self._config_text()
        return ignored_keys(CoordinatorConfig, text, str(self.path / FILE))

    def _config_text(self) -> str:
        file = self.path / FILE
        content = read_configured(file, CONFIG_BYTES_MAX)
        if content is None:
            self.require_no_founding()
            raise ConfigError(
                "no coordinator here; run: starling coordinator init", file=str(file)
            )
        try:
            return content.decode()
        except UnicodeDecodeError as error:
            raise ConfigError("not UTF-8", file=str(file)) from error

    def genesis(self) -> Genesis:
        """Reads the genesis.

        Raises:
          ConfigError: If it is missing or damaged.
        """
        file = self.path / "genesis"
        content = read_configured(file, GENESIS_BYTES_MAX)
        if content is None:
            self.require_no_founding()
            raise ConfigError("missing; run: starling coordinator init", file=str(file))
        try:
            return GENESIS.unpack(content)
        except DecodeError as error:
            raise ConfigError(f"damaged: {error}", file=str(file)) from error

    @property
    def pinned_file(self) -> Path:
        """A header that the chain must lead through, if one is pinned."""
        return self.path / "pinned"

    def pinned(self) -> TrustedState | None:
        """Reads what is pinned; None if nothing is.

        Raises:
          ConfigError: If it is damaged.
        """
        content = read_configured(self.pinned_file, TRUSTED.bytes_max)
        try:
            return None if content is None else TRUSTED.unpack(content)
        except ProtocolError as error:
            file = str(self.pinned_file)
            raise ConfigError(f"damaged: {error}", file=file) from error

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
        content = read_if_present(file, _COUNTER_BYTES_MAX)
        content = b"0" if content is None else content
        # An empty one is damaged, too: from 0 on, used numbers would come again.
        if not content.strip().isdigit():
            raise StorageError(f"{file}: damaged; write a number above all used ones")
        number = int(content) + 1
        # Durable before it is used: a number that came twice would be a replay, or an
        # equivocation.
        write_atomic(file, b"%d\n" % number)
        return number

    def _seed(self, name: str) -> bytes:
        file = self.keys / name
        # Told apart from a folder that was never set up: `init` would make other keys.
        if not file.exists() and (self.keys / RETIRED_FILE).exists():
            raise ConfigError("destroyed: this coordinator was retired", file=str(file))
        if not file.exists():
            raise ConfigError("missing; run: starling coordinator init", file=str(file))
        # At each read: a restored backup often comes back readable by all.
        require_private(file)
        seed = read_configured(file, SEED_BYTES) or b""
        if len(seed) != SEED_BYTES:
            raise ConfigError(f"expected {SEED_BYTES} bytes", file=str(file))
        return seed


def link_settings(
    home: CoordinatorHome, config: CoordinatorConfig, topics: Topics
) -> LinkSettings:
    """Settings of the running coordinator's connection; its last will is set later."""
    return LinkSettings(
        host=config.broker.host,
        port=config.broker.port,
        client_id=home.name,
        tls=home.tls_files(),
        receive_maximum=512,
        window=512,
        subscriptions=topics.coordinator_filters(home.name),
        renewal=renewal_topics(topics, home.name),
        # Coordinators are few and everybody waits for them, so they are impatient.
        backoff=BackoffPolicy(first_s=0.25, most_s=15.0),
    )

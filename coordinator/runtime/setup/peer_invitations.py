"""Reading what coordinators say at other brokers, as a client of those.

Whoever runs a broker invites a coordinator by its identity file: that gives it the
right to read gossip there, and nothing else, and a certificate for its own key. An
invitation holds no secret. The invited one keeps it in its folder:

peers/<host>-<port>/address          mqtts://host:port
peers/<host>-<port>/authority.pem    that broker's authority
peers/<host>-<port>/certificate.pem  ours there, for keys/peer.key
"""

import argparse
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from starling.broker.backoff import BackoffPolicy
from starling.broker.link_events import LinkSettings, TlsFiles, renewal_topics
from starling.broker.runtime.broker_home import BrokerHome
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.setup.genesis_setup import (
    CoordinatorIdentity,
    read_identity,
)
from starling.coordinator.runtime.setup.own_broker import own_broker
from starling.coordinator.runtime.verb_types import AddVerb, Shown
from starling.durable.files import (
    make_folder,
    read_configured,
    read_limited,
    write_atomic,
)
from starling.protocol.errors import ConfigError, ProtocolError
from starling.protocol.ids import device_id, device_name
from starling.protocol.wire.topics import Topics

PEERS_MAX = 32
SESSION_S = 60
"""Gossip that is older is of no use: others send again what we lack."""
_FILE_BYTES_MAX = 64 * 1024
_READABLE = 0o644
_ADDRESS = re.compile(r"mqtts://([A-Za-z0-9._:\[\]-]{1,253}):(\d{1,5})")


@dataclass(frozen=True)
class Invitation:
    """Address and credentials with which a coordinator reads gossip at a broker.

    Attributes:
      fleet: Whose broker it is.
      user: The coordinator's name there.
      authority: PEM of the broker's authority.
      certificate: PEM of the coordinator's certificate.
    """

    fleet: str
    user: str
    authority: str
    certificate: str

    def to_json(self) -> str:
        """The file that the invited coordinator is given."""
        return json.dumps({"format": 1, **asdict(self)}, indent=1) + "\n"


@dataclass(frozen=True)
class PeerBroker:
    """Another broker, where we reach it."""

    host: str
    port: int

    @property
    def address(self) -> str:
        """As an operator writes it."""
        return f"mqtts://{self.host}:{self.port}"


def add_peers(founding: argparse.ArgumentParser) -> None:
    """Adds what `init` asks for other brokers."""
    founding.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="mqtts://HOST:PORT=INVITATION",
        help="another broker whose coordinators are heard too; may be repeated",
    )


def keep_peers(home: CoordinatorHome, options: argparse.Namespace) -> None:
    """Does what `init --peer` asks for.

    Raises:
      ConfigError, StorageError: As `parse_peer`, `read_invitation`, `keep_peer`.
    """
    for text in options.peer:
        broker, file = parse_peer(text)
        keep_peer(home, options.fleet, broker, read_invitation(file))


def add_verbs(add: AddVerb) -> None:
    """Adds `starling coordinator invite`."""
    verb = add("invite", _invite, "let a coordinator of another broker read at ours")
    verb.add_argument("identity", type=Path, help="its identity file")
    verb.add_argument("--out", required=True, type=Path, help="file to write")


def _invite(home: CoordinatorHome, options: argparse.Namespace) -> Shown:
    broker = own_broker(home.config().broker)
    invitation = invite(broker, read_identity(options.identity))
    write_atomic(options.out, invitation.to_json().encode(), _READABLE)
    broker.reload_running()
    document = {"user": invitation.user, "invitation": str(options.out)}
    return document, f"invited {invitation.user}: {options.out}"


def invite(broker: BrokerHome, identity: CoordinatorIdentity) -> Invitation:
    """Lets a coordinator read gossip at a broker.

    Raises:
      ConfigError: If the broker's folder is not finished.
      StorageError: If the disk refuses.
    """
    settings = broker.require_settings()
    user = device_name(device_id(identity.public))
    broker.admit_peer(user)
    certificate = broker.certificates.authority().issue(user, identity.tls)
    authority = read_limited(broker.authority_certificate, _FILE_BYTES_MAX)
    return Invitation(settings.fleet, user, authority.decode(), certificate.decode())


def read_invitation(path: Path) -> Invitation:
    """Reads what `invite` made.

    Raises:
      ConfigError: Naming the file, if it is no invitation.
    """
    try:
        document = json.loads(read_limited(path, _FILE_BYTES_MAX))
        words = [document[key] for key in Invitation.__dataclass_fields__]
    except (ValueError, LookupError, TypeError, ProtocolError) as error:
        raise ConfigError(f"no invitation: {error}", file=str(path)) from error
    if not all(isinstance(word, str) for word in words):
        raise ConfigError("no invitation: something in it is no text", file=str(path))
    return Invitation(*words)


def parse_peer(text: str) -> tuple[PeerBroker, Path]:
    """Reads `mqtts://host:port=FILE`.

    Raises:
      ConfigError: If it is not of that form.
    """
    address, _, file = text.partition("=")
    broker = _broker(address)
    if broker is None or not file:
        raise ConfigError(
            f"{text!r}: expected mqtts://HOST:PORT=INVITATION", key="--peer"
        )
    return broker, Path(file)


def _broker(address: str) -> PeerBroker | None:
    found = _ADDRESS.fullmatch(address.strip())
    if found is None or not 1 <= int(found[2]) <= 65535:
        return None
    return PeerBroker(found[1].strip("[]"), int(found[2]))


def keep_peer(
    home: CoordinatorHome, fleet: str, broker: PeerBroker, invitation: Invitation
) -> None:
    """Has a coordinator read gossip at a broker from its next start on.

    Raises:
      ConfigError: If the invitation is another coordinator's or another fleet's.
      StorageError: If the disk refuses.
    """
    if invitation.user != home.name or invitation.fleet != fleet:
        whose = f"{invitation.user} of {invitation.fleet}"
        raise ConfigError(f"the invitation is for {whose}", key="--peer")
    folder = home.peers / f"{re.sub('[^A-Za-z0-9.]', '-', broker.host)}-{broker.port}"
    make_folder(folder)
    # The address last: a folder that has it has all.
    files = {
        "authority.pem": invitation.authority,
        "certificate.pem": invitation.certificate,
        "address": broker.address,
    }
    for name, content in files.items():
        write_atomic(folder / name, content.encode(), _READABLE)


def peer_links(home: CoordinatorHome, topics: Topics) -> list[LinkSettings]:
    """Settings of the running coordinator's links to its peers' brokers.

    Raises:
      ConfigError: If a folder in `peers` is damaged, or there are too many.
    """
    # In order, since the number of a link says which broker gossip came by.
    folders = sorted(path for path in home.peers.glob("*") if path.is_dir())
    if len(folders) > PEERS_MAX:
        raise ConfigError(f"more than {PEERS_MAX}", file=str(home.peers))
    return [_link(home, topics, folder) for folder in folders]


def _link(home: CoordinatorHome, topics: Topics, folder: Path) -> LinkSettings:
    file = folder / "address"
    content = read_configured(file, _FILE_BYTES_MAX)
    if content is None:
        raise ConfigError("missing; run init --peer again", file=str(file))
    broker = _broker(content.decode(errors="replace"))
    if broker is None:
        raise ConfigError("expected mqtts://HOST:PORT", file=str(file))
    certificate = folder / "certificate.pem"
    return LinkSettings(
        host=broker.host,
        port=broker.port,
        client_id=home.name,
        tls=TlsFiles(folder / "authority.pem", certificate, home.peer_key),
        receive_maximum=512,
        session_expiry_s=SESSION_S,
        subscriptions=topics.peer_filters(home.name),
        backoff=BackoffPolicy(first_s=0.25, most_s=15.0),
        renewal=renewal_topics(topics, home.name),
    )

"""Invitations to other brokers: what they grant, and which are refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from starling.broker.acl import acl_text
from starling.broker.broker_settings import BrokerSettings
from starling.broker.link_events import TlsFiles
from starling.broker.runtime.broker_home import BrokerHome
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.setup.genesis_setup import identify
from starling.coordinator.runtime.setup.peer_invitations import (
    Invitation,
    PeerBroker,
    invite,
    keep_peer,
    parse_peer,
    peer_links,
    read_invitation,
)
from starling.protocol.errors import ConfigError
from starling.protocol.wire.topics import Topics

FLEET = "meadow"
BROKER = PeerBroker("west.example.org", 8883)


@pytest.fixture
def home(tmp_path: Path) -> CoordinatorHome:
    return CoordinatorHome(tmp_path / "east")


@pytest.fixture
def invitation(tmp_path: Path, home: CoordinatorHome) -> Invitation:
    west = BrokerHome(tmp_path / "west")
    try:
        west.prepare(BrokerSettings(FLEET, "127.0.0.1", 18883))
    except ConfigError as error:
        pytest.skip(str(error))
    return invite(west, identify(home, "east"))


def test_invited_coordinator_may_read_gossip_and_nothing_else(
    tmp_path: Path, home: CoordinatorHome, invitation: Invitation
) -> None:
    assert invitation.user == home.name
    access = (tmp_path / "west" / "access").read_text().splitlines()
    at = access.index(f"user {home.name}")
    heard = [f"topic read {each}" for each in Topics(FLEET).peer_filters(home.name)]
    assert access[at + 1 :] == heard


def test_access_of_a_coordinator_that_was_also_invited_stays_whole() -> None:
    topics = Topics(FLEET)
    assert acl_text(topics, ["c1"], ["c1"]) == acl_text(topics, ["c1"])


def test_invitation_kept_gives_a_link_to_that_broker(
    tmp_path: Path, home: CoordinatorHome, invitation: Invitation
) -> None:
    file = tmp_path / "invitation"
    file.write_text(invitation.to_json())
    keep_peer(home, FLEET, BROKER, read_invitation(file))
    keep_peer(home, FLEET, BROKER, read_invitation(file))
    (link,) = peer_links(home, Topics(FLEET))
    assert (link.host, link.port, link.will) == (BROKER.host, BROKER.port, None)
    assert link.subscriptions == Topics(FLEET).peer_filters(home.name)
    assert isinstance(link.tls, TlsFiles)
    assert link.tls.authority.read_text() == invitation.authority
    assert link.tls.certificate.read_text() == invitation.certificate
    assert link.tls.key.stat().st_mode & 0o077 == 0


def test_no_peers_no_links(home: CoordinatorHome) -> None:
    assert peer_links(home, Topics(FLEET)) == []


@pytest.mark.parametrize("change", [{"user": "somebody"}, {"fleet": "garden"}])
def test_invitation_of_another_is_refused(
    home: CoordinatorHome, invitation: Invitation, change: dict[str, str]
) -> None:
    with pytest.raises(ConfigError, match="the invitation is for"):
        keep_peer(home, FLEET, BROKER, replace(invitation, **change))


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", json.dumps(dict.fromkeys(Invitation.__dataclass_fields__, 1))],
    ids=["empty", "list", "nothing", "numbers"],
)
def test_invitation_of_nonsense_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "file").write_text(content)
    with pytest.raises(ConfigError, match="no invitation"):
        read_invitation(tmp_path / "file")


def test_peer_is_read_with_its_port() -> None:
    found = parse_peer("mqtts://west.example.org:8883=folder/a=b")
    assert found == (BROKER, Path("folder/a=b"))


@pytest.mark.parametrize(
    "text",
    [
        "mqtts://west:8883",
        "mqtt://west:8883=file",
        "mqtts://west=file",
        "mqtts://west:0=file",
        "mqtts://west:65536=file",
        "mqtts://we/st:8883=file",
        "mqtts://west:8883=",
        "",
    ],
)
def test_peer_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--peer"):
        parse_peer(text)


def test_damaged_address_is_named(home: CoordinatorHome) -> None:
    folder = home.peers / "west"
    folder.mkdir(parents=True)
    (folder / "address").write_text("http://west")
    with pytest.raises(ConfigError, match="address"):
        peer_links(home, Topics(FLEET))


def test_peer_that_a_power_cut_left_without_its_address_is_to_be_invited_again(
    home: CoordinatorHome,
) -> None:
    folder = home.peers / "west"
    folder.mkdir(parents=True)
    (folder / "authority.pem").write_text("")

    with pytest.raises(ConfigError, match="missing; run init --peer again") as caught:
        peer_links(home, Topics(FLEET))

    assert str(folder / "address") in str(caught.value)

"""Links to peers' brokers: what is said of them."""

import logging
from pathlib import Path
from typing import cast

import pytest

from starling.broker.link_events import (
    LinkConnected,
    LinkDisconnected,
    LinkEvent,
    LinkSettings,
    ServerTls,
)
from starling.coordinator.runtime.environment import Bus
from starling.coordinator.runtime.messaging import peer_brokers
from starling.coordinator.runtime.messaging.peer_brokers import (
    PeerBrokerEvent,
    PeerBrokers,
)
from starling.protocol.ids import DeviceId
from starling.protocol.wire.topics import Topics

AWAY = LinkDisconnected("cannot connect: refused", 1.0)


def test_broker_that_stays_away_is_warned_of_once(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG, peer_brokers.log.name)
    settings = [
        LinkSettings(host, 1, "c", tls=ServerTls(tmp_path / "a.pem"))
        for host in ("south", "east")
    ]
    brokers = PeerBrokers(
        settings, lambda _settings, _put: cast("Bus", None), lambda _: None
    )

    def happens(number: int, event: LinkEvent) -> None:
        item = PeerBrokerEvent(number, event)
        assert brokers.take(item, Topics("meadow"), DeviceId(b"me")) is None

    for event in (AWAY, AWAY, LinkConnected(100, False, 0), AWAY):
        happens(0, event)
    happens(1, AWAY)

    warned = [
        row.getMessage() for row in caplog.records if row.levelno == logging.WARNING
    ]
    assert warned == [
        "broker at south:1: cannot connect: refused",
        "broker at south:1: cannot connect: refused",
        "broker at east:1: cannot connect: refused",
    ]
    assert brokers.conditions[0] == "south:1 disconnected: cannot connect: refused"

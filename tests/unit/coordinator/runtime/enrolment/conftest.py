"""A registrar's handler, and one of renewals."""

from pathlib import Path

import pytest

from starling.broker.broker_settings import BrokerSettings
from starling.broker.runtime.broker_home import BrokerHome
from tests.unit.coordinator.runtime.enrolment.registrar_world import World
from tests.unit.coordinator.runtime.enrolment.renewal_office import (
    DEVICE,
    Office,
    enrolled,
)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def office(fake_mosquitto: Path, tmp_path: Path) -> Office:
    broker = BrokerHome(tmp_path / "broker")
    broker.prepare(BrokerSettings("meadow", coordinators=("c1",), peers=("p1",)))
    return Office(broker, {DEVICE: enrolled()})

"""The registrar beside a coordinator: what is wrong with it ends nothing else."""

import logging
from pathlib import Path

import pytest

from starling.coordinator.cli.self_check import certificate_checks
from starling.coordinator.config import CoordinatorConfig
from starling.coordinator.runtime.enrolment.registrar_threads import registrar_beside
from starling.coordinator.runtime.home import CoordinatorHome
from starling.protocol.schema.toml_settings import sample


@pytest.fixture
def home(tmp_path: Path) -> CoordinatorHome:
    """A coordinator's folder beside a broker's whose settings are damaged."""
    broker = tmp_path / "broker"
    broker.mkdir()
    (broker / "broker.json").write_text('{"fleet": "gar')
    text = sample(CoordinatorConfig, {"broker.home": str(broker)})
    (tmp_path / "coordinator.toml").write_text(text)
    return CoordinatorHome(tmp_path)


def test_damaged_broker_keeps_no_coordinator_from_its_work(
    home: CoordinatorHome, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)

    with registrar_beside(home):
        pass

    assert "newcomers are not answered from here" in caplog.text
    assert "broker.json: damaged" in caplog.text


def test_damaged_broker_is_a_row_of_the_check(home: CoordinatorHome) -> None:
    row = certificate_checks(home, 0.0)[-1]

    assert (row.name, row.verdict.value) == ("tls.renewals", "fail")
    assert "broker.json: damaged" in row.found
    assert "starling broker check" in row.fix

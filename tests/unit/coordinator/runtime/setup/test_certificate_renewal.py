"""A coordinator's certificate is renewed at half its life, where that can be done."""

import logging
import time
from pathlib import Path

import pytest

from starling.broker.broker_settings import BrokerSettings
from starling.broker.health_checks import Verdict
from starling.broker.runtime.broker_home import BrokerHome
from starling.broker.runtime.certificate_authority import certified_key
from starling.coordinator.cli.self_check import certificate_checks
from starling.coordinator.config import FILE, CoordinatorConfig
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.setup.certificate_renewal import renew_certificate
from starling.coordinator.runtime.setup.genesis_setup import GenesisOptions, found
from starling.protocol.errors import ConfigError
from starling.protocol.schema.toml_settings import sample

DAY_S = 86_400.0


@pytest.fixture
def home(tmp_path: Path) -> CoordinatorHome:
    broker = BrokerHome(tmp_path / "broker")
    try:
        broker.prepare(BrokerSettings("meadow", "127.0.0.1", 18883))
    except ConfigError as error:
        pytest.skip(str(error))
    made = CoordinatorHome(tmp_path / "c")
    found(made, GenesisOptions("meadow", broker.path, "", 0, 10))
    return made


def after(days: float) -> float:
    return time.time() + days * DAY_S


@pytest.mark.parametrize(
    ("days", "renewed"), [(0, False), (400, False), (420, True), (820, True)]
)
def test_certificate_is_renewed_at_half_its_life_for_the_same_key(
    home: CoordinatorHome, days: int, renewed: bool
) -> None:
    path = home.tls_files().certificate
    before, key = path.read_bytes(), certified_key(path)

    assert renew_certificate(home, after(days)) is renewed

    assert (path.read_bytes() != before) is renewed
    assert certified_key(path) == key


def test_certificate_that_ended_is_renewed_as_well(home: CoordinatorHome) -> None:
    assert renew_certificate(home, after(900))


@pytest.mark.parametrize(("days", "warnings"), [(420, 0), (820, 1)])
def test_without_the_authority_s_key_nothing_is_done_and_the_end_is_told(
    home: CoordinatorHome,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    days: int,
    warnings: int,
) -> None:
    BrokerHome(tmp_path / "broker").certificates.authority_key.rename(tmp_path / "safe")
    before = home.tls_files().certificate.read_bytes()

    with caplog.at_level(logging.WARNING):
        assert not renew_certificate(home, after(days))

    assert home.tls_files().certificate.read_bytes() == before
    assert len(caplog.records) == warnings
    assert all("authority.key is not here" in text for text in caplog.messages)


@pytest.mark.parametrize(("days", "warnings"), [(420, 0), (820, 1)])
def test_coordinator_of_a_broker_elsewhere_is_told_to_join_again(
    home: CoordinatorHome, caplog: pytest.LogCaptureFixture, days: int, warnings: int
) -> None:
    (home.path / FILE).write_text(sample(CoordinatorConfig, {}))

    with caplog.at_level(logging.WARNING):
        assert not renew_certificate(home, after(days))

    assert ["init --token" in text for text in caplog.messages] == [True] * warnings


@pytest.mark.parametrize("content", [None, b"no key"])
def test_authority_that_cannot_be_used_is_told_and_keeps_nobody_from_starting(
    home: CoordinatorHome,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    content: bytes | None,
) -> None:
    key = BrokerHome(tmp_path / "broker").certificates.authority_key
    if content is None:
        key.chmod(0o644)
    else:
        key.write_bytes(content)
    before = home.tls_files().certificate.read_bytes()

    with caplog.at_level(logging.WARNING):
        assert not renew_certificate(home, after(420))

    assert home.tls_files().certificate.read_bytes() == before
    (told,) = caplog.messages
    assert "not renewed" in told
    assert str(key) in told


def test_certificate_that_is_damaged_is_named(home: CoordinatorHome) -> None:
    path = home.tls_files().certificate
    path.write_bytes(b"no certificate")

    with pytest.raises(ConfigError, match=path.name):
        renew_certificate(home, after(0))


@pytest.mark.parametrize(
    ("days", "verdict", "said"),
    [
        (400, Verdict.OK, "ends in 425 days"),
        (820, Verdict.WARN, "ends in 5 days"),
        (900, Verdict.FAIL, "ended 75 days ago"),
    ],
)
def test_check_says_how_long_the_certificate_lasts(
    home: CoordinatorHome, days: int, verdict: Verdict, said: str
) -> None:
    peer = home.peers / "south-8883"
    peer.mkdir(parents=True)
    (peer / "certificate.pem").write_bytes(home.tls_files().certificate.read_bytes())

    rows = {row.name: row for row in certificate_checks(home, after(days))}

    for name in ("tls.expiry", "tls.expiry-south-8883"):
        assert (rows[name].verdict, rows[name].found) == (verdict, said)
    assert rows["tls.authority-expiry"].verdict is Verdict.OK

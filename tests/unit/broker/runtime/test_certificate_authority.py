"""Certificates, keys written without `cryptography`, and a broker's folder."""

from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from starling.broker.runtime.broker_home import BrokerHome, BrokerSettings
from starling.broker.runtime.certificate_authority import (
    CertificateAuthority,
    certified_hosts,
    days_left,
    load_certificate,
)
from starling.broker.runtime.tls_key import private_key_pem, write_tls_key
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.errors import ConfigError, StorageError

SEED = bytes(range(32))
PUBLIC_KEY = SigningKey(SEED).public


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority.create(tmp_path / "ca.key", tmp_path / "ca.pem", "test")


def test_private_key_pem_is_read_by_another_library() -> None:
    key = serialization.load_pem_private_key(private_key_pem(SEED), None)

    assert isinstance(key, Ed25519PrivateKey)
    assert key.private_bytes_raw() == SEED
    assert key.public_key().public_bytes_raw() == PUBLIC_KEY


def test_tls_key_file_is_private_and_its_public_key_is_returned(tmp_path: Path) -> None:
    assert write_tls_key(tmp_path / "k", SEED) == PUBLIC_KEY
    assert (tmp_path / "k").stat().st_mode & 0o777 == 0o600


def test_certificate_of_a_board_names_it_and_holds_for_a_clock_at_1970(
    tmp_path: Path, authority: CertificateAuthority
) -> None:
    issued = x509.load_pem_x509_certificate(authority.issue("ann", PUBLIC_KEY, 10))

    issued.verify_directly_issued_by(load_certificate(tmp_path / "ca.pem"))
    assert issued.subject.rfc4514_string() == "CN=ann"
    assert issued.not_valid_before_utc.timestamp() == 0
    key = issued.public_key()
    assert key.public_bytes_raw() == PUBLIC_KEY  # type: ignore[union-attr]  # any kind


@pytest.mark.parametrize("days", [10, -1])
def test_days_left_of_a_certificate_are_those_it_was_issued_for(
    tmp_path: Path, authority: CertificateAuthority, days: int
) -> None:
    (tmp_path / "c").write_bytes(authority.issue("ann", PUBLIC_KEY, days))

    assert days_left(tmp_path / "c") == pytest.approx(days, abs=0.01)


@pytest.mark.parametrize(
    ("user", "key"),
    [("a b", PUBLIC_KEY), ("", PUBLIC_KEY), ("ann", b""), ("ann", bytes(33))],
    ids=["blank", "empty", "no-key", "long-key"],
)
def test_issue_for_an_impossible_name_or_key_is_refused(
    authority: CertificateAuthority, user: str, key: bytes
) -> None:
    with pytest.raises(ConfigError):
        authority.issue(user, key)


def test_authority_reopened_issues_under_the_same_certificate(
    tmp_path: Path, authority: CertificateAuthority
) -> None:
    reopened = CertificateAuthority.open(tmp_path / "ca.key", tmp_path / "ca.pem")

    issued = x509.load_pem_x509_certificate(reopened.issue("ann", PUBLIC_KEY))
    issued.verify_directly_issued_by(load_certificate(tmp_path / "ca.pem"))


def test_authority_with_a_key_that_others_can_read_is_refused(
    tmp_path: Path, authority: CertificateAuthority
) -> None:
    (tmp_path / "ca.key").chmod(0o644)

    with pytest.raises(ConfigError, match="chmod 600"):
        CertificateAuthority.open(tmp_path / "ca.key", tmp_path / "ca.pem")


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("ca.key", b"garbage", "not a PEM key"),
        ("ca.pem", b"garbage", "not a PEM certificate"),
        ("ca.key", private_key_pem(SEED), "belongs to another key"),
    ],
    ids=["key", "certificate", "pair"],
)
def test_authority_with_damaged_files_is_refused(
    tmp_path: Path,
    authority: CertificateAuthority,
    name: str,
    content: bytes,
    error: str,
) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(ConfigError, match=error):
        CertificateAuthority.open(tmp_path / "ca.key", tmp_path / "ca.pem")


def test_authority_that_is_missing_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        CertificateAuthority.open(tmp_path / "ca.key", tmp_path / "ca.pem")


@pytest.fixture
def fake_mosquitto(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that only tells a version, so that these tests need no broker."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "mosquitto"
    program.write_text("#!/bin/sh\necho 'mosquitto version 2.0.11'\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin")
    return program


SETTINGS = BrokerSettings("garden", hosts=("broker.example.org", "192.0.2.7"))


@pytest.mark.usefixtures("fake_mosquitto")
def test_home_prepared_twice_keeps_keys_and_certificates(tmp_path: Path) -> None:
    home = BrokerHome(tmp_path / "home")
    home.prepare(SETTINGS)
    before = {file: file.read_bytes() for file in home.path.iterdir()}

    home.prepare(SETTINGS)

    assert {file: file.read_bytes() for file in home.path.iterdir()} == before
    assert home.settings() == SETTINGS


@pytest.mark.usefixtures("fake_mosquitto")
def test_home_with_other_hosts_gets_a_new_server_certificate_only(
    tmp_path: Path,
) -> None:
    home = BrokerHome(tmp_path / "home")
    home.prepare(SETTINGS)
    authority = home.authority_certificate.read_bytes()

    home.prepare(replace(SETTINGS, hosts=("other.example.org",)))

    hosts = ("127.0.0.1", "localhost", "other.example.org")
    assert certified_hosts(home.server_certificate) == hosts
    assert home.authority_certificate.read_bytes() == authority


@pytest.mark.usefixtures("fake_mosquitto")
def test_home_admits_a_coordinator_once(tmp_path: Path) -> None:
    home = BrokerHome(tmp_path / "home")
    home.prepare(SETTINGS)

    home.admit_coordinator("c2")
    home.admit_coordinator("c1")
    home.admit_coordinator("c2")

    assert home.require_settings().coordinators == ("c1", "c2")
    assert (home.path / "access").read_text().count("user c2\n") == 1


@pytest.mark.usefixtures("fake_mosquitto")
@pytest.mark.parametrize(
    ("settings", "match"),
    [
        (BrokerSettings("No Good"), "fleet: fleet name"),
        (BrokerSettings("garden", coordinators=("no good",)), "user name"),
    ],
    ids=["fleet", "coordinator"],
)
def test_home_for_impossible_settings_is_refused_before_anything_is_written(
    tmp_path: Path, settings: BrokerSettings, match: str
) -> None:
    home = BrokerHome(tmp_path / "home")

    with pytest.raises(ConfigError, match=match):
        home.prepare(settings)
    assert not home.path.exists()


def test_home_that_was_not_made_says_which_command_makes_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="starling broker init"):
        BrokerHome(tmp_path).require_settings()


@pytest.mark.parametrize("content", ["", "[]", "{}", "null"])
def test_home_with_damaged_settings_says_so(tmp_path: Path, content: str) -> None:
    (tmp_path / "broker.json").write_text(content)

    with pytest.raises(ConfigError, match=r"broker\.json: damaged"):
        BrokerHome(tmp_path).settings()

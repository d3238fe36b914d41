"""Certificates, and keys written without `cryptography`."""

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from starling.broker.runtime.certificate_authority import (
    CertificateAuthority,
    days_left,
    load_certificate,
)
from starling.broker.runtime.tls_key import private_key_pem, write_tls_key
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.errors import ConfigError, StorageError

SEED = bytes(range(32))
PUBLIC_KEY = SigningKey(SEED).public

LOCKED = Ed25519PrivateKey.from_private_bytes(SEED).private_bytes(
    serialization.Encoding.PEM,
    serialization.PrivateFormat.PKCS8,
    serialization.BestAvailableEncryption(b"password"),
)


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
        ("ca.key", LOCKED, "not a PEM key without password"),
        ("ca.key", b"x" * 20_000, "not a PEM key"),
        ("ca.pem", b"x" * 20_000, "not a PEM certificate"),
    ],
    ids=["key", "certificate", "pair", "locked", "long-key", "long-certificate"],
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


def test_authority_of_a_key_alone_vouches_for_what_it_issued_before(
    tmp_path: Path, authority: CertificateAuthority
) -> None:
    issued = x509.load_pem_x509_certificate(authority.issue("ann", PUBLIC_KEY))
    (tmp_path / "ca.pem").unlink()

    CertificateAuthority.create(tmp_path / "ca.key", tmp_path / "ca.pem", "test")

    issued.verify_directly_issued_by(load_certificate(tmp_path / "ca.pem"))

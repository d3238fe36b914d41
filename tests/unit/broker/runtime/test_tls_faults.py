"""An ended certificate is named as what it is, whatever TLS says."""

import time
from pathlib import Path

import pytest

from starling.broker.link_events import TlsFiles
from starling.broker.runtime.certificate_authority import CertificateAuthority
from starling.broker.runtime.tls_faults import ended_certificate
from starling.protocol.crypto.keys import SigningKey

DAY_S = 86_400.0


@pytest.fixture
def files(tmp_path: Path) -> TlsFiles:
    """Of a client, issued today."""
    made = TlsFiles(tmp_path / "ca.pem", tmp_path / "c.pem", tmp_path / "c.key")
    authority = CertificateAuthority.create(tmp_path / "ca.key", made.authority, "test")
    made.certificate.write_bytes(authority.issue("ann", SigningKey(bytes(32)).public))
    return made


@pytest.mark.parametrize("days", [0, 400, 820])
def test_certificate_that_holds_is_not_blamed(files: TlsFiles, days: int) -> None:
    now_s = time.time() + days * DAY_S

    assert ended_certificate(files, "connection lost", now_s) == ""


def test_own_certificate_after_900_days_is_named(files: TlsFiles) -> None:
    found = ended_certificate(files, "connection lost", time.time() + 900 * DAY_S)

    assert found == f"our certificate ended 75 days ago: {files.certificate}"


def test_authority_after_its_twenty_years_is_named(files: TlsFiles) -> None:
    files.certificate.unlink()

    found = ended_certificate(files, "connection lost", time.time() + 21 * 365 * DAY_S)

    assert found.startswith("the broker's authority ended 365 days ago")


def test_server_s_certificate_is_named_from_what_tls_says(files: TlsFiles) -> None:
    said = "cannot connect: certificate verify failed: certificate has expired"

    found = ended_certificate(files, said, time.time())

    assert "starling broker run renews it" in found


def test_link_without_tls_has_no_certificate() -> None:
    assert ended_certificate(None, "certificate has expired", 0.0) == ""

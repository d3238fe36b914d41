"""A certificate is taken by its fingerprint, and by nothing else."""

from pathlib import Path

import pytest

from starling.broker.runtime.certificate_authority import CertificateAuthority
from starling.broker.runtime.mosquitto_process import free_port
from starling.broker.runtime.pinned_authority import fetch_authority, fingerprint
from starling.protocol.errors import ConfigError, TransportError


def test_fingerprint_is_of_the_certificate_and_not_of_its_file(tmp_path: Path) -> None:
    files = tmp_path / "key", tmp_path / "pem"
    CertificateAuthority.create(*files, "starling garden")
    before = fingerprint(files[1])
    files[1].write_bytes(files[1].read_bytes() + b"\n\n")

    assert fingerprint(files[1]) == before
    assert len(before) == 32


def test_file_that_is_no_certificate_is_named(tmp_path: Path) -> None:
    file = tmp_path / "authority.pem"
    file.write_text("nothing")

    with pytest.raises(ConfigError, match=r"authority\.pem"):
        fingerprint(file)


def test_nobody_who_answers_is_weather() -> None:
    port = free_port()

    with pytest.raises(TransportError, match=str(port)):
        fetch_authority("127.0.0.1", port, bytes(32))

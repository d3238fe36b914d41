"""Token and TLS of a page for people."""

import argparse
import datetime as dt
import ipaddress
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from starling.protocol.errors import ConfigError, FederationError
from starling.service.web_access import WebAccess, add_web_access, web_access

LOCAL = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))


def certified(folder: Path) -> WebAccess:
    """A key with mode 0600 and its self-signed certificate for this machine."""
    folder.mkdir(exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([LOCAL]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    files = WebAccess(None, folder / "cert.pem", folder / "key.pem")
    assert files.certificate is not None
    assert files.key is not None
    files.certificate.write_bytes(made.public_bytes(pem))
    files.key.touch(0o600)
    files.key.write_bytes(
        key.private_bytes(
            pem,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files


def parsed(*words: str) -> WebAccess:
    parser = argparse.ArgumentParser()
    add_web_access(parser)
    return web_access(parser.parse_args(words))


def test_words_say_what_was_given(tmp_path: Path) -> None:
    access = WebAccess(tmp_path / "t", tmp_path / "c", tmp_path / "k")

    assert parsed(*access.words()) == access
    assert parsed() == WebAccess()
    assert WebAccess().words() == []
    assert WebAccess().tls() is None


def test_tls_is_1_3_alone(tmp_path: Path) -> None:
    context = certified(tmp_path).tls()

    assert context is not None
    assert context.minimum_version == ssl.TLSVersion.TLSv1_3


@pytest.mark.parametrize(("flag", "missing"), [("cert", "key"), ("key", "cert")])
def test_half_of_a_pair_is_refused(flag: str, missing: str) -> None:
    with pytest.raises(ConfigError, match=f"give --web-{missing} FILE"):
        parsed(f"--web-{flag}", "file")


def test_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    mine, other = certified(tmp_path / "a"), certified(tmp_path / "b")

    with pytest.raises(ConfigError, match=r"cert\.pem: cannot be used with .*key\.pem"):
        WebAccess(None, mine.certificate, other.key).tls()


def test_key_that_others_read_is_refused(tmp_path: Path) -> None:
    access = certified(tmp_path)
    assert access.key is not None
    access.key.chmod(0o644)

    with pytest.raises(FederationError, match="chmod 600"):
        access.tls()


@pytest.mark.parametrize("content", [None, b"", b"no PEM"])
def test_certificate_that_is_none_is_named(
    tmp_path: Path, content: bytes | None
) -> None:
    access = certified(tmp_path)
    assert access.certificate is not None
    access.certificate.unlink()
    if content is not None:
        access.certificate.write_bytes(content)

    with pytest.raises(ConfigError, match=r"cert\.pem: cannot be used"):
        access.tls()

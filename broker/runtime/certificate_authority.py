"""The fleet's small certificate authority; the only user of `cryptography`.

It signs the broker's certificate and those of boards and coordinators. A certificate's
common name is the broker's user name, hence the device id. All certificates are valid
from 1970 on, since a board without a clock battery may start there; only their end
counts, and freshness never depends on the clock.
"""

import datetime as dt
import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from starling.broker.acl import check_user
from starling.broker.certificate_reader import CERTIFICATE_DAYS
from starling.broker.runtime.tls_key import private_key_pem
from starling.durable.files import (
    PRIVATE_MODE,
    is_there,
    read_limited,
    require_private,
    write_atomic,
)
from starling.protocol.errors import ConfigError

AUTHORITY_DAYS = 20 * 365
PEM_BYTES_MAX = 16_384
SEED_BYTES = 32
PUBLIC_MODE = 0o644
_VALID_FROM = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class CertificateAuthority:
    """Signs certificates; made by `open` or, for a new fleet, by `create`."""

    def __init__(self, key: Ed25519PrivateKey, certificate: x509.Certificate) -> None:
        """Takes over a key pair."""
        self._key = key
        self._certificate = certificate

    @classmethod
    def create(
        cls, key_path: Path, certificate_path: Path, name: str
    ) -> "CertificateAuthority":
        """Makes a new authority and writes it; keeps a key that is there.

        Args:
          key_path: Becomes the secret key, for its owner alone.
          certificate_path: Becomes the certificate that every client pins.
          name: Shown in certificates.

        Raises:
          ConfigError: If there is a key that `open` would refuse.
          StorageError: If the disk refuses.
        """
        # A key that is there is kept: certificates that it signed stay good under its
        # new certificate.
        if not is_there(key_path):
            seed = os.urandom(SEED_BYTES)
            write_atomic(key_path, private_key_pem(seed), PRIVATE_MODE)
        key = _read_key(key_path)
        subject = _name(name)
        certificate = (
            _builder(subject, subject, key.public_key(), AUTHORITY_DAYS)
            # No authority below it: a stolen client certificate cannot sign others.
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .sign(key, None)
        )
        write_atomic(certificate_path, _pem(certificate), PUBLIC_MODE)
        return cls(key, certificate)

    @classmethod
    def open(cls, key_path: Path, certificate_path: Path) -> "CertificateAuthority":
        """Opens an authority that exists.

        Raises:
          ConfigError: If the key is readable by others, or either file is not PEM of an
            Ed25519 pair.
          StorageError: If a file is missing.
        """
        key = _read_key(key_path)
        certificate = load_certificate(certificate_path)
        # Certificates that it signs would be refused by every client, which pins the
        # other key.
        if certificate.public_key() != key.public_key():
            raise ConfigError("belongs to another key", file=str(certificate_path))
        return cls(key, certificate)

    def issue(
        self, user: str, public_key: bytes, days: int = CERTIFICATE_DAYS
    ) -> bytes:
        """Certifies a client's TLS key.

        Args:
          user: The broker's user name: a device's or coordinator's id.
          public_key: (32,) bytes, Ed25519.
          days: From now.

        Returns:
          PEM of the certificate, which is not secret.

        Raises:
          ConfigError: If the name is not 1 to 64 of a-z, 0-9 and '-', or the key is not
            32 bytes.
        """
        check_user(user)
        key = _public_key(public_key)
        builder = self._leaf(user, key, days, ExtendedKeyUsageOID.CLIENT_AUTH)
        return _pem(builder.sign(self._key, None))

    def issue_server(
        self, hosts: Sequence[str], public_key: bytes, days: int = CERTIFICATE_DAYS
    ) -> bytes:
        """Certifies the broker's TLS key.

        Args:
          hosts: Names and addresses under which clients reach it; at least one.
          public_key: (32,) bytes, Ed25519.
          days: From now.
        """
        key = _public_key(public_key)
        # Clients look for the host here; the common name is for people (RFC 6125,
        # section 6.4.4).
        names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
        builder = self._leaf(hosts[0], key, days, ExtendedKeyUsageOID.SERVER_AUTH)
        return _pem(builder.add_extension(names, critical=False).sign(self._key, None))

    def _leaf(
        self,
        name: str,
        key: Ed25519PublicKey,
        days: int,
        purpose: x509.ObjectIdentifier,
    ) -> x509.CertificateBuilder:
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(
            self._key.public_key()
        )
        return (
            _builder(self._certificate.subject, _name(name), key, days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(issuer, critical=False)
        )


def _read_key(path: Path) -> Ed25519PrivateKey:
    require_private(path)
    try:
        secret = read_limited(path, PEM_BYTES_MAX)
        key = serialization.load_pem_private_key(secret, None)
    # Also too long a file; and one that a password locks is a TypeError.
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError("not a PEM key without password", file=str(path)) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError("not an Ed25519 key", file=str(path))
    return key


def load_certificate(path: Path) -> x509.Certificate:
    """Reads one PEM certificate.

    Raises:
      ConfigError: If it is none.
      StorageError: If the file is missing.
    """
    try:
        return x509.load_pem_x509_certificate(read_limited(path, PEM_BYTES_MAX))
    except ValueError as error:
        raise ConfigError("not a PEM certificate", file=str(path)) from error


def days_left(path: Path) -> float:
    """Days until a certificate ends, below 0 if it has; raises `load_certificate`'s."""
    left = load_certificate(path).not_valid_after_utc - _now()
    return left / dt.timedelta(days=1)


def certified_key(path: Path) -> bytes:
    """The public key that a certificate is for: (32,) bytes, Ed25519.

    Raises:
      ConfigError: If it is another kind of key, and as `load_certificate`.
      StorageError: If the file is missing.
    """
    key = load_certificate(path).public_key()
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError("not of an Ed25519 key", file=str(path))
    return key.public_bytes_raw()


def certified_hosts(path: Path) -> tuple[str, ...]:
    """Names and addresses in the broker's certificate; none if it is another's.

    Raises as `load_certificate`.
    """
    try:
        names = load_certificate(path).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(name.value) for name in names.value)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _builder(
    issuer: x509.Name, subject: x509.Name, key: Ed25519PublicKey, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_VALID_FROM)
        .not_valid_after(_now() + dt.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _public_key(public_key: bytes) -> Ed25519PublicKey:
    try:
        return Ed25519PublicKey.from_public_bytes(public_key)
    except ValueError as error:
        raise ConfigError("a TLS key must be 32 bytes of Ed25519") from error


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)

"""The certificate of a broker's authority, fetched by its fingerprint.

A newcomer knows the fingerprint alone. It takes the certificates that the broker shows
without believing any of them, and keeps the one with that fingerprint: who stands
between can show it too, but then has no key for a certificate that it signed. Nothing
is sent over this first connection.

Source: RFC 8446 section 4.4.2 (the chain that a server sends); the same two steps as
kubeadm's token discovery with a hash of the authority.
"""

import hashlib
import hmac
import socket
import ssl
from pathlib import Path
from typing import Any

from starling.broker.runtime.tls.connection_failures import explain_failure
from starling.durable.files import read_limited
from starling.protocol.errors import ConfigError, OperationError, TransportError

TIMEOUT_S = 10.0
_PEM_BYTES_MAX = 1 << 16


def fingerprint(path: Path) -> bytes:
    """SHA-256 of a certificate: (32,) bytes.

    Raises:
      ConfigError: If the file is no certificate.
      StorageError: If it is missing.
    """
    try:
        content = read_limited(path, _PEM_BYTES_MAX)
        certificate = ssl.PEM_cert_to_DER_cert(content.decode().strip())
    except ValueError as error:
        raise ConfigError("not a PEM certificate", file=str(path)) from error
    return hashlib.sha256(certificate).digest()


def fetch_authority(host: str, port: int, expected: bytes) -> str:
    """Takes the authority's certificate from a broker.

    Args:
      host: Name or address of the broker.
      port: Of a listener that asks for no certificate.
      expected: (32,) bytes, the fingerprint.

    Returns:
      PEM of the certificate.

    Raises:
      TransportError: If nobody answers there, or not with TLS.
      OperationError: If the broker does not show that certificate.
    """
    place = f"{host}:{port}"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # What it shows is compared with the fingerprint, and nothing is said to it.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host, port), TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=host) as secure,
        ):
            shown = _shown(secure)
    except (OSError, ValueError) as error:
        texts = filter(None, explain_failure(error, host))
        raise TransportError(f"{place}: {'; '.join(texts)}") from error
    for certificate in shown:
        found = hashlib.sha256(certificate).digest()
        # The chain holds the server's own certificate, too; only the authority's is
        # looked for.
        if hmac.compare_digest(found, expected):
            return ssl.DER_cert_to_PEM_cert(certificate)
    raise OperationError(
        f"{place} is not the broker that the token is of: it shows "
        f"{len(shown)} certificates, none with the token's fingerprint"
    )


def _shown(secure: ssl.SSLSocket) -> list[bytes]:
    """Certificates that the other side sent, as DER."""
    public: Any = getattr(secure, "get_unverified_chain", None)
    if public is not None:
        return [bytes(each) for each in public()]
    # Before Python 3.13 only the socket's inner object has it.
    inner: Any = secure._sslobj  # type: ignore[attr-defined]  # noqa: SLF001 - see above
    return [
        ssl.PEM_cert_to_DER_cert(each.public_bytes())
        for each in inner.get_unverified_chain() or ()
    ]

"""Names a certificate whose end has come, where TLS says less.

A server that refuses a client's certificate under TLS 1.3 does so after the handshake:
the client sees a connection that ends.
"""

from pathlib import Path

from starling.broker.certificate_dates import days_left
from starling.broker.link_events import ServerTls, TlsFiles
from starling.durable.files import read_limited
from starling.protocol.errors import FederationError

_PEM_BYTES_MAX = 1 << 16
_SERVER_ENDED = "certificate has expired"


def ended_certificate(
    files: TlsFiles | ServerTls | None, reason: str, now_s: float
) -> str:
    """The ended certificate that a failed connection is due to.

    Args:
      files: The client's.
      reason: As TLS or MQTT gave it.
      now_s: Unix time.

    Returns:
      Whose certificate ended, and since when; empty if none did.
    """
    if files is None:
        return ""
    looked = [(files.authority, "the broker's authority")]
    if isinstance(files, TlsFiles):
        looked.insert(0, (files.certificate, "our certificate"))
    for path, whose in looked:
        left = _days_left(path, now_s)
        if left is not None and left < 0:
            return f"{whose} ended {-left:.0f} days ago: {path}"
    if _SERVER_ENDED in reason:
        return "the broker's certificate ended; starling broker run renews it"
    return ""


def _days_left(path: Path, now_s: float) -> float | None:
    try:
        return days_left(read_limited(path, _PEM_BYTES_MAX).decode(), now_s)
    except (FederationError, UnicodeDecodeError):
        return None

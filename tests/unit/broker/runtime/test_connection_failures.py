"""What goes wrong on the way to a broker is told in words that name a way out."""

import socket
import ssl

import pytest

from starling.broker.runtime.tls.connection_failures import explain_failure


def tls(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, f"[SSL: {reason}] as OpenSSL puts it (_ssl.c:1006)")
    error.reason = reason
    return error


def untrusted(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed (_ssl.c:1006)")
    error.verify_code, error.verify_message = code, "self-signed certificate"
    return error


@pytest.mark.parametrize(
    ("error", "meaning", "remedy"),
    [
        (socket.gaierror(-2, "Name or service not known"), "no address", "resolv.conf"),
        (ConnectionRefusedError(111, "x"), "Connection refused", "broker run"),
        (TimeoutError("_ssl.c:989: The handshake operation timed out"), "time", "1883"),
        (TimeoutError("timed out"), "no answer in time", "firewall"),
        (ConnectionResetError(104, "Connection reset by peer"), "reset", "broker.port"),
        (tls("WRONG_VERSION_NUMBER"), "does not speak TLS", "broker.port"),
        (tls("UNEXPECTED_EOF_WHILE_READING"), "in the handshake", "broker.port"),
        (tls("TLSV1_ALERT_UNKNOWN_CA"), "certificate: unknown ca", "admit"),
        (tls("SSLV3_ALERT_CERTIFICATE_EXPIRED"), "our certificate has ex", "admit"),
        (tls("OTHER"), "the connection ended", "broker's log"),
        (untrusted(10), "the broker's certificate has expired", "broker run"),
        (untrusted(9), "not valid yet", "clock"),
        (untrusted(62), "h does not stand in", "broker init --host h"),
        (untrusted(18), "not of the authority that is pinned here: self-", "enrol"),
        (OSError(113, "No route to host"), "No route to host", "broker's log"),
    ],
)
def test_failure_is_told_with_its_remedy(
    error: Exception, meaning: str, remedy: str
) -> None:
    found, fix = explain_failure(error, "h")

    assert meaning in found
    assert remedy in fix
    assert "_ssl.c" not in found


def test_what_names_its_remedy_itself_is_told_as_it_is() -> None:
    said = "tls/certificate.pem, or its key: gone; enrol again"

    assert explain_failure(ValueError(said), "h") == (said, "")

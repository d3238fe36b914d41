"""Meaning of a connection to a broker that failed, and its remedy, for people.

What Python and OpenSSL say of it names neither the other side's fault nor the setting
that is to be changed. A text that is not known here is told as it is.

Source: X509_STORE_CTX_get_error(3) for the codes of a certificate that is not taken.
"""

import socket
import ssl

_EXPIRED, _TOO_EARLY, _OTHER_NAME = 10, 9, {62, 64}
_NOT_TLS = "see broker.port, or the token's: 8883 is usual, 1883 is without TLS"
_SEE_LOG = "see the broker's log"
_ADMIT = "have the operator admit the request again, and enrol with that"


def explain_failure(error: Exception, host: str) -> tuple[str, str]:
    """Meaning of a failed attempt to connect, and its remedy.

    Args:
      error: As raised by name resolution, TCP or the TLS handshake.
      host: The name that was asked for.

    Returns:
      Both as texts; the remedy is empty if there is none to name.
    """
    match error:
        case ssl.SSLCertVerificationError():
            found = _explain_verification(error, host)
        case ssl.SSLError():
            found = _explain_handshake(error)
        case socket.gaierror():
            fix = f"see /etc/resolv.conf, and {host!r}: broker.host, or the token's"
            found = f"no address is known: {error.strerror}", fix
        case ConnectionRefusedError():
            fix = "see whether `starling broker run` runs there, with this port"
            found = "Connection refused", fix
        case TimeoutError():
            fix = f"see whether a firewall lets us pass; {_NOT_TLS}"
            found = "no answer in time", fix
        case ConnectionError():
            text = error.strerror or str(error)
            found = f"the connection ended: {text}", f"{_SEE_LOG}; {_NOT_TLS}"
        case OSError():
            found = error.strerror or str(error), _SEE_LOG
        case _:
            found = str(error), ""
    return found


def _explain_handshake(error: ssl.SSLError) -> tuple[str, str]:
    reason = error.reason or ""
    if reason == "WRONG_VERSION_NUMBER":
        return "does not speak TLS", _NOT_TLS
    if reason == "UNEXPECTED_EOF_WHILE_READING":
        return "it ended the connection in the handshake", f"{_SEE_LOG}; {_NOT_TLS}"
    if "CERTIFICATE_EXPIRED" in reason:
        return "the broker says that our certificate has expired", _ADMIT
    if "ALERT" in reason:
        said = reason.rpartition("ALERT_")[2].replace("_", " ").lower()
        return f"the broker refuses our certificate: {said}", _ADMIT
    said = reason.replace("_", " ").lower() or "a fault of TLS"
    return f"the connection ended: {said}", _SEE_LOG


def _explain_verification(
    error: ssl.SSLCertVerificationError, host: str
) -> tuple[str, str]:
    if error.verify_code == _EXPIRED:
        return (
            "the broker's certificate has expired",
            "have its operator start `starling broker run` anew, which renews it",
        )
    if error.verify_code == _TOO_EARLY:
        return "the broker's certificate is not valid yet", "set the clock"
    if error.verify_code in _OTHER_NAME:
        return (
            f"{host} does not stand in the broker's certificate",
            f"have its operator run: starling broker init --host {host}",
        )
    return (
        "the broker's certificate is not of the authority that is pinned here: "
        f"{error.verify_message}",
        "another broker, or a new authority; enrol anew, with its own token",
    )

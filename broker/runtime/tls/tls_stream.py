"""A client's end of a TLS connection to the broker."""

import ssl

from starling.broker.link_events import ServerTls, TlsFiles
from starling.durable.files import refusal

_RECORD_BYTES = 16 * 1024
"""The most that one TLS record carries."""


class TlsStream(ssl.SSLSocket):
    """Reads records whole, and closes itself when the handshake fails.

    paho asks for a packet's first byte, each byte of its length, and the rest: each a
    call that lets go of the interpreter's lock.

    Attributes:
      refused: Alert with which the other side ended it; None if it sent none.
    """

    refused: ssl.SSLError | None = None

    _ahead = b""
    _taken = 0

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """At most `buflen` bytes of what has come."""
        if self._taken == len(self._ahead):
            self._ahead, self._taken = self._record(flags), 0
        start = self._taken
        self._taken = min(start + buflen, len(self._ahead))
        return self._ahead[start : self._taken]

    def _record(self, flags: int) -> bytes:
        try:
            return super().recv(_RECORD_BYTES, flags)
        except ssl.SSLError as error:
            # paho closes on any error and keeps no reason; the alert is why the broker
            # refused us.
            if "ALERT" in (error.reason or ""):
                self.refused = error
            raise

    def pending(self) -> int:
        """Bytes that are here and that no selector can see."""
        return len(self._ahead) - self._taken + super().pending()

    def close(self) -> None:
        """Lets go of everything that was read."""
        # Or `pending` would go on to say that bytes wait at a closed socket.
        self._ahead, self._taken = b"", 0
        super().close()

    def do_handshake(self, block: bool = False) -> None:
        """Shakes hands, or closes."""
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


def client_context(files: TlsFiles | ServerTls) -> ssl.SSLContext:
    """TLS 1.3 as a client, under the authority that is pinned.

    Raises:
      ValueError: Naming the file that cannot be used.
    """
    # This protocol checks host name and chain by default; no system authorities are
    # loaded, so that the pinned one alone counts.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sslsocket_class = TlsStream
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    path = files.authority
    try:
        context.load_verify_locations(path)
        if isinstance(files, TlsFiles):
            path = files.certificate
            context.load_cert_chain(path, files.key)
    except OSError as error:
        # Neither the system nor OpenSSL names the file.
        why = getattr(error, "reason", None) or refusal(error)
        raise ValueError(f"{path}, or its key: {why}; enrol again") from error
    return context

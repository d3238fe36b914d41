"""Requests to a console that runs, by HTTP and byte by byte."""

import http.client
import socket
from contextlib import closing

from tests.unit.console.conftest import RunningConsole

TIMEOUT_S = 180.0


def ask(
    console: RunningConsole,
    path: str,
    method: str = "GET",
    body: bytes | None = None,
    **headers: str,
) -> tuple[int, str, http.client.HTTPResponse]:
    connection = http.client.HTTPConnection("127.0.0.1", console.port, TIMEOUT_S)
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    with closing(connection):
        connection.request(method, path, body, named)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer


def raw(console: RunningConsole, content: bytes) -> bytes:
    """All that comes back until the connection ends."""
    with socket.create_connection(("127.0.0.1", console.port), TIMEOUT_S) as link:
        link.sendall(content)
        link.shutdown(socket.SHUT_WR)
        found = b""
        try:
            while piece := link.recv(65536):
                found += piece
        except ConnectionResetError:
            pass
        return found

"""Server of the console: uvicorn with bounds on what a client can hold.

None of it touches the coordinator, which is another process.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from starling.console.runtime.access import HEAD_BYTES_MAX
from starling.console.runtime.access_rules import AccessRules
from starling.console.runtime.chain_reader import ChainReader
from starling.console.runtime.connection import BoundedProtocol
from starling.console.runtime.status_reader import StatusReader
from starling.console.runtime.web_app import ConsoleApp
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.storage.sqlite_schema import CHAIN_FILE
from starling.durable.files import read_limited, require_private
from starling.protocol.errors import ConfigError
from starling.service.listener import is_loopback
from starling.service.web_access import WebAccess

log = logging.getLogger("starling.console")

KEEP_ALIVE_S = 5
STOP_S = 3
TOKEN_BYTES_MAX = 4096
TOKEN_CHARS_MIN = 16
_STDIN = 0


class _Server(uvicorn.Server):
    """Leaves signals to us, so that SIGTERM is an ordinary end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures none."""
        yield


@dataclass(frozen=True)
class ConsoleSettings:
    """Settings that a console is started with.

    Attributes:
      home: Of the coordinator.
      host: That the operator named, or an address.
      access: Token and TLS.
      until_input_ends: Whether to end with standard input, whose other end a parent
        holds.
    """

    home: Path
    host: str
    access: WebAccess
    until_input_ends: bool = False


def read_token(file: Path) -> bytes:
    """The token of a file.

    Raises:
      ConfigError: If others can read it, or it is too short.
      StorageError: If it cannot be read.
    """
    require_private(file)
    token = read_limited(file, TOKEN_BYTES_MAX).strip()
    if len(token) < TOKEN_CHARS_MIN:
        raise ConfigError(
            f"a token has at least {TOKEN_CHARS_MIN} characters; make one: "
            f"(umask 077; openssl rand -hex 32 > {file})",
            file=str(file),
        )
    return token


def access_rules(
    settings: ConsoleSettings, listener: socket.socket, *, tls: bool
) -> AccessRules:
    """Rules of who may read, said in the log where that is more than this machine.

    Args:
      settings: What the operator gave.
      listener: Bound to its address.
      tls: Whether the console speaks TLS.

    Raises:
      ConfigError, StorageError: About the token's file.
    """
    file = settings.access.token_file
    token = b"" if file is None else read_token(file)
    bound = listener.getsockname()[0]
    # By what the socket is bound to: a name may lead anywhere.
    rules = AccessRules(is_loopback(bound), _names(settings.host), token, tls)
    if not rules.loopback and not token:
        log.warning(
            "listens on %s without a token: everybody who reaches it reads the "
            "console; give --web-token-file FILE, or listen on 127.0.0.1",
            bound,
        )
    elif not rules.loopback and not tls:
        log.warning(
            "listens on %s without TLS: the token can be read on the way; give "
            "--web-cert and --web-key, or put a proxy with TLS before it",
            bound,
        )
    return rules


def serve(
    settings: ConsoleSettings,
    rules: AccessRules,
    listener: socket.socket,
    tls: ssl.SSLContext | None,
) -> None:
    """Serves until SIGTERM or SIGINT.

    Args:
      settings: What to show.
      rules: To whom.
      listener: Listens already.
      tls: How to speak TLS; None for not.
    """
    asyncio.run(_serve(settings, rules, listener, tls))


def _names(host: str) -> frozenset[str]:
    named = {host.lower(), socket.gethostname().lower(), socket.getfqdn().lower()}
    return frozenset(named - {""})


async def _serve(
    settings: ConsoleSettings,
    rules: AccessRules,
    listener: socket.socket,
    tls: ssl.SSLContext | None,
) -> None:
    home = CoordinatorHome(settings.home)
    app = ConsoleApp(
        StatusReader(home.status), ChainReader(home.state / CHAIN_FILE), rules, home
    )
    config = uvicorn.Config(
        app.gate,
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        # Anybody could write another's address there, by which wrong tokens are
        # counted.
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_S,
        h11_max_incomplete_event_size=HEAD_BYTES_MAX,
    )
    # Loaded first: a load at the start of serving would forget our TLS context.
    config.load()
    config.ssl = tls
    # It warns of every malformed request, which is a stranger's to send.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    server = _Server(config)

    def stop() -> None:
        server.should_exit = True
        app.streams.end()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    if settings.until_input_ends:
        loop.add_reader(_STDIN, lambda: None if os.read(_STDIN, 64) else stop())
    app.look()
    watching = loop.create_task(app.watch())
    try:
        await server.serve(sockets=[listener])
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)

"""Files of the enrolment listener in the broker's folder, and what runs from them.

enrolment.conf, .access, .log   as the broker's own
enrolment.port                  where it listens behind its gate
enrolment.users                 the registrar's user name and hashed password
registrar.password              the password, for the registrar alone
"""

import base64
import hashlib
import os
import secrets
import sys
import time
from pathlib import Path

from starling.broker.acl import enrolment_acl_text
from starling.broker.backoff import BackoffPolicy
from starling.broker.broker_settings import (
    LOCAL_HOSTS,
    REGISTRAR,
    BrokerSettings,
)
from starling.broker.link_events import LinkSettings, PasswordLogin, ServerTls
from starling.broker.mosquitto_conf import (
    EnrolmentListenerConfig,
    ServerFiles,
    enrolment_text,
)
from starling.broker.runtime.enrolment_gate import EnrolmentGate
from starling.broker.runtime.mosquitto_process import MosquittoProcess, free_port
from starling.durable.files import (
    PRIVATE_MODE,
    read_if_present,
    require_private,
    write_atomic,
)
from starling.protocol.errors import ConfigError, FederationError
from starling.protocol.wire.topics import Topics
from starling.service.repeated_warnings import RepeatedWarnings

_PUBLIC_MODE = 0o644
_PASSWORD_BYTES_MAX = 256
_PORT_BYTES_MAX = 16
_SALT_BYTES = 12
_ITERATIONS = 101
"""Mosquitto's own number; the password is random, so that there is nothing to guess."""


class EnrolmentFiles:
    """The enrolment listener's files.

    Attributes:
      path: The broker's folder.
    """

    def __init__(self, path: Path) -> None:
        """Names a folder."""
        self.path = path

    def prepare(
        self,
        settings: BrokerSettings,
        server: ServerFiles,
        version: tuple[int, int, int],
        run_as: str | None,
    ) -> None:
        """Writes the files, or brings them up to date.

        Args:
          settings: Of the broker, with an enrolment port.
          server: Its certificates.
          version: Of Mosquitto.
          run_as: User to run as when started by root.

        Raises:
          StorageError: If the disk refuses.
        """
        access, users = self.path / "enrolment.access", self.path / "enrolment.users"
        listener = EnrolmentListenerConfig(
            self._inner_port(),
            ServerFiles(server.authority, server.certificate, server.key, access),
            users,
            run_as,
        )
        # Both or neither: a power cut between the two leaves a pair that does not
        # match, and it is drawn again.
        if not (self._password.exists() and users.exists()):
            password = secrets.token_urlsafe(24)
            write_atomic(self._password, password.encode(), PRIVATE_MODE)
            line = f"{REGISTRAR}:{_hashed(password)}\n"
            write_atomic(users, line.encode(), PRIVATE_MODE)
        text = enrolment_acl_text(Topics(settings.fleet))
        write_atomic(access, text.encode(), PRIVATE_MODE)
        configuration = enrolment_text(listener, version)
        write_atomic(self._configuration, configuration.encode(), _PUBLIC_MODE)

    def process(self, *, log_to_file: bool) -> MosquittoProcess:
        """The listener as a child process, not started yet."""
        return MosquittoProcess(
            self._configuration,
            LOCAL_HOSTS[0],
            self._inner_port(),
            self.path / "enrolment.log" if log_to_file else None,
        )

    def gate(self, settings: BrokerSettings) -> EnrolmentGate:
        """The gate before it, not started yet."""
        return EnrolmentGate(settings.bind, settings.enrol_port, self._inner_port())

    def _inner_port(self) -> int:
        """Port at 127.0.0.1 that was drawn for the listener when it was made."""
        path = self.path / "enrolment.port"
        content = read_if_present(path, _PORT_BYTES_MAX)
        if content is not None and content.strip().isdigit():
            return int(content)
        # Kept in a file, as the registrar finds the listener by it after a restart.
        port = free_port()
        write_atomic(path, b"%d\n" % port, _PUBLIC_MODE)
        return port

    def registrar(self, settings: BrokerSettings, authority: Path) -> LinkSettings:
        """Settings of the link on which newcomers are answered.

        Args:
          settings: Of the broker.
          authority: PEM of its authority.

        Raises:
          ConfigError: If there is no such listener, or its password is not private.
        """
        password = read_if_present(self._password, _PASSWORD_BYTES_MAX)
        if not settings.enrol_port or password is None:
            raise ConfigError(
                "this broker takes no newcomers; run: starling broker init --home "
                f"{self.path} --enrol-port 8884, and start it again",
                file=str(self.path),
            )
        require_private(self._password)
        topics = Topics(settings.fleet)
        return LinkSettings(
            # Behind the gate, which counts it among no strangers.
            host=LOCAL_HOSTS[0],
            port=self._inner_port(),
            # Nobody can take over what nobody can name.
            client_id=f"{REGISTRAR}-{secrets.token_hex(16)}",
            tls=ServerTls(authority),
            login=PasswordLogin(REGISTRAR, password.decode("ascii", "replace")),
            session_expiry_s=0,
            receive_maximum=16,
            subscriptions=(topics.enrolment_hello("+"), topics.enrolment_claim("+")),
            backoff=BackoffPolicy(first_s=0.25, most_s=15.0),
        )

    @property
    def secrets(self) -> tuple[Path, ...]:
        """Files that nobody else may read, as far as there are any."""
        found = (self._password, self.path / "enrolment.users")
        return tuple(path for path in found if path.exists())

    @property
    def _configuration(self) -> Path:
        return self.path / "enrolment.conf"

    @property
    def _password(self) -> Path:
        return self.path / "registrar.password"


class EnrolmentListener:
    """A listener for newcomers, with its gate, that is started again whenever it ends.

    The fleet's own broker goes on meanwhile: whoever brings this one down stops
    enrolments alone.
    """

    def __init__(
        self, process: MosquittoProcess | None, gate: EnrolmentGate | None
    ) -> None:
        """Takes a process and a gate, not started yet; None for no listener."""
        self._process = process
        self._gate = gate
        self._told = RepeatedWarnings()

    def start(self) -> None:
        """Starts it.

        Raises:
          OperationError: If it does not listen.
        """
        if self._process is not None:
            self._process.start()
        if self._gate is not None:
            self._gate.start()

    def keep(self) -> None:
        """Starts it again if it ended; a failure is told, and tried again later."""
        try:
            had_ended = self._start_ended()
        except FederationError as error:
            if self._told.is_new(str(error), time.monotonic()):
                sys.stderr.write(f"warning: the enrolment listener: {error}\n")
            return
        if had_ended:
            self._told.forget()
            sys.stderr.write("warning: the enrolment listener ended; started again\n")

    def _start_ended(self) -> bool:
        """Starts what does not run; False if all of it does."""
        had_ended = False
        # The listener before its gate: a gate without one would take connections that
        # end at once.
        if self._process is not None and self._process.pid is None:
            self._process.start()
            had_ended = True
        if self._gate is not None and not self._gate.is_running:
            self._gate.start()
            had_ended = True
        return had_ended

    def reload(self) -> None:
        """Has it read its certificate again."""
        if self._process is not None:
            self._process.reload()

    def stop(self) -> None:
        """Ends it."""
        try:
            if self._gate is not None:
                # The gate first, so that nobody comes in while the listener ends.
                self._gate.stop()
        finally:
            if self._process is not None:
                self._process.stop()


def _hashed(password: str) -> str:
    """A password as Mosquitto's password file has it: PBKDF2 with SHA-512."""
    salt = os.urandom(_SALT_BYTES)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ITERATIONS)
    shown = [base64.b64encode(part).decode() for part in (salt, digest)]
    return f"$7${_ITERATIONS}${shown[0]}${shown[1]}"

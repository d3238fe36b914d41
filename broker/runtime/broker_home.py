"""A broker's folder: what `starling broker init` makes, and everything else reads.

    broker.json           what the operator asked for
    *.key, *.pem          see `broker.runtime.broker_certificates`
    access, mosquitto.conf, mosquitto.log
    enrolment.*, registrar.password  see `broker.runtime.enrolment_files`, if any
    local.access, local.conf  the operator's own lines, such as a bridge's; if any

Making it again changes only what differs, so that it can be run before every start.
"""

import json
import os
import signal
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import msgspec

from starling.broker.acl import acl_text, check_user
from starling.broker.broker_settings import (
    CHECKER,
    BrokerSettings,
    ascii_host,
    reachable_host,
)
from starling.broker.link_events import LinkSettings
from starling.broker.mosquitto_conf import ListenerConfig, ServerFiles, listener_text
from starling.broker.runtime.broker_certificates import BrokerCertificates
from starling.broker.runtime.certificate_authority import PUBLIC_MODE
from starling.broker.runtime.enrolment_files import EnrolmentFiles
from starling.broker.runtime.mosquitto_process import (
    MosquittoProcess,
    find_mosquitto,
    hang_up,
    mosquitto_version,
)
from starling.durable.files import (
    make_folder,
    read_configured,
    read_if_present,
    write_atomic,
)
from starling.durable.locks import is_locked, lock_holder
from starling.protocol.errors import ConfigError, DecodeError, OperationError
from starling.protocol.wire.topics import Topics, check_fleet_name

_JSON_BYTES_MAX = 1 << 16
_LOCAL_BYTES_MAX = 1 << 20


class BrokerHome:
    """The folder's files.

    Attributes:
      path: The folder.
    """

    def __init__(self, path: Path) -> None:
        """Names a folder, which may not exist yet."""
        self.path = path.absolute()

    @property
    def certificates(self) -> BrokerCertificates:
        """The authority's, the broker's and those of its own clients."""
        return BrokerCertificates(self.path)

    @property
    def authority_certificate(self) -> Path:
        """Certificate that every client pins."""
        return self.certificates.authority_certificate

    @property
    def configuration(self) -> Path:
        """Configuration file that Mosquitto runs from."""
        return self.path / "mosquitto.conf"

    @property
    def lock_file(self) -> Path:
        """Held by `starling broker run`, with its process id."""
        return self.path / "lock"

    @property
    def enrolment(self) -> EnrolmentFiles:
        """Files of the listener for newcomers."""
        return EnrolmentFiles(self.path)

    def settings(self) -> BrokerSettings | None:
        """Settings that the folder was made for; None if it was not made yet.

        Raises:
          ConfigError: If the file does not hold what `prepare` writes.
        """
        file = self.path / "broker.json"
        content = read_configured(file, _JSON_BYTES_MAX)
        if content is None:
            return None
        try:
            return msgspec.json.decode(content, type=BrokerSettings)
        except (ValueError, RecursionError) as error:
            raise ConfigError(
                f"damaged: {error}; put it back, or remove it and run starling broker "
                "init with all that it was given, --coordinator for each of them too: "
                "keys and certificates stay",
                file=str(file),
            ) from error

    def require_settings(self) -> BrokerSettings:
        """Like `settings`, for those who need a finished folder.

        Raises:
          ConfigError: If it was not made yet; says which command makes it.
        """
        settings = self.settings()
        if settings is None:
            raise ConfigError(
                "no broker here; run: starling broker init", file=str(self.path)
            )
        return settings

    def prepare(self, settings: BrokerSettings) -> tuple[str, ...]:
        """Makes the folder, or brings it up to date.

        An authority is made only where there is neither its key nor its certificate:
        every client pins it. Its key may be kept elsewhere; then nothing is issued. A
        key alone gets another certificate, which those who pin the first one accept.

        Returns:
          What could not be done for want of the authority's key, a line each.

        Raises:
          ConfigError: If a setting cannot be, Mosquitto is missing, or a certificate
            without which the broker cannot run needs the authority's key.
          StorageError: If the disk refuses.
        """
        topics = Topics(_fleet(settings.fleet))
        _check_hosts(settings)
        access = acl_text(
            topics, settings.coordinators, settings.peers, settings.expelled
        )
        access += self._local("local.access")
        listener = self.listener(settings)
        # Before anything is written: a folder is not half made where Mosquitto is
        # missing.
        version = mosquitto_version(find_mosquitto())
        text = listener_text(listener, version)
        text += self._local("local.conf")
        make_folder(self.path)
        undone = self.certificates.prepare(settings).undone
        self._put("access", access)
        self._put("mosquitto.conf", text)
        if settings.enrol_port:
            assert listener.files is not None
            self.enrolment.prepare(settings, listener.files, version, listener.run_as)
        # Last: a crash before leaves the former settings, and the next start makes the
        # files from these again.
        self._put_settings(settings)
        return undone

    def admit_coordinator(self, user: str) -> None:
        """Gives one more user the rights of a coordinator; then `reload_running`.

        Raises:
          ConfigError: If the folder is not finished or the name cannot be.
        """
        settings = self.require_settings()
        _check_welcome(settings, user)
        names = tuple(sorted({*settings.coordinators, user}))
        self.prepare(replace(settings, coordinators=names))

    def expel(self, user: str) -> bool:
        """Takes all rights from a user, of whatever kind; then `reload_running`.

        Returns:
          Whether it had not been expelled before.

        Raises:
          ConfigError: If the folder is not finished or the name cannot be.
        """
        settings, name = self.require_settings(), check_user(user)
        if name == CHECKER:
            raise ConfigError("the broker's own checker stays", key="name")
        after = replace(
            settings,
            coordinators=tuple(each for each in settings.coordinators if each != name),
            peers=tuple(each for each in settings.peers if each != name),
            expelled=tuple(sorted({*settings.expelled, name})),
        )
        # Also if nothing changes: somebody may have edited the access file.
        self.prepare(after)
        return after != settings

    def refuse_expelled(self, user: str, remedy: str) -> None:
        """Refuses a newcomer that was expelled, which would be let in without rights.

        Raises:
          ConfigError: If the folder is not finished.
          OperationError: If it was; with the remedy, for people.
        """
        if user in self.require_settings().expelled:
            raise OperationError(f"{user} was expelled from the broker. {remedy}")

    def admit_peer(self, user: str) -> None:
        """Lets a coordinator of another broker read gossip; then `reload_running`.

        Raises:
          ConfigError: If the folder is not finished or the name cannot be.
        """
        settings = self.require_settings()
        _check_welcome(settings, user)
        names = tuple(sorted({*settings.peers, user}))
        self.prepare(replace(settings, peers=names))

    def serve_from(self, pid_file: str) -> None:
        """Notes which Mosquitto has the fleet's listener; see `BrokerSettings`."""
        self._put_settings(replace(self.require_settings(), pid_file=pid_file))

    def reload_running(self) -> bool:
        """Has the running broker read the access file again.

        Returns:
          Whether one is running, and can be told.
        """
        # A number in the file alone could be another program's by now, and the signal
        # ends a process that does not expect it.
        owner = lock_holder(self.lock_file)
        if owner:
            with suppress(ProcessLookupError):
                os.kill(owner, signal.SIGHUP)
                return True
        settings = self.settings()
        pid_file = "" if settings is None else settings.pid_file
        told = bool(pid_file) and hang_up(Path(pid_file))
        # Who has just taken the lock reads the new file anyway. Last: a lock of another
        # file system may look like this one, and must keep no broker from being told.
        return told or is_locked(self.lock_file)

    def process(self, *, log_to_file: bool = True) -> MosquittoProcess:
        """The broker as a child process, not started yet.

        Args:
          log_to_file: Whether it logs to `mosquitto.log` or to our standard error.
        """
        settings = self.require_settings()
        return MosquittoProcess(
            self.configuration,
            reachable_host(settings),
            settings.port,
            self.path / "mosquitto.log" if log_to_file else None,
        )

    def own_client(self, user: str) -> LinkSettings:
        """Settings of a link of one of the broker's own clients.

        Args:
          user: `CHECKER`, which has a board's rights, or `REGISTRAR`.
        """
        settings = self.require_settings()
        return LinkSettings(
            host=reachable_host(settings),
            port=settings.port,
            client_id=user,
            tls=self.certificates.client(user),
            # A session that is kept would queue messages at the broker between two
            # connections.
            session_expiry_s=0,
        )

    def listener(self, settings: BrokerSettings) -> ListenerConfig:
        """The fleet's listener, with its files in this folder."""
        files = ServerFiles(
            self.authority_certificate,
            self.certificates.server,
            self.path / "server.key",
            self.path / "access",
        )
        # Mosquitto started by root becomes a user that cannot read these files.
        run_as = "root" if os.geteuid() == 0 else None
        return ListenerConfig(settings.bind, settings.port, files, run_as)

    def _local(self, name: str) -> str:
        """Lines that the operator adds to a generated file."""
        content = read_if_present(self.path / name, _LOCAL_BYTES_MAX)
        return "" if content is None else "\n" + content.decode(errors="replace")

    def _put_settings(self, settings: BrokerSettings) -> None:
        self._put("broker.json", json.dumps(asdict(settings), indent=2) + "\n")

    def _put(self, name: str, text: str) -> None:
        write_atomic(self.path / name, text.encode(), PUBLIC_MODE)


def _check_hosts(settings: BrokerSettings) -> None:
    """Refuses, in a file that somebody wrote in, what no certificate can hold."""
    ascii_host(settings.bind)
    for host in settings.hosts:
        if (known := ascii_host(host)) != host:
            raise ConfigError(f"{host!r}: write {known!r}", key="host")


def _check_welcome(settings: BrokerSettings, user: str) -> None:
    if user in settings.expelled:
        raise ConfigError(
            f"{user} was expelled; to admit it all the same: "
            f"starling broker init --coordinator {user}",
            key="coordinator",
        )


def _fleet(name: str) -> str:
    try:
        return check_fleet_name(name)
    except DecodeError as error:
        raise ConfigError(str(error), key="fleet") from error

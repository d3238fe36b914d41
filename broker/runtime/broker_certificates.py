"""The broker's own certificates in its folder, issued and issued anew.

    authority.key, .pem   the fleet's certificate authority
    server.key, .pem      the broker's
    checker.key, .pem     of the client of `starling broker check`
    registrar.key, .pem   of the client that renews all others, beside a coordinator
    renewals.json         who waits for the authority's key, who asks too often

A key that is there is kept: so a certificate is replaced in one step, and a power cut
leaves the old one or the new one.
"""

import base64
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from starling.broker.broker_settings import (
    CHECKER,
    REGISTRAR,
    BrokerSettings,
    certified_names,
)
from starling.broker.certificate_reader import (
    DAY_S,
    HALF_LIFE_DAYS,
    read_certificate,
)
from starling.broker.health_checks import HealthCheck, Verdict
from starling.broker.link_events import TlsFiles
from starling.broker.runtime.certificate_authority import (
    PUBLIC_MODE,
    CertificateAuthority,
    certified_hosts,
    days_left,
)
from starling.broker.runtime.tls_key import read_tls_key, write_tls_key
from starling.durable.files import (
    is_there,
    read_if_present,
    refusal,
    storage_errors,
    write_atomic,
)
from starling.protocol.crypto.keys import SEED_BYTES
from starling.protocol.errors import ConfigError, FederationError, StorageError
from starling.protocol.ids import PublicKey

WARN_DAYS = 60
"""Without the authority's key; with it a certificate is renewed long before."""
LOOK_EVERY_S = 3600.0
_REPAIR = "run: starling broker init, and start the broker again"
_RENEWALS_BYTES_MAX = 16 << 20


@dataclass(frozen=True)
class CertificateNeed:
    """Reason to issue a certificate.

    Attributes:
      text: What is wrong with the one that is there.
      is_needed: Whether nothing works before.
    """

    text: str
    is_needed: bool = False


@dataclass(frozen=True)
class RenewalResult:
    """Result of `BrokerCertificates.prepare`.

    Attributes:
      issued: Names of the certificates that are new.
      undone: What could not be done for want of the authority's key, a line each.
    """

    issued: tuple[str, ...]
    undone: tuple[str, ...]


@dataclass(frozen=True)
class RenewalRecord:
    """Record of renewals that the registrar keeps for people.

    Attributes:
      waiting: Certificates whose renewal waits for the authority's key: DER by user.
      ignored: Requests beyond a client's allowance since the coordinator's start, by
        user.
    """

    waiting: Mapping[str, bytes]
    ignored: Mapping[str, int]


class BrokerCertificates:
    """The certificates of one broker's folder.

    Attributes:
      path: The folder.
    """

    def __init__(self, path: Path) -> None:
        """Names a folder."""
        self.path = path

    @property
    def authority_key(self) -> Path:
        """Signs all certificates; may be kept elsewhere between two uses."""
        return self.path / "authority.key"

    @property
    def authority_certificate(self) -> Path:
        """Certificate that every client pins."""
        return self.path / "authority.pem"

    @property
    def server(self) -> Path:
        """The broker's certificate."""
        return self.path / "server.pem"

    def client(self, user: str) -> TlsFiles:
        """Files of one of the broker's own clients."""
        return self._files(user, self.path)

    def has_key(self) -> bool:
        """True if the authority's key is here now.

        Raises:
          StorageError: If that cannot be seen, as on a token that was pulled out.
        """
        return is_there(self.authority_key)

    def authority(self) -> CertificateAuthority:
        """Opens the certificate authority.

        Raises:
          ConfigError: If its key is not here, and as `CertificateAuthority.open`.
          StorageError: If a file cannot be read.
        """
        if not self.has_key():
            raise ConfigError(
                "not here, and no certificate is issued without it; put it back for "
                "this command, and away again afterwards",
                file=str(self.authority_key),
            )
        return CertificateAuthority.open(self.authority_key, self.authority_certificate)

    def prepare(self, settings: BrokerSettings) -> RenewalResult:
        """Makes what is missing, and renews what is past half its life.

        Raises:
          ConfigError: If a certificate without which the broker cannot run needs the
            authority's key, that key is of another pair, or the authority's
            certificate is lost while its key is elsewhere.
          StorageError: If the disk refuses.
        """
        key, certificate = self.authority_key, self.authority_certificate
        is_here = self.has_key()
        if not is_there(certificate):
            if not is_here and is_there(self.server):
                # Another authority would shut out every client of this one.
                raise ConfigError(
                    f"lost, and {key.name} is not here to make it again; put both back",
                    file=str(certificate),
                )
            name = f"starling {settings.fleet}"
            CertificateAuthority.create(key, certificate, name)
            is_here = True
        if is_here:
            # Also where nothing is to be issued: a key of another pair is to be told.
            self.authority()
        issued, undone = [], []
        # With the key here all is renewed at half its life; without it only the near
        # end is told, or every start would warn for a year.
        for name, need in self._needs(settings, at_half=is_here).items():
            if is_here:
                self._issue(name, settings)
                issued.append(name)
            elif need.is_needed:
                self.authority()
            else:
                undone.append(f"{need.text}: {key} is not here to issue another")
        return RenewalResult(tuple(issued), tuple(undone))

    def due(self, settings: BrokerSettings) -> list[str]:
        """Reasons to issue the broker's own certificates, a line each."""
        return [need.text for need in self._needs(settings, at_half=True).values()]

    def issue_files(self, user: str, folder: Path) -> TlsFiles:
        """Makes a client's key, unless there is one, and its certificate.

        A board on another machine makes its key there and sends only the public one.

        Args:
          user: The broker's user name.
          folder: Where `<user>.key` and `<user>.pem` are put.
        """
        files = self._files(user, folder)
        authority = self.authority()
        public_key = _kept_key(files.key, files.certificate)
        certificate = authority.issue(user, public_key)
        write_atomic(files.certificate, certificate, PUBLIC_MODE)
        return files

    def renewals(self) -> RenewalRecord:
        """Reads the registrar's record.

        Raises:
          ConfigError: If the file is damaged.
        """
        content = read_if_present(self._renewals_file, _RENEWALS_BYTES_MAX)
        try:
            found = json.loads(content or '{"waiting": {}, "ignored": {}}')
            waiting = {
                user: base64.b64decode(der) for user, der in found["waiting"].items()
            }
            ignored = {user: int(n) for user, n in found["ignored"].items()}
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            file = str(self._renewals_file)
            raise ConfigError("damaged; remove it", file=file) from error
        return RenewalRecord(waiting, ignored)

    def put_renewals(self, record: RenewalRecord) -> None:
        """Writes down whose renewal waits, and who asks too often."""
        waiting = {
            user: base64.b64encode(der).decode() for user, der in record.waiting.items()
        }
        found = {"waiting": waiting, "ignored": dict(record.ignored)}
        content = json.dumps(found, indent=1) + "\n"
        # Written by the registrar and read by `broker check`: never half a file.
        write_atomic(self._renewals_file, content.encode())

    @property
    def _renewals_file(self) -> Path:
        return self.path / "renewals.json"

    def _files(self, user: str, folder: Path) -> TlsFiles:
        return TlsFiles(
            self.authority_certificate, folder / f"{user}.pem", folder / f"{user}.key"
        )

    def _needs(
        self, settings: BrokerSettings, *, at_half: bool
    ) -> dict[str, CertificateNeed]:
        """Certificates to issue, by name."""
        server = _need(self.server, at_half=at_half, is_needed=True)
        found = {"server": server or self._hosts_changed(certified_names(settings))}
        for user in (CHECKER, REGISTRAR):
            path = self.client(user).certificate
            # A folder of an earlier release, with the key away, has no registrar's.
            is_needed = user == CHECKER
            found[user] = _need(path, at_half=at_half, is_needed=is_needed)
        return {name: need for name, need in found.items() if need is not None}

    def _hosts_changed(self, hosts: tuple[str, ...]) -> CertificateNeed | None:
        certified = certified_hosts(self.server)
        missing = [name for name in hosts if name not in certified]
        # Told apart from names that are too many: without a name clients cannot
        # connect.
        if missing:
            return CertificateNeed(f"{self.server} does not name {', '.join(missing)}")
        if certified != hosts:
            return CertificateNeed(f"{self.server} names hosts that are gone")
        return None

    def _issue(self, name: str, settings: BrokerSettings) -> None:
        if name != "server":
            self.issue_files(name, self.path)
            return
        authority = self.authority()
        public_key = _kept_key(self.path / "server.key", self.server)
        issued = authority.issue_server(certified_names(settings), public_key)
        write_atomic(self.server, issued, PUBLIC_MODE)


class CertificateMonitor:
    """Renews the certificates of a broker while it runs, at half their life."""

    def __init__(
        self, certificates: BrokerCertificates, settings: Callable[[], BrokerSettings]
    ) -> None:
        """Begins to count, since they were looked at when the broker started.

        Args:
          certificates: Of the broker.
          settings: Reads what the operator asked for.
        """
        self._certificates = certificates
        self._settings = settings
        self._look_at_s = time.monotonic() + LOOK_EVERY_S

    def look(self) -> RenewalResult | None:
        """Renews what is due; None between two looks.

        What goes wrong is told among what is undone, and ends nothing.
        """
        now_s = time.monotonic()
        if now_s < self._look_at_s:
            return None
        # Before the attempt, so that a failure is not tried again every second.
        self._look_at_s = now_s + LOOK_EVERY_S
        try:
            return self._certificates.prepare(self._settings())
        except FederationError as error:
            return RenewalResult((), (str(error),))
        except OSError as error:
            where = error.filename or self._certificates.path
            return RenewalResult((), (f"{where}: {refusal(error)}",))


def renewal_check(
    certificates: BrokerCertificates, settings: BrokerSettings, now_s: float
) -> HealthCheck:
    """Row about certificates that are past half their life, and not renewed yet."""
    name, key = "tls.renewals", certificates.authority_key
    fix = f"put {key} back until this row is well, with broker and coordinator running"
    try:
        due, record = certificates.due(settings), certificates.renewals()
        ends_s = {
            user: read_certificate(der).end_s for user, der in record.waiting.items()
        }
    except FederationError as error:
        return HealthCheck(name, Verdict.FAIL, str(error), _REPAIR)
    if ends_s:
        first = min(ends_s, key=lambda user: ends_s[user])
        due.append(
            f"{len(ends_s)} clients wait; the first to end is that of {first}, in "
            f"{(ends_s[first] - now_s) / DAY_S:.0f} days"
        )
    fixes = [fix] if due else []
    if record.ignored:
        user, count = max(record.ignored.items(), key=lambda each: each[1])
        due.append(
            f"{len(record.ignored)} clients ask too often; {count} requests of {user} "
            "were ignored"
        )
        fixes.append(f"see what {user} runs, or: starling broker expel {user}")
    if not due:
        return HealthCheck(name, Verdict.OK, "no certificate waits to be renewed")
    return HealthCheck(name, Verdict.WARN, "; ".join(due), "; ".join(fixes))


def _need(path: Path, *, at_half: bool, is_needed: bool) -> CertificateNeed | None:
    """Reason to issue a certificate; None if it is still good.

    At half its life where that can be done, else once its end is near.
    """
    if not is_there(path):
        return CertificateNeed(f"{path} is missing", is_needed)
    try:
        left = days_left(path)
    except ConfigError as error:
        return CertificateNeed(str(error), is_needed)
    if left > (HALF_LIFE_DAYS if at_half else WARN_DAYS):
        return None
    ends = f"ends in {left:.0f} days" if left > 0 else f"ended {-left:.0f} days ago"
    return CertificateNeed(f"{path} {ends}")


def _kept_key(key: Path, certificate: Path) -> PublicKey:
    """The key that is to be certified: the one that is there, else another."""
    try:
        return read_tls_key(key).public
    except (ConfigError, StorageError):
        # Without its certificate first: a crash must not leave a pair that does not
        # match.
        with storage_errors(certificate):
            certificate.unlink(missing_ok=True)
        return write_tls_key(key, os.urandom(SEED_BYTES))

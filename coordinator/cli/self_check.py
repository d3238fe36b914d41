"""`starling coordinator check`: whether all is well here, each row with its remedy."""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from starling.broker.certificate_reader import days_left
from starling.broker.health_checks import (
    HealthCheck,
    Verdict,
    checks_json,
    checks_text,
    failed,
)
from starling.broker.runtime.broker_certificates import renewal_check
from starling.broker.runtime.broker_home import BrokerHome
from starling.coordinator.cli.status_text import NOT_OF_THIS_RELEASE
from starling.coordinator.health.status_checks import check_status
from starling.coordinator.runtime.enrolment.enrolment_store import EnrolmentStore
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.operations.process_liveness import lives
from starling.coordinator.runtime.setup.certificate_renewal import WARN_DAYS
from starling.coordinator.runtime.status.host_health import HostHealth, disk_section
from starling.coordinator.runtime.status.status_reader import read_status
from starling.durable.files import read_limited, require_private
from starling.durable.locks import is_locked
from starling.protocol.errors import (
    EXIT_DONE,
    EXIT_FAILED,
    ConfigError,
    FederationError,
)
from starling.service.arguments import waiting_s

BOARD_WAIT_S = 150.0
"""A board answers once a minute, and its checks take part of one on a slow board."""
STATUS_LATE_S = 10.0
"""It is written each second, and less often in large fleets."""
_SECRETS = ("signing", "sealing", "operator")
_PEM_BYTES_MAX = 1 << 16
_RUN = "run: starling coordinator run"


def check_coordinator(home: CoordinatorHome) -> list[HealthCheck]:
    """Checks keys, process, and what the coordinator last wrote of itself.

    Raises:
      ConfigError: If there is no coordinator's folder.
    """
    # A folder that is none is a wrong argument, and no failed check.
    home.config()
    rows = [
        _private(home.keys / name) for name in _SECRETS if (home.keys / name).exists()
    ]
    rows += [*certificate_checks(home, time.time()), *registrar_checks(home)]
    name, found = "status.fresh", "no status yet"
    try:
        document = read_status(home.status)
        if document is not None:
            # Who died of a full disk could not see it become empty again.
            document["disk"] = disk_section(HostHealth(home.state).look(()))
            seen = [_alive(document), _fresh(home.status), *check_status(document)]
            return [*rows, *seen]
    except (OSError, FederationError) as error:
        found = str(error)
    except NOT_OF_THIS_RELEASE as error:
        name, found = "status.form", f"{home.status}: not of this release: {error!r}"
    return [*rows, HealthCheck(name, Verdict.FAIL, found, _RUN)]


def add_arguments(verb: argparse.ArgumentParser) -> None:
    """Adds what `check` is told beside the home."""
    verb.add_argument(
        "--remote",
        metavar="DEVICE",
        help="ask this board for its own checks, over the link; its owner decides "
        "whether it answers",
    )
    verb.add_argument(
        "--wait",
        type=waiting_s,
        default=BOARD_WAIT_S,
        metavar="SECONDS",
        help=f"for that board's answer, at most (default {BOARD_WAIT_S:g})",
    )


def show(home: CoordinatorHome, options: argparse.Namespace) -> int:
    """Prints the rows.

    Returns:
      The exit status: 1 if any check failed.
    """
    if options.remote is not None:
        # Asking a board needs most of a coordinator; a monitor's checks need little.
        from starling.coordinator.runtime.operations.board_checks import check_board

        rows = check_board(home, options.remote, options.wait)
    else:
        rows = check_coordinator(home)
    sys.stdout.write(checks_json(rows) if options.json else checks_text(rows))
    return EXIT_FAILED if failed(rows) else EXIT_DONE


def certificate_checks(home: CoordinatorHome, now_s: float) -> list[HealthCheck]:
    """Rows about the end of our certificates, at our broker and at those of peers.

    Args:
      home: The coordinator's folder.
      now_s: Unix time.
    """
    again = (
        "it is renewed over the link from half its life on: see what starling broker "
        "check says at the broker; once it ended, start the coordinator again with "
        "authority.key in its place, or join again by a token"
    )
    try:
        files = home.tls_files()
    except ConfigError as error:  # the certificate has its name from the signing key
        fix = f"mend {error.file} first"
        rows = [HealthCheck("tls.expiry", Verdict.FAIL, str(error), fix)]
    else:
        first, last = files.certificate, files.authority
        rows = [
            _expiry("tls.expiry", first, again, now_s),
            _expiry("tls.authority-expiry", last, "found the fleet anew", now_s),
        ]
    # At each peer's broker we have a certificate of that broker's own authority.
    for folder in sorted(path for path in home.peers.glob("*") if path.is_dir()):
        fix = (
            "it is renewed over the link: see what starling broker check says there; "
            "once it ended, have this coordinator invited again, and run init --peer"
        )
        name = f"tls.expiry-{folder.name}"
        rows.append(_expiry(name, folder / "certificate.pem", fix, now_s))
    own = home.config().broker.home
    broker = BrokerHome(Path(own))
    try:
        if own and (settings := broker.settings()) is not None:
            rows.append(renewal_check(broker.certificates, settings, now_s))
    except FederationError as error:
        fix = f"run: starling broker check --home {own}"
        rows.append(HealthCheck("tls.renewals", Verdict.FAIL, str(error), fix))
    return rows


def registrar_checks(home: CoordinatorHome) -> list[HealthCheck]:
    """Checks that somebody answers newcomers at the broker beside a coordinator.

    Args:
      home: The coordinator's folder.

    Returns:
      One row; none where there is no such broker.
    """
    name, broker = "enrolment.registrar", Path(home.config().broker.home)
    if not home.config().broker.home or not broker.is_dir():
        return []
    if is_locked(EnrolmentStore(broker).lock_file):
        found = "newcomers and renewals are answered"
        return [HealthCheck(name, Verdict.OK, found)]
    fix = (
        "start the coordinator; if it runs, its log says why: it has to write into "
        f"{broker}, which the unit of `starling coordinator install` lets it"
    )
    found = "nobody answers newcomers, and no certificate is renewed"
    return [HealthCheck(name, Verdict.WARN, found, fix)]


def certificates_section(home: CoordinatorHome, now_s: float) -> dict[str, str]:
    """Findings about certificates, for a status, by the name of their check."""
    return {row.name: row.found for row in certificate_checks(home, now_s)}


def _expiry(name: str, path: Path, fix: str, now_s: float) -> HealthCheck:
    try:
        pem = read_limited(path, _PEM_BYTES_MAX).decode(errors="replace")
        left = days_left(pem, now_s)
    except FederationError as error:
        return HealthCheck(name, Verdict.FAIL, str(error), fix)
    if left < 0:
        return HealthCheck(name, Verdict.FAIL, f"ended {-left:.0f} days ago", fix)
    found = f"ends in {left:.0f} days"
    if left < WARN_DAYS:
        return HealthCheck(name, Verdict.WARN, found, fix)
    return HealthCheck(name, Verdict.OK, found)


def _alive(document: dict[str, Any]) -> HealthCheck:
    name, pid = "process.alive", document["pid"]
    # A number that another process has by now passes here; `status.fresh` tells then.
    if lives(pid):
        return HealthCheck(name, Verdict.OK, f"process {pid}")
    found = f"process {pid} is gone; it said: {document['state']}"
    return HealthCheck(name, Verdict.FAIL, found, _RUN)


def _fresh(path: Path) -> HealthCheck:
    # The file's own time: the wall clock that wrote into it may be wrong.
    age_s = time.time() - path.stat().st_mtime
    found = f"written {age_s:.0f} s ago"
    if age_s > STATUS_LATE_S:
        return HealthCheck("status.fresh", Verdict.FAIL, found, "see whether it hangs")
    return HealthCheck("status.fresh", Verdict.OK, found)


def _private(path: Path) -> HealthCheck:
    name = f"keys.{path.name}-private"
    try:
        require_private(path)
    except FederationError as error:
        return HealthCheck(name, Verdict.FAIL, str(error), f"chmod 600 {path}")
    return HealthCheck(name, Verdict.OK, "readable by its owner alone")

"""The home: whose it is, who can read it, and who works in it."""

import os
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from starling.agent.runtime.checks.check_rows import fail, guarded, ok, warn
from starling.agent.runtime.process_state import Liveness, look
from starling.agent.runtime.storage.agent_home import AgentHome
from starling.agent.runtime.storage.spool import SUFFIX
from starling.broker.certificate_reader import days_left
from starling.broker.health_checks import HealthCheck
from starling.durable.files import PRIVATE_FOLDER_MODE, read_limited, require_private
from starling.protocol.errors import FederationError

WARN_DAYS = 30
_OTHERS = 0o007
_PEM_BYTES_MAX = 1 << 16
_MIB = 1 << 20


def home_checks(home: AgentHome) -> Iterator[HealthCheck]:
    """Owner and modes of the home and of its secrets."""
    yield _owner(home.path)
    for folder in ("keys", "state", "spool", "models"):
        yield _usable(home.path / folder)
    for path in (home.seed_file, home.tls.key):
        name = f"keys.{path.stem}-private"
        yield guarded(name, partial(_private, path), f"chmod 600 {path}")
    yield guarded(
        "home.enrolled",
        lambda: _enrolled(home),
        f"run: starling agent enrol --home {home.path}",
    )


def _owner(path: Path) -> HealthCheck:
    name, status = "home.owner", path.stat()
    # For root every mode looks fine: what it finds of access says nothing of the
    # agent's.
    if status.st_uid != os.geteuid():
        found = f"belongs to user {status.st_uid}, this is user {os.geteuid()}"
        owner = f"sudo -u '#{status.st_uid}' starling agent check --home {path}"
        fix = f"run this as its owner: {owner}; if that is wrong: chown -R USER {path}"
        return warn(name, found, fix)
    mode = stat.S_IMODE(status.st_mode)
    if mode & _OTHERS:
        found = f"open to others (mode {mode:04o})"
        return warn(name, found, f"chmod {PRIVATE_FOLDER_MODE:o} {path}")
    return ok(name, f"ours, mode {mode:04o}")


def _usable(path: Path) -> HealthCheck:
    name = f"home.{path.name}-writable"
    if not path.is_dir():
        fix = f"run: starling agent init --home {path.parent}"
        return fail(name, f"{path} is missing", fix)
    wanted = os.R_OK | os.W_OK | os.X_OK
    if not os.access(path, wanted):
        fix = f"chown and chmod 700 {path}; see whether the disk is read-only"
        return fail(name, f"{path} cannot be written", fix)
    # A command that ran as root may have left files that the agent cannot read.
    strangers = [each.name for each in path.iterdir() if not os.access(each, os.R_OK)]
    if strangers:
        found = f"{path / sorted(strangers)[0]} cannot be read"
        fix = f"give it to the home's owner: chown -R --reference={path.parent} {path}"
        return fail(name, found, fix)
    return ok(name, "ours to write")


def _private(path: Path) -> str:
    require_private(path)
    return "readable by its owner alone"


def _enrolled(home: AgentHome) -> str:
    admission = home.admission()
    if admission is None:
        raise FileNotFoundError(f"{home.admission_file}: not enrolled")
    return f"in fleet {admission.genesis.fleet}"


def certificate_checks(home: AgentHome, now_s: float) -> Iterator[HealthCheck]:
    """Checks the remaining life of the board's and the authority's certificates."""
    rows = (
        ("tls.expiry", home.tls.certificate, "this board's certificate"),
        ("tls.authority-expiry", home.tls.authority, "the authority's certificate"),
    )
    for name, path, whose in rows:
        try:
            days = days_left(read_limited(path, _PEM_BYTES_MAX).decode("ascii"), now_s)
        except (FederationError, UnicodeDecodeError) as error:
            told = str(error) if str(path) in str(error) else f"{path}: no certificate"
            yield fail(
                name, told, f"enrol again: starling agent enrol --home {home.path}"
            )
        else:
            yield _expiry(name, days, whose)


def _expiry(name: str, days: float, whose: str) -> HealthCheck:
    fix = (
        "let the agent run, which renews it from half its life on; if it does not, the "
        "operator's starling broker check says why; once it ended, enrol again"
    )
    if days < 0:
        return fail(name, f"{whose} ended {-days:.0f} days ago", fix)
    if days < WARN_DAYS:
        return warn(name, f"{whose} ends in {days:.0f} days", fix)
    return ok(name, f"{whose} ends in {days:.0f} days")


def process_check(home: AgentHome) -> HealthCheck:
    """Checks that the agent runs."""
    name, found = "process.alive", look(home)
    start = "run: systemctl start starling-agent, or: starling agent run"
    match found.liveness:
        case Liveness.RUNS:
            return ok(name, f"process {found.pid}")
        case Liveness.HALTED:
            text = f"process {found.pid} is halted"
            return fail(name, text, f"run: kill -CONT {found.pid}")
        case Liveness.GONE if found.pid:
            text = f"not running; the lock names {found.pid}, which is no agent"
            return warn(name, text, start)
        case _:
            return warn(name, "not running", start)


def spool_check(home: AgentHome, most_mb: int) -> HealthCheck:
    """Checks the free space of the spool."""
    name = "spool.room"
    try:
        sizes = [each.stat().st_size for each in home.spool.glob(f"*{SUFFIX}")]
        damaged = [each.name for each in home.spool.glob("*.damaged")]
    except OSError as error:
        return fail(name, str(error), f"see who owns {home.spool}")
    found = f"{len(sizes)} updates, {sum(sizes) / _MIB:.1f} of {most_mb} MiB"
    if damaged:
        fix = "look for other faults of the disk, and remove the file"
        return warn(name, f"{found}; {damaged[0]} was set aside", fix)
    # Half: a healthy board has few updates that wait, and training stops once it is
    # full.
    if sum(sizes) > most_mb * _MIB // 2:
        fix = "see whether coordinators are heard; what waits is sent by itself"
        return warn(name, found, fix)
    return ok(name, found)

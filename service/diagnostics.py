"""A bundle for whoever helps: what a home says of itself, and none of its secrets.

Files are taken from a list of names, never by what is there, and data never. Before
anything is written, every member is searched for every key of the home.
"""

import base64
import io
import platform
import shutil
import stat
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from starling.durable.files import PRIVATE_MODE, storage_errors, write_atomic
from starling.protocol.errors import ConfigError, OperationError
from starling.service.unit_files import ServiceKind

MEMBER_BYTES_MAX = 1 << 20
"""The end of a longer file is taken."""
LISTED_MAX = 10_000
_CHECK_S = 300.0
_LOG_LINES = 1000
_MARKS = {
    ServiceKind.AGENT: "agent.toml",
    ServiceKind.COORDINATOR: "coordinator.toml",
    ServiceKind.BROKER: "broker.json",
}
_TAKEN = {
    ServiceKind.AGENT: (
        "agent.toml",
        "admission.json",
        "enrolment-request.json",
        "status.json",
        "state/ended",
    ),
    ServiceKind.COORDINATOR: ("coordinator.toml", "status.json"),
    ServiceKind.BROKER: ("broker.json", "mosquitto.conf", "access", "mosquitto.log"),
}
# Shorter ones stand in any file by chance, and no bundle would ever be written.
_SECRET_BYTES_MIN = 16
_PEM_LINE_MIN = 24
_PACKAGES = ("starling-fl", "numpy", "onnxruntime", "paho-mqtt", "msgspec", "pynacl")


def kind_of(home: Path) -> ServiceKind:
    """Part of Starling that a home belongs to.

    Raises:
      ConfigError: If it is none of them.
    """
    for kind, mark in _MARKS.items():
        if (home / mark).is_file():
            return kind
    raise ConfigError(f"holds none of {', '.join(_MARKS.values())}", file=str(home))


def collect(home: Path, out: Path) -> list[str]:
    """Writes the bundle, for its owner alone.

    Args:
      home: Of an agent, a coordinator or a broker.
      out: The `.tar.gz` to write.

    Returns:
      Names of its members.

    Raises:
      ConfigError: If it is no home.
      OperationError: If a member would hold a key; nothing is written then.
      StorageError: If the disk refuses.
    """
    members = dict(_members(home, kind_of(home)))
    # All members are in memory by now: nothing that changes meanwhile slips past the
    # search.
    secrets = [each for path in secret_files(home) for each in _forms(path)]
    for name, content in members.items():
        if any(secret in content for secret in secrets):
            raise OperationError(f"{name} holds a key of {home}; nothing was written")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as bundle:
        for name, content in members.items():
            entry = tarfile.TarInfo(f"starling-diag/{name}")
            entry.size, entry.mode = len(content), PRIVATE_MODE
            bundle.addfile(entry, io.BytesIO(content))
    write_atomic(out, packed.getvalue())
    return list(members)


def secret_files(home: Path) -> list[Path]:
    """Files of a home that nobody else may read: keys, wherever they lie."""
    with storage_errors(home):
        found = [
            *home.glob("keys/*"),
            *home.glob("*.key"),
            *home.glob("*.password"),
            *home.glob("enrolment/tokens/*"),
            *home.glob("founding/nonce"),
            *home.glob("founding/token"),
        ]
        return sorted(path for path in found if path.is_file())


def _forms(path: Path) -> Iterator[bytes]:
    """A secret as it stands there, and as it could be written elsewhere."""
    with storage_errors(path):
        content = path.read_bytes()
    # Certificates lie among the keys, and are public.
    if b"-----BEGIN CERTIFICATE" in content:
        return
    for line in content.splitlines():
        if len(line) >= _PEM_LINE_MIN and not line.startswith(b"-----"):
            yield line
    if len(content) >= _SECRET_BYTES_MIN:
        yield from (content, content.hex().encode(), base64.b64encode(content))


def _members(home: Path, kind: ServiceKind) -> Iterator[tuple[str, bytes]]:
    yield "machine.txt", _machine().encode()
    yield "files.txt", "".join(_listing(home)).encode()
    for name in _TAKEN[kind]:
        with suppress(OSError):
            yield f"home/{name}", _end_of(home / name)
    check = [sys.executable, "-m", "starling", kind.value, "check", "--json"]
    yield "check.json", _run([*check, "--home", str(home)])
    journal = shutil.which("journalctl")
    if journal is not None:
        unit = kind.unit_name
        words = [journal, "-u", unit, "-n", str(_LOG_LINES), "--no-pager"]
        yield "journal.txt", _run(words)


def _machine() -> str:
    lines = [f"python {sys.version}", f"system {platform.platform()}"]
    for name in _PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            lines.append(f"{name} {metadata.version(name)}")
    with suppress(OSError):
        lines.append(Path("/proc/meminfo").read_text("utf-8")[:200])
    with suppress(OSError):
        model = Path("/proc/device-tree/model").read_text("utf-8", "replace")
        lines.append(model.strip("\0"))
    return "\n".join(lines) + "\n"


def _listing(home: Path) -> Iterator[str]:
    """Modes, owners, sizes and names: of secrets, too, but not what is in them."""
    for number, path in enumerate(sorted(home.rglob("*"))):
        if number == LISTED_MAX:
            yield "and more\n"
            return
        with suppress(OSError):
            status = path.lstat()
            mode = stat.filemode(status.st_mode)
            owner = f"{status.st_uid}:{status.st_gid}"
            place = path.relative_to(home)
            yield f"{mode} {owner} {status.st_size} {status.st_mtime:.0f} {place}\n"


def _end_of(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - MEMBER_BYTES_MAX))
        return file.read(MEMBER_BYTES_MAX)


def _run(words: list[str]) -> bytes:
    try:
        done = subprocess.run(  # noqa: S603 - our own check, and systemd's journal
            words, capture_output=True, check=False, timeout=_CHECK_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{words[0]}: {error}\n".encode()
    return (done.stdout + done.stderr)[-MEMBER_BYTES_MAX:]

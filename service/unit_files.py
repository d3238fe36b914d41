"""The units of the three services, as text.

Each stands in `units/` as a template; what keeps a service from harm is the same for
all and stands in `units/hardening.conf`.

Source: systemd.exec(5) and systemd.service(5) of systemd 252.
"""

import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path, PurePosixPath

from starling.protocol.errors import ConfigError

STATE_FOLDER = PurePosixPath("/var/lib")
UNIT_FOLDERS = (Path("/etc/systemd/system"), Path("/usr/lib/systemd/system"))
"""Of whoever administers the machine, and of packages."""
HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 - compared
"""Folders that a unit with ProtectHome= and PrivateTmp= does not see."""
USER = "starling"
# No blanks and quotes, at which systemd splits, and no %, which begins a specifier.
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9/._+:@-]*")
_PLAIN_USER = re.compile(r"[a-z_][a-z0-9_-]{0,30}")


class ServiceKind(Enum):
    """Part of Starling that a unit runs."""

    AGENT = "agent"
    COORDINATOR = "coordinator"
    BROKER = "broker"

    @property
    def unit_name(self) -> str:
        """The unit's file name."""
        return f"starling-{self.value}.service"

    @property
    def home(self) -> Path:
        """Folder of its state unless somebody says otherwise."""
        name = "starling" if self is ServiceKind.AGENT else f"starling-{self.value}"
        return Path(STATE_FOLDER / name)


@dataclass(frozen=True)
class ServiceUnit:
    """Differences between two installations of one service.

    Attributes:
      kind: Which part of Starling.
      program: The `starling` that it starts, absolute.
      home: Where its state lies, absolute.
      user: Whom it runs as; also its group, whose members may read its status.
      writable: Folders outside its home that it writes into.
    """

    kind: ServiceKind
    program: Path
    home: Path
    user: str = USER
    writable: tuple[Path, ...] = ()


def unit_text(unit: ServiceUnit) -> str:
    """The unit file.

    Raises:
      ConfigError: If a path or name is one that the unit could not hold or see.
    """
    for key, path in (
        ("program", unit.program),
        ("home", unit.home),
        *(("data", folder) for folder in unit.writable),
    ):
        require_visible(key, path)
    if not _PLAIN_USER.fullmatch(unit.user):
        raise ConfigError(f"{unit.user!r} is no name of a user", key="user")
    folder = Path(__file__).parent / "units"
    template = (folder / f"{unit.kind.value}.service").read_text("utf-8")
    return template.format(
        program=unit.program,
        home=unit.home,
        user=unit.user,
        state="\n".join(_state_lines(unit)),
        hardening=(folder / "hardening.conf").read_text("utf-8"),
    )


def is_installed(kind: ServiceKind) -> bool:
    """True if this machine has a unit for a service, by hand or from a package."""
    return any((folder / kind.unit_name).exists() for folder in UNIT_FOLDERS)


def require_visible(key: str, path: Path) -> None:
    """Refuses a path that the unit could not name, or that would not be there for it.

    Raises:
      ConfigError: Says where to put it instead.
    """
    if not _PLAIN_PATH.fullmatch(str(path)):
        raise ConfigError(
            f"{path}: a unit takes an absolute path of letters, digits and ._+:@-",
            key=key,
        )
    for hidden in HIDDEN:
        if path.is_relative_to(hidden):
            raise ConfigError(
                f"{path}: the unit does not see {hidden}; put it below "
                f"{STATE_FOLDER if key != 'program' else '/usr/lib or /opt'}",
                key=key,
            )


USERS_HEAD = "# The user that Starling's services run as."
"""First line of the file for systemd-sysusers(8), by which ours is known."""


def sysusers_text(user: str) -> str:
    """The user that the services run as, for systemd-sysusers(8)."""
    entry = f'u {user} - "Starling" {STATE_FOLDER / USER}'
    return f"{USERS_HEAD}\n{entry}\n"


def _state_lines(unit: ServiceUnit) -> list[str]:
    """Lines that let the unit write into its home."""
    lines = []
    if unit.home.parent == Path(STATE_FOLDER):
        # systemd makes it, gives it to the user, and mounts it writable.
        lines += [f"StateDirectory={unit.home.name}", "StateDirectoryMode=0750"]
    else:
        lines.append(f"ReadWritePaths={unit.home}")
    # The dash: a folder that is not there keeps the service from nothing else.
    lines += [f"ReadWritePaths=-{folder}" for folder in unit.writable]
    return lines

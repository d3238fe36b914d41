"""The fleet's listener as one file among those that an existing Mosquitto includes.

That file is the only one of Mosquitto's that is written or removed. Whatever else its
configuration says is read, and refused where the two could not keep apart.

Source: mosquitto.conf(5), `include_dir`.
"""

import os
import pwd
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from starling.broker.broker_settings import BrokerSettings
from starling.broker.mosquitto_conf import included_text
from starling.broker.mosquitto_directives import (
    Directive,
    directives,
    obstacles,
    opened,
)
from starling.broker.runtime.broker_home import BrokerHome
from starling.broker.runtime.mosquitto_process import (
    find_mosquitto,
    mosquitto_version,
)
from starling.durable.files import (
    is_there,
    read_configured,
    storage_errors,
    write_atomic,
)
from starling.durable.locks import lock
from starling.protocol.errors import ConfigError

USUAL_FILE = Path("/etc/mosquitto/mosquitto.conf")
_BYTES_MAX = 1 << 20
_MODE = 0o644
_USER = "mosquitto"
_MARK = "# Listener of fleet "


@dataclass(frozen=True)
class _Surroundings:
    """Lines that Mosquitto reads besides our file.

    Attributes:
      file: Where ours stands, or is to stand.
      before: Lines read before it.
      after: And after it.
    """

    file: Path
    before: tuple[Directive, ...]
    after: tuple[Directive, ...]

    def value(self, key: str) -> str:
        """Value of an option that Mosquitto has once; empty if nothing sets it."""
        lines = (*self.before, *self.after)
        return next((each.value for each in reversed(lines) if each.key == key), "")


class IncludedListener:
    """A broker's folder, and the configuration that is to include its listener."""

    def __init__(self, home: BrokerHome, configuration: Path) -> None:
        """Reads nothing yet.

        Args:
          home: The broker's folder.
          configuration: Mosquitto's main file.
        """
        self._home = home
        self._main = configuration.absolute()

    @property
    def file(self) -> Path:
        """The file of ours.

        Raises:
          ConfigError: If the configuration includes no folder, or cannot be read.
        """
        return self._surroundings().file

    def text(self) -> str:
        """Content of our file.

        Raises:
          ConfigError: Naming each line of the configuration that is in its way, or if
            a file of the same name is there that is none of ours.
        """
        settings, around = self._home.require_settings(), self._surroundings()
        found = obstacles(around.before, around.after, settings.port)
        if settings.enrol_port:
            found += (
                "the door for newcomers is a Mosquitto of its own, which starling "
                "broker run starts; close it with starling broker init --enrol-port 0, "
                "and enrol by files",
            )
        found += tuple(self._unreadable(around.value("user") or _USER))
        if found:
            raise ConfigError("\n  ".join(("", *found)), file=str(self._main))
        version = mosquitto_version(find_mosquitto())
        text = included_text(self._home.listener(settings), version)
        return f"{_mark(settings)}; written by starling broker install\n{text}"

    def warnings(self) -> tuple[str, ...]:
        """Facts for the operator, before Mosquitto is started with our file."""
        around = self._surroundings()
        lines = opened((*around.before, *around.after))
        if not lines:
            return (
                "no line names a listener, so that Mosquitto has let anybody in at "
                "localhost port 1883; it does not any more once it has this one",
            )
        return tuple(
            f"{each.place}: who comes in there reaches the fleet's topics by its own "
            "rules; let them deny starling/#"
            for each in lines
        )

    def write(self) -> None:
        """Writes our file; Mosquitto has to be started again.

        Raises:
          ConfigError: As `text`, or if `starling broker run` serves the folder.
          StorageError: If the disk refuses.
        """
        # `starling broker run` on the same folder would open the same port.
        if is_there(self._home.lock_file):
            lock(self._home.lock_file).release()
        text, around = self.text(), self._surroundings()
        self._require_own(around.file)
        write_atomic(around.file, text.encode(), _MODE)
        # Noted after the file is written; from here on `expel` reaches that Mosquitto.
        self._home.serve_from(around.value("pid_file"))

    def remove(self) -> bool:
        """Removes our file, and no other.

        Returns:
          Whether it was there.

        Raises:
          ConfigError: If a file of its name is none of ours.
          StorageError: If the disk refuses.
        """
        file = self.file
        was_there = self._require_own(file)
        with storage_errors(file):
            file.unlink(missing_ok=True)
        self._home.serve_from("")
        return was_there

    def _require_own(self, file: Path) -> bool:
        """Refuses a file that is none of ours; False if there is none."""
        content = read_configured(file, _BYTES_MAX)
        ours = _mark(self._home.require_settings()).encode()
        if content is not None and not content.startswith(ours):
            raise ConfigError("is not of our making; move it away", file=str(file))
        return content is not None

    def _surroundings(self) -> _Surroundings:
        settings = self._home.require_settings()
        lines = self._read(self._main)
        places = [i for i, each in enumerate(lines) if each.key == "include_dir"]
        if not places:
            raise ConfigError("includes no folder (include_dir)", file=str(self._main))
        last = Path(lines[places[-1]].value)
        # After all files of ordinary names, so that their lines are theirs.
        ours = last / f"zz-starling-{settings.fleet}.conf"
        before: list[Directive] = []
        after: list[Directive] = []
        seen = before
        for place, line in enumerate(lines):
            if line.key != "include_dir":
                seen.append(line)
                continue
            for file in _included(Path(line.value)):
                if place == places[-1] and _rank(file) > _rank(ours):
                    seen = after
                if file != ours:
                    seen += self._read(file)
            if place == places[-1]:
                seen = after
        return _Surroundings(ours, tuple(before), tuple(after))

    def _read(self, file: Path) -> tuple[Directive, ...]:
        content = read_configured(file, _BYTES_MAX)
        if content is None:
            raise ConfigError("missing: is Mosquitto here?", file=str(file))
        return directives(str(file), content.decode(errors="replace"))

    def _unreadable(self, user: str) -> Iterator[str]:
        """Files of the folder that Mosquitto could not read once it runs as a user."""
        try:
            account = pwd.getpwnam(user)
        except KeyError:
            return
        # Rights are worked out by hand, since only root could try them out as that
        # user.
        groups = os.getgrouplist(user, account.pw_gid)
        files = self._home.listener(self._home.require_settings()).files
        assert files is not None
        for file in (files.authority, files.certificate, files.key, files.access):
            with storage_errors(file):
                hidden = next(_hidden(file, account.pw_uid, groups), None)
            if hidden is not None:
                yield (
                    f"{hidden}: {user} cannot read it; let the folder be that user's: "
                    f"chown -R {user} {self._home.path}"
                )


def _mark(settings: BrokerSettings) -> str:
    return f"{_MARK}{settings.fleet}"


def _included(folder: Path) -> Sequence[Path]:
    """Files of a folder in Mosquitto's order: A, a, B, b."""
    with storage_errors(folder):
        return sorted(folder.glob("*.conf"), key=_rank)


def _rank(file: Path) -> list[tuple[str, str]]:
    return [(letter.lower(), letter) for letter in file.name]


def _hidden(file: Path, uid: int, groups: Sequence[int]) -> Iterator[Path]:
    """Parts of a path that keep a user from reading the file."""
    for part in (file, *file.parents):
        about = part.stat()
        wanted = 0o4 if part == file else 0o1
        if uid == about.st_uid:
            wanted <<= 6
        elif about.st_gid in groups:
            wanted <<= 3
        if uid != 0 and not about.st_mode & wanted:
            yield part

"""`install`, the same verb for agent, coordinator and broker: writes the unit."""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from starling.durable.files import read_if_present, storage_errors, write_atomic
from starling.protocol.errors import EXIT_DONE, ConfigError, OperationError
from starling.service.unit_files import (
    USER,
    USERS_HEAD,
    ServiceKind,
    ServiceUnit,
    require_visible,
    sysusers_text,
    unit_text,
)

TEXT = "write the systemd unit that runs it"
_UNITS, _USERS = Path("etc/systemd/system"), Path("etc/sysusers.d")
_RUNNING = Path("/run/systemd/system")
_READABLE = 0o644
_UNIT_BYTES_MAX = 1 << 16


def add_arguments(parser: argparse.ArgumentParser, kind: ServiceKind) -> None:
    """The verb's own options; `--home` and `--json` are the command's."""
    parser.description = (
        f"Write {kind.unit_name} and the user it runs as, and say what comes next; "
        f"needs root. The home is {kind.home} unless --home says otherwise."
    )
    parser.add_argument(
        "--print-unit", action="store_true", help="print the unit and write nothing"
    )
    parser.add_argument(
        "--user", default=USER, help=f"whom it runs as (default: {USER})"
    )
    parser.add_argument(
        "--program", type=Path, help="the `starling` to run (default: this one)"
    )
    parser.add_argument(
        "--prefix",
        type=Path,
        metavar="DIR",
        help="write below this folder, and touch nothing of the running system",
    )


def install(
    kind: ServiceKind,
    arguments: argparse.Namespace,
    home: Path | None,
    writable: Sequence[Path] = (),
) -> int:
    """Writes the unit, or prints it.

    Args:
      kind: Which service.
      arguments: Of `add_arguments`, and `json`.
      home: Where its state lies; None for the usual place.
      writable: Folders outside of it that the service writes into.

    Returns:
      The exit status.

    Raises:
      ConfigError: If a path cannot stand in a unit, or another's unit is there.
      OperationError: Without root's rights.
      StorageError: If the disk refuses.
    """
    place = (home or kind.home).absolute()
    unit = ServiceUnit(
        kind,
        arguments.program or own_program(),
        place,
        arguments.user,
        # What lies in its home it may write anyway.
        tuple(path for path in writable if not path.is_relative_to(place)),
    )
    text = unit_text(unit)
    if arguments.print_unit:
        sys.stdout.write(text)
        return EXIT_DONE
    if arguments.prefix is None and os.geteuid() != 0:
        raise OperationError(
            f"needs root; run: sudo starling {kind.value} install, or look at it first "
            "with --print-unit"
        )
    root = arguments.prefix or Path("/")
    unit_file = root / _UNITS / kind.unit_name
    users_file = root / _USERS / f"{arguments.user}.conf"
    # Both before either is written.
    _require_ours(unit_file, f"# {kind.unit_name}, written by `starling")
    _require_ours(users_file, USERS_HEAD)
    _put(unit_file, text)
    _put(users_file, sysusers_text(arguments.user))
    if arguments.prefix is None:
        _reload_system(users_file)
    _show(arguments, unit, unit_file, users_file)
    return EXIT_DONE


def own_program() -> Path:
    """The `starling` beside this interpreter.

    Raises:
      ConfigError: If there is none, or a unit would not see it.
    """
    program = Path(sys.executable).absolute().parent / "starling"
    if not program.exists():
        raise ConfigError(f"{program}: not there; name it", key="program")
    # Who starts it needs the interpreter behind the links, too.
    require_visible("program", Path(sys.executable).resolve())
    return program


def _require_ours(file: Path, head: str) -> None:
    before = read_if_present(file, _UNIT_BYTES_MAX)
    if before is not None and not before.decode("utf-8", "replace").startswith(head):
        raise ConfigError("is not of our making; move it away first", file=str(file))


def _put(file: Path, text: str) -> None:
    with storage_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, text.encode(), _READABLE)


def _reload_system(users_file: Path) -> None:
    commands = [["systemd-sysusers", str(users_file)]]
    # As sd_booted(3): while an image is built, systemd is installed and does not run.
    if _RUNNING.exists():
        commands.append(["systemctl", "daemon-reload"])
    for command in commands:
        program = shutil.which(command[0])
        if program is None:
            raise OperationError(f"{command[0]} is not here: is this a systemd system?")
        done = subprocess.run(  # noqa: S603 - two programs of systemd
            [program, *command[1:]], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise OperationError(f"{' '.join(command)}: {done.stderr.strip()}")


def _show(
    arguments: argparse.Namespace, unit: ServiceUnit, unit_file: Path, users_file: Path
) -> None:
    name = unit.kind.unit_name.removesuffix(".service")
    if arguments.json:
        document = {
            "unit": str(unit_file),
            "users": str(users_file),
            "home": str(unit.home),
            "user": unit.user,
        }
        sys.stdout.write(json.dumps(document) + "\n")
        return
    init = f"starling {unit.kind.value} init --home {unit.home}"
    sys.stdout.write(f"wrote {unit_file}\nwrote {users_file}\n")
    if getattr(arguments, "token", None) is None:
        sys.stdout.write(
            f"next, unless {unit.home} is there:\n"
            f"  sudo install -d -o {unit.user} -g {unit.user} -m 0750 {unit.home}\n"
            f"  sudo -u {unit.user} {init}\n"
        )
    sys.stdout.write(
        f"then: sudo systemctl enable --now {name}\nand:  journalctl -u {name} -f\n"
    )
    # Whoever enrols next writes to the same terminal.
    sys.stdout.flush()

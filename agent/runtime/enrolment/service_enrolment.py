"""Enrolment of a board whose agent runs as a service: done as the service's user."""

import argparse
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from starling.broker.runtime.token_exchange import read_token
from starling.durable.files import refusal, storage_errors
from starling.protocol.errors import ConfigError, OperationError
from starling.service import install_verb
from starling.service.unit_files import ServiceKind

HOME_MODE = 0o750


def enrol_as(
    user: str, program: Path, home: Path, token: str, words: Sequence[str]
) -> None:
    """Makes the home, and runs `starling agent enrol` in it as a user.

    Args:
      user: Whom the service runs as.
      program: The `starling` to run.
      home: The service's home; made, for the user alone, if it is not there.
      token: The token's line; given on standard input, where nobody else sees it.
      words: Further arguments.

    Raises:
      OperationError: If it fails; it has said why.
      StorageError: If the home cannot be made.
    """
    if not home.exists():
        with storage_errors(home):
            home.mkdir(HOME_MODE, parents=True)
            # `mkdir` takes the umask's bits away.
            home.chmod(HOME_MODE)
            if os.geteuid() == 0:
                shutil.chown(home, user, user)
    # The token goes by standard input: any user can read a process's arguments.
    command = [str(program), "agent", "enrol", "--home", str(home), "--token", "-"]
    # Only root can become somebody else, or give its groups up.
    as_user = (
        {"user": user, "group": user, "extra_groups": []} if os.geteuid() == 0 else {}
    )
    try:
        done = subprocess.run(  # noqa: S603 - our own program
            [*command, *words],
            input=token.encode(),
            # The user may have no right to enter the folder that this was called in.
            cwd="/",
            check=False,
            **as_user,  # type: ignore[call-overload]  # as `subprocess` takes them
        )
    except OSError as error:
        raise OperationError(
            f"the unit is written, but {user} cannot run {program}: {refusal(error)}"
        ) from error
    if done.returncode != 0:
        raise OperationError(
            f"the unit is written, but the board is not enrolled; once that is mended: "
            f"sudo -u {user} {program} agent enrol --home {home} --token LINE"
        )


def install_and_enrol(
    arguments: argparse.Namespace, home: Path, writable: list[Path]
) -> int:
    """Writes the unit, and enrols the board by a token.

    Args:
      arguments: Of `agent install`.
      home: The service's home.
      writable: Folders outside of it that the service writes into.

    Returns:
      The exit status.

    Raises:
      ConfigError, OperationError, StorageError: As `install` and `enrol_as`.
    """
    if arguments.prefix is not None:
        raise ConfigError("enrols on this machine, --prefix does not", key="--token")
    line = read_token(arguments.token).to_line()
    # The token was read before: one that is malformed leaves no unit behind.
    status = install_verb.install(ServiceKind.AGENT, arguments, home, writable)
    words = [f"--wait={arguments.wait}"]
    if arguments.pledge is not None:
        words.append(f"--pledge={arguments.pledge}")
    if arguments.data is not None:
        words.append(f"--data={arguments.data.absolute()}")
    program = arguments.program or install_verb.own_program()
    enrol_as(arguments.user, program, home, line, words)
    return status

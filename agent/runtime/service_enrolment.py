"""Enrolment of a board whose agent runs as a service: done as the service's user."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from starling.durable.files import storage_errors
from starling.protocol.errors import OperationError

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
            home.chmod(HOME_MODE)
            if os.geteuid() == 0:
                shutil.chown(home, user, user)
    command = [str(program), "agent", "enrol", "--home", str(home), "--token", "-"]
    # Only root can become somebody else, or give its groups up.
    as_user = (
        {"user": user, "group": user, "extra_groups": []} if os.geteuid() == 0 else {}
    )
    done = subprocess.run(  # noqa: S603 - our own program
        [*command, *words],
        input=token.encode(),
        cwd="/",
        check=False,
        **as_user,  # type: ignore[call-overload]  # as `subprocess` takes them
    )
    if done.returncode != 0:
        raise OperationError(
            f"the unit is written, but the board is not enrolled; once that is mended: "
            f"sudo -u {user} {program} agent enrol --home {home} --token LINE"
        )

"""The board's checks in a process of their own, for a coordinator that asks.

It is `starling agent check` as the owner runs it, without what depends on the data set:
no second form, and nothing of it in the agent's own memory.
"""

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from starling.broker.health_checks import HealthCheck, Verdict, from_document, to_rows
from starling.durable.files import refusal
from starling.protocol.wire.health_messages import HealthRow

TIMEOUT_S = 300.0


@dataclass(frozen=True)
class ChecksReported:
    """The checks ran, or could not.

    Attributes:
      rows: What they found.
    """

    rows: tuple[HealthRow, ...]


class HealthProcess:
    """At most one run of the checks at a time."""

    def __init__(self, home: Path, post: Callable[[ChecksReported], None]) -> None:
        """Starts nothing yet.

        Args:
          home: The agent's home.
          post: Called from a thread of ours with each result.
        """
        self._home = home
        self._post = post
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Runs the checks, unless they are running."""
        if self._process is not None and self._process.poll() is None:
            return
        # Without the user's site folder and the working folder, from which a stranger's
        # module could be imported.
        words = ("-s", "-P", "-m", "starling", "agent", "check", "--without-data")
        command = (sys.executable, *words, "--json", "--home", str(self._home))
        try:
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and command
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            self._process = process
            threading.Thread(target=self._wait, args=(process,), daemon=True).start()
        except (OSError, RuntimeError) as error:
            why = refusal(error) if isinstance(error, OSError) else str(error)
            self._post(_failed(f"the checks cannot be started: {why}"))

    def stop(self) -> None:
        """Ends a run that is under way; nothing is reported of it that counts."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()

    def _wait(self, process: "subprocess.Popen[str]") -> None:
        with process:
            try:
                told, error = process.communicate(timeout=TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                self._post(_failed(f"no answer within {TIMEOUT_S:.0f} s"))
                return
        try:
            self._post(ChecksReported(to_rows(from_document(json.loads(told)))))
        except (ValueError, LookupError, TypeError):
            lines = error.strip().splitlines()
            self._post(_failed(lines[-1] if lines else "they said nothing"))


def _failed(why: str) -> ChecksReported:
    fix = "run on the board: starling agent check"
    row = HealthCheck("checks.ran", Verdict.FAIL, why, fix)
    return ChecksReported(to_rows([row]))

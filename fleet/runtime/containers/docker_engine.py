"""Runs the docker command, and says what to do where it refuses.

The one module that starts `docker`; it knows nothing of fleets.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

from starling.fleet.containers.compose_plan import advice_on
from starling.protocol.errors import ConfigError, OperationError

PROGRAM = "docker"
QUICK_S = 60.0
LONG_S = 900.0
_COMPOSE_LEAST = 2
_WORDS_CHARS = 600


class DockerRefusal(OperationError):
    """Docker did not do what it was asked.

    Attributes:
      words: What it wrote on standard error.
    """

    def __init__(self, asked: str, words: str, status: int) -> None:
        """Keeps docker's words, and adds advice where there is some."""
        self.words = words
        advice = advice_on(words)
        said = words.strip()[-_WORDS_CHARS:] or f"exit status {status}, without a word"
        super().__init__(f"docker {asked}: {said}" + (f"; {advice}" if advice else ""))


class DockerEngine:
    """The docker command of this machine, whose daemon may be elsewhere."""

    def __init__(self) -> None:
        """Looks for the command.

        Raises:
          ConfigError: If there is none.
        """
        found = shutil.which(PROGRAM)
        if found is None:
            raise ConfigError("docker is not installed, or not in PATH", key=PROGRAM)
        self._program = found

    def require(self) -> None:
        """Makes sure that the daemon answers.

        Raises:
          ConfigError: If it does not, with what to do.
        """
        self._require("version", "--format", "{{.Server.Version}}")

    def require_compose(self) -> None:
        """Makes sure that daemon and compose plugin are there.

        Raises:
          ConfigError: If one of them is not, with what to do.
        """
        self.require()
        version = self._require("compose", "version", "--short").strip()
        major = version.removeprefix("v").partition(".")[0]
        # Version 1 is another program, with other words.
        if not major.isdecimal() or int(major) < _COMPOSE_LEAST:
            detail = f"compose is {version or 'of no version'}; it has to be 2 or later"
            raise ConfigError(detail, key=PROGRAM)

    def processors(self) -> int:
        """Number of processors of the daemon's machine; at least 1.

        Raises:
          OperationError: If it does not say.
        """
        said = self.ask("info", "--format", "{{.NCPU}}").strip()
        return max(1, int(said)) if said.isdecimal() else 1

    def require_image(self, name: str) -> None:
        """Makes sure that an image is on this machine.

        Raises:
          ConfigError: If it is not.
        """
        try:
            self.ask("image", "inspect", "--format", "{{.Id}}", name)
        except DockerRefusal as error:
            if "no such image" not in error.words.lower():
                raise
            raise ConfigError(
                f"there is no image {name} on this machine; in a checkout of Starling: "
                "make image",
                key="--image",
            ) from error

    def ask(
        self,
        *words: str,
        given: str = "",
        environment: Mapping[str, str] | None = None,
        timeout_s: float = QUICK_S,
    ) -> str:
        """Runs docker to its end.

        Args:
          words: After `docker`.
          given: Text for its standard input.
          environment: Variables on top of ours.
          timeout_s: After which it is ended.

        Returns:
          What it wrote on standard output.

        Raises:
          DockerRefusal: If it fails.
          OperationError: If it takes too long.
        """
        asked = " ".join(words[:2])
        done = self._run(words, asked, given, environment, timeout_s)
        if done.returncode != 0:
            raise DockerRefusal(asked, done.stderr or done.stdout, done.returncode)
        return done.stdout

    def document(self, *words: str) -> dict[str, Any] | None:
        """The JSON object that a command in a container prints; None without one.

        A command that finds something wrong exits with 1, and prints it all the same.

        Raises:
          OperationError: If it takes too long.
        """
        done = self._run(words, " ".join(words[:2]), "", None, QUICK_S)
        try:
            found = json.loads(done.stdout)
        except ValueError:
            return None
        return found if isinstance(found, dict) else None

    def both_streams(self, *words: str) -> str:
        """Everything that docker writes, whether or not it fails.

        Raises:
          OperationError: If it takes too long.
        """
        done = self._run(words, " ".join(words[:2]), "", None, QUICK_S)
        return f"{done.stdout}{done.stderr}"

    def stream(self, *words: str) -> subprocess.Popen[str]:
        """Starts docker, whose standard output is read line by line."""
        return subprocess.Popen(  # noqa: S603 - words of our own
            [self._program, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            errors="replace",
        )

    def _run(
        self,
        words: tuple[str, ...],
        asked: str,
        given: str,
        environment: Mapping[str, str] | None,
        timeout_s: float,
    ) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(  # noqa: S603 - words of our own
                [self._program, *words],
                input=given,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout_s,
                check=False,
                env={**os.environ, **(environment or {})},
            )
        except subprocess.TimeoutExpired as error:
            late = f"docker {asked}: no answer in {timeout_s:g} s"
            raise OperationError(late) from error

    def _require(self, *words: str) -> str:
        try:
            return self.ask(*words)
        except DockerRefusal as error:
            raise ConfigError(str(error), key=PROGRAM) from error

"""Tries versions on held-out data, in a process of its own.

That process gets the held-out data and published graphs and has nothing of ours but a
pipe (`coordinator.runtime.evaluation.evaluation_process`). It lives as long as it
answers; one that crashes, hangs or says nonsense is ended, and the next trial gets
another one.
"""

import contextlib
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

from starling.coordinator.aggregation.contribution_scores import RootGradients
from starling.coordinator.runtime.evaluation.evaluation_messages import (
    OUTCOME,
    OUTCOME_BYTES_MAX,
    TRIAL,
    EvaluationError,
    EvaluationRequest,
    EvaluationResult,
    metrics,
    read_frame,
    root_gradients,
    write_frame,
)
from starling.coordinator.runtime.evaluation.evaluation_process import (
    HeldOutData,
    pack_held_out,
)
from starling.durable.files import storage_errors
from starling.protocol.errors import ConfigError, ProtocolError
from starling.protocol.ids import Digest
from starling.protocol.learning.score_policy import root_digest
from starling.records.runtime.sources import read_arrays
from starling.sandbox import child_process

COMMAND = child_process.command(
    "starling.coordinator.runtime.evaluation.evaluation_process"
)
TRIAL_S_MAX = 300.0
"""After which a trial is ended."""


def load_held_out(path: Path, key: str = "evaluation.data") -> HeldOutData:
    """Reads an .npz file with arrays x and y.

    Args:
      path: The file.
      key: Of the setting that names it, for messages.

    Raises:
      ConfigError: If it is missing, holds something else, or has no example.
    """
    try:
        held_out = HeldOutData(**read_arrays(path))
    except ConfigError as error:
        raise ConfigError(
            f"expected an .npz file with arrays x and y: {error.detail}",
            file=str(path),
            key=key,
        ) from error
    if not held_out.x.size or held_out.x.shape[:1] != held_out.y.shape[:1]:
        raise ConfigError("x and y differ in length, or are empty", file=str(path))
    return held_out


def pinned_root(path: Path, key: str = "evaluation.root") -> Digest:
    """Digest by which a task pins a root set.

    Args:
      path: Its .npz file.
      key: Of the setting or flag that names it, for messages.

    Raises:
      ConfigError: If the file cannot be read.
    """
    try:
        return root_digest(path.read_bytes())
    except OSError as error:
        detail = error.strerror or "cannot be read"
        raise ConfigError(detail, file=str(path), key=key) from error


class Evaluator:
    """The coordinator's side of the process; one trial at a time."""

    def __init__(
        self,
        held_out: HeldOutData,
        batch: int,
        folder: Path,
        command: Sequence[str] = COMMAND,
        seconds_max: float = TRIAL_S_MAX,
    ) -> None:
        """Starts nothing yet.

        Args:
          held_out: The examples.
          batch: How many are evaluated at once.
          folder: For the process to work in; made anew, and empty.
          command: What to start.
          seconds_max: After which a trial is ended.
        """
        self._held_out = pack_held_out(held_out, batch)
        self._command = tuple(command)
        self._seconds_max = seconds_max
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = folder
        self._loaded: Digest | None = None
        self._abandoned = False

    def evaluate(
        self, bundle: Digest, packed: bytes, theta: bytes
    ) -> tuple[float | None, float]:
        """Accuracy, where the loss knows classes, and mean loss.

        Args:
          bundle: Its digest.
          packed: The bundle.
          theta: (d,) little-endian float32 parameters.

        Raises:
          EvaluationError: If the bundle is refused or fails, or its process does.
        """
        return metrics(self._answer(bundle, packed, theta, gradients=False))

    def gradients(self, bundle: Digest, packed: bytes, theta: bytes) -> RootGradients:
        """Gradients of the loss on each stratum; arguments and errors as `evaluate`."""
        answer = self._answer(bundle, packed, theta, gradients=True)
        return root_gradients(answer, len(theta) // 4)

    def _answer(
        self, bundle: Digest, packed: bytes, theta: bytes, *, gradients: bool
    ) -> EvaluationResult:
        process = self._running()
        # The process keeps the last bundle: only parameters go over from version to
        # version.
        content = b"" if bundle == self._loaded else packed
        request = EvaluationRequest(content, theta, gradients)
        self._loaded = None
        # A killed process ends both reads and writes of its pipes, wherever the trial
        # hangs.
        clock = threading.Timer(self._seconds_max, process.kill)
        clock.start()
        try:
            answer = self._asked(process, TRIAL.pack(request))
        except (OSError, ProtocolError) as error:
            self.stop()
            raise EvaluationError(f"the trial's process: {error}") from error
        finally:
            clock.cancel()
        if answer is None:
            code = process.wait()
            self.stop()
            raise EvaluationError(f"the trial's process ended with {code}")
        # After a fault nobody knows what it has loaded: it is sent again.
        if not answer.detail:
            self._loaded = bundle
        return answer

    def abandon(self) -> None:
        """Lets a trial under way, and any later one, fail soon; from any thread."""
        # Before the process is looked at: one that starts at this moment looks here.
        self._abandoned = True
        if (process := self._process) is not None:
            process.kill()

    def stop(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    # What waits in it is for nobody any more.
                    with contextlib.suppress(OSError):
                        pipe.close()
            self._process = None
        self._loaded = None

    def _asked(
        self, process: subprocess.Popen[bytes], frame: bytes
    ) -> EvaluationResult | None:
        assert process.stdin is not None
        assert process.stdout is not None
        write_frame(process.stdin, frame)
        answer = read_frame(process.stdout, OUTCOME_BYTES_MAX)
        return None if answer is None else OUTCOME.unpack(answer)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.stop()
        with storage_errors(self._folder):
            child_process.empty_folder(self._folder)
        process = subprocess.Popen(  # noqa: S603 - our own module, or a test's
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # What a library prints about a stranger's graph is for no log.
            stderr=subprocess.DEVNULL,
            cwd=self._folder,
            env=child_process.environment(),
            start_new_session=True,
        )
        self._process = process
        if self._abandoned:
            process.kill()
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            # One that is gone already is noticed when it is asked.
            write_frame(process.stdin, self._held_out)
        return process

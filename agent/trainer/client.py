"""The agent's side of the trainer: starts it, feeds it, and hears how it ended.

Reports arrive through a callback from a reader thread, each with the number of the
process it came from, so that a stopped trainer's last words are known as such. A crash
is a report too, with a text that says what a person can do about it.
"""

import contextlib
import errno
import os
import signal
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from starling.agent.trainer import record_marker
from starling.agent.training.trainer_messages import (
    GO,
    JOB,
    LENGTH_BYTES,
    REPORT,
    ConfinementReport,
    TrainerJob,
    TrainerJobKind,
    TrainerReport,
    TrainerReportKind,
    one_line,
    readable,
)
from starling.durable.files import PRIVATE_MODE, refusal, storage_errors
from starling.protocol.errors import ProtocolError, StorageError
from starling.sandbox import child_process

COMMAND = child_process.command("starling.agent.trainer.worker")
_LAST_WORDS_BYTES = 1000
_SCARCE = (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM)
_CRASHES = {
    signal.SIGILL: "illegal instruction; this onnxruntime does not fit the processor",
    signal.SIGKILL: "killed; was there enough memory?",
    signal.SIGSEGV: "segmentation fault in the training engine",
    signal.SIGABRT: "aborted by the training engine",
    signal.SIGBUS: "bus error; is the disk or the memory full?",
}


@dataclass(frozen=True)
class TrainerReported:
    """A trainer reported something.

    Attributes:
      process: Which trainer, counted from 1.
      report: What it said; a FAILED_TRAINING of ours if it ended in mid-job.
      record: Number of the record that it was at when it ended.
    """

    process: int
    report: TrainerReport
    record: int | None = None


class TrainerProcess:
    """At most one trainer at a time; it lives as long as it has jobs."""

    def __init__(
        self,
        post: Callable[[TrainerReported], None],
        log: Path,
        command: Sequence[str] = COMMAND,
    ) -> None:
        """Starts nothing yet.

        Args:
          post: Called from a thread of ours with each report.
          log: File for the trainer's standard error; overwritten by each trainer. The
            empty folder that it works in stands beside it.
          command: What to start.
        """
        self._post = post
        self._log = log
        self._command = tuple(command)
        self._process: subprocess.Popen[bytes] | None = None
        self._number = 0
        self._busy = False
        self._view: tuple[tuple[str, int, int], ...] = ()
        self._confinement: ConfinementReport | None = None

    @property
    def confinement(self) -> ConfinementReport | None:
        """Of the last trainer that spoke; None before."""
        return self._confinement

    @property
    def busy(self) -> bool:
        """True while a job has no final answer."""
        return self._busy

    def is_current(self, spoke: TrainerReported) -> bool:
        """True if the report answers the job under way."""
        return self._busy and spoke.process == self._number

    def ask(self, job: TrainerJob) -> None:
        """Gives a job; starts a trainer unless one is waiting.

        A trainer that the system does not let start is reported as one that failed.

        Raises:
          StorageError: If the disk refuses.
        """
        assert not self._busy
        # A model is tried where no data set was read before: memory that it left behind
        # must not decide over the model, nor the model over it.
        counts = int(job.kind == TrainerJobKind.COUNT)
        # With device and inode: a disk that was mounted since lies under the same path,
        # and a confined process still has the folder below it.
        view = (*_view(job), (job.bundle_path, counts, 0))
        ended = self._process is None or self._process.poll() is not None
        self._busy = True
        if ended or view != self._view:
            # A confined trainer cannot be let see other folders than at its start.
            try:
                self._start()
            except (OSError, RuntimeError) as error:
                self._not_started(error)
                return
            self._view = view
        self._send(JOB.pack(job))

    def resume(self) -> None:
        """Lets the trainer read the data and draw its noise."""
        self._send(GO)

    def answered(self) -> None:
        """The job is done; the trainer waits for the next one, or for `release`."""
        self._busy = False

    def release(self) -> None:
        """Lets a waiting trainer end."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
            self._process = None

    def stop(self) -> None:
        """Ends the trainer at once; its reports are not current any more."""
        self._busy = False
        if self._process is not None:
            self._process.kill()
            self.release()
            self._number += 1

    def _start(self) -> None:
        self.release()
        # Reports of the one before are not current from here on.
        self._number += 1
        folder = self._log.with_suffix(".folder")
        with _disk_errors(folder):
            child_process.empty_folder(folder)
        with _disk_errors(self._log):
            log = self._log.open("wb")
        with log, contextlib.ExitStack() as undo:
            # A file that is there keeps its mode when it is written anew, and the log
            # may quote the owner's paths.
            os.fchmod(log.fileno(), PRIVATE_MODE)
            descriptor = record_marker.make()
            undo.callback(os.close, descriptor)
            process = subprocess.Popen(  # noqa: S603 - our own module, or a test's
                (*self._command, str(descriptor)),
                pass_fds=(descriptor,),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=folder,
                env=child_process.environment(),
                start_new_session=True,
            )
            undo.callback(_end, process)
            listener = threading.Thread(
                target=self._listen,
                args=(process, self._number, descriptor),
                daemon=True,
            )
            listener.start()
            # From here on the listening thread closes the descriptor, once it has read
            # where the process ended.
            undo.pop_all()
        self._process = process

    def _not_started(self, error: OSError | RuntimeError) -> None:
        """Reports what the system refused, as if the trainer had failed."""
        if not isinstance(error, OSError):
            # Python names no error number where it gets no thread.
            error = OSError(errno.EAGAIN, str(error))
        detail = one_line(f"the trainer cannot be started: {refusal(error)}")
        crash = TrainerReport(TrainerReportKind.FAILED_TRAINING, detail)
        self._post(TrainerReported(self._number, crash))

    def _send(self, payload: bytes) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        # A trainer that is gone is reported by the thread that listens to it.
        with contextlib.suppress(OSError):
            self._process.stdin.write(struct.pack("<I", len(payload)) + payload)
            self._process.stdin.flush()

    def _listen(
        self, process: subprocess.Popen[bytes], number: int, descriptor: int
    ) -> None:
        assert process.stdout is not None
        with process.stdout as source:
            while len(head := source.read(LENGTH_BYTES)) == LENGTH_BYTES:
                (length,) = struct.unpack("<I", head)
                # A trainer runs a publisher's graphs on hostile data, and may send
                # anything.
                if length > REPORT.bytes_max:
                    process.kill()
                    break
                try:
                    report = REPORT.unpack(source.read(length))
                except ProtocolError:
                    break
                self._confinement = report.confinement
                self._post(TrainerReported(number, report))
        # After the last report: its end is told last, whatever the scheduler does.
        code = process.wait()
        detail = f"the trainer ended: {cause_of_end(code)}; {self._last_words()}"
        crash = TrainerReport(TrainerReportKind.FAILED_TRAINING, detail)
        record = record_marker.read(descriptor)
        os.close(descriptor)
        self._post(TrainerReported(number, crash, record))

    def _last_words(self) -> str:
        try:
            content = self._log.read_bytes()[-_LAST_WORDS_BYTES:]
        except OSError:
            return ""
        lines = content.decode("utf-8", "replace").strip().splitlines()
        return one_line(lines[-1]) if lines else "it said nothing"


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Keeps what is about the disk from what is about the process's own limits."""
    try:
        with storage_errors(path):
            yield
    except StorageError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno in _SCARCE:
            raise cause from error
        raise


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    with process:
        process.wait()


def _view(job: TrainerJob) -> tuple[tuple[str, int, int], ...]:
    """Folders that a trainer for this job may read, with their identities."""
    found = []
    for folder in readable(job):
        try:
            place = Path(folder).stat()
            found.append((folder, place.st_dev, place.st_ino))
        except OSError:
            found.append((folder, 0, 0))
    return tuple(found)


def cause_of_end(code: int) -> str:
    """Cause of a process's end, in words.

    Args:
      code: As of `subprocess`: negative for a signal.
    """
    if code >= 0:
        return f"exit {code}"
    try:
        number = signal.Signals(-code)
    except ValueError:
        return f"signal {-code}"
    return _CRASHES.get(number, number.name)

"""The trainer's end of the two pipes to the agent: framed jobs in, framed reports out.

See `agent.training.trainer_messages` for what stands in the frames.
"""

import struct
from typing import BinaryIO

from starling.agent.training.trainer_messages import (
    GO,
    LENGTH_BYTES,
    REPORT,
    ConfinementReport,
    DataFacts,
    LabelFacts,
    TrainerReport,
    TrainerReportKind,
    one_line,
)

_FRAME_BYTES_MAX = 1 << 20


class PipeClosed(Exception):
    """The agent closed the pipe in the middle of a job."""


class JobPipe:
    """Frames of one trainer.

    Attributes:
      confinement: Goes with every report; None until the trainer has confined itself.
    """

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        """Reads frames from `source`, writes frames to `sink`."""
        self._source = source
        self._sink = sink
        self.confinement: ConfinementReport | None = None

    def read(self) -> bytes | None:
        """The next frame; None if the agent sends no more.

        Raises:
          PipeClosed: If the frame is longer than any of ours.
        """
        head = self._source.read(LENGTH_BYTES)
        if len(head) < LENGTH_BYTES:
            return None
        (length,) = struct.unpack("<I", head)
        if length > _FRAME_BYTES_MAX:
            raise PipeClosed
        frame = self._source.read(length)
        return frame if len(frame) == length else None

    def await_go(self) -> None:
        """Returns once the agent has written down what the next step costs.

        Raises:
          PipeClosed: If anything else comes, or the end.
        """
        if self.read() != GO:
            raise PipeClosed

    def report(
        self,
        kind: TrainerReportKind,
        *,
        detail: str = "",
        payload: bytes = b"",
        found: DataFacts | None = None,
        head: bytes = b"",
        batches: tuple[bytes, ...] = (),
        labels: LabelFacts | None = None,
    ) -> None:
        """Writes one report; its fields are those of `TrainerReport`."""
        report = TrainerReport(
            kind,
            one_line(detail),
            payload,
            found,
            head,
            self.confinement,
            batches,
            labels,
        )
        packed = REPORT.pack(report)
        view = memoryview(struct.pack("<I", len(packed)) + packed)
        while view:
            # The pipe is unbuffered, and may take less than all.
            view = view[self._sink.write(view) :]

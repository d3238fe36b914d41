"""Marker of the record that a trainer is at: eight bytes shared by both processes.

A record on which the engine crashes must count as none, like one on which it fails; for
that somebody has to know which it was. The trainer notes each record's number in memory
that outlives it, before it computes anything of it; that costs no system call.
"""

import mmap
import os
import struct

from starling.agent.training.trainer_messages import RECORDS_MAX

_FORM = struct.Struct("<q")
_NOTHING = 0


def make() -> int:
    """New memory, as a file descriptor that a child process is to inherit."""
    descriptor = os.memfd_create("record")
    os.truncate(descriptor, _FORM.size)
    return descriptor


def read(descriptor: int) -> int | None:
    """The number that stands there; None if that is no record's."""
    (found,) = _FORM.unpack(os.pread(descriptor, _FORM.size, 0))
    # A trainer runs a publisher's graphs, and may leave anything: a number that the
    # next job cannot name would end the agent between the charge and the update.
    return int(found) - 1 if _NOTHING < found <= RECORDS_MAX + 1 else None


class RecordMarker:
    """The trainer's side."""

    def __init__(self, descriptor: int) -> None:
        """Opens what `make` made."""
        self._memory = mmap.mmap(descriptor, _FORM.size)

    def __call__(self, record: int | None) -> None:
        """Notes the number of the record that comes now; None for none."""
        # New memory is zeros, which has to mean no record: hence the 1.
        at = _NOTHING if record is None else record + 1
        _FORM.pack_into(self._memory, 0, at)

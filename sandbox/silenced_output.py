"""Keeps what libraries print, and the words of exceptions, out of a process's log.

Both may quote what they were given: a cell of a table, an index, a shape. What is left
of an exception is its kind and where it was raised.
"""

import os
import sys
import threading
import traceback
from functools import partial
from types import TracebackType
from typing import TextIO


def hush() -> None:
    """From now on standard error takes nothing but the places of uncaught exceptions.

    To be called before the process is confined.
    """
    # Native libraries write to descriptor 2 itself, so that it is what has to be
    # replaced.
    log = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="replace")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    sys.excepthook = partial(_log_exception, log)
    threading.excepthook = lambda caught: _log_exception(
        log, caught.exc_type, caught.exc_value, caught.exc_traceback
    )


def _log_exception(
    log: TextIO,
    kind: type[BaseException],
    _error: BaseException | None,
    trace: TracebackType | None,
) -> None:
    places = [
        f"{frame.filename}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(trace)
    ]
    last = f" at {places[-1]}" if places else ""
    log.write("".join(f"{place}\n" for place in places) + f"{kind.__name__}{last}\n")
    log.flush()

"""Viewers of a console, who do what its `live.js` does in a browser."""

import threading
import time
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from types import TracebackType
from typing import Self

PAUSE_S = 2.0
"""Between two looks at a page, as in `live.js`."""
TIMEOUT_S = 30.0
_JOIN_S = 60.0


def page_s(connection: HTTPConnection, path: str) -> float:
    """Seconds from asking for a page to its last byte.

    Raises:
      HTTPException: If it does not come.
    """
    start_s = time.perf_counter()
    connection.request("GET", path)
    answer = connection.getresponse()
    answer.read()
    if answer.status != 200:
        raise HTTPException(f"{path}: {answer.status}")
    return time.perf_counter() - start_s


class Viewers:
    """So many open pages, each on threads of its own, within a block.

    Attributes:
      pages: Pages that were taken.
    """

    def __init__(self, port: int, count: int, path: str = "/") -> None:
        """Opens nothing yet.

        Args:
          port: Of the console, at 127.0.0.1.
          count: How many.
          path: Of the page.
        """
        self.pages = 0
        self._port = port
        self._path = path
        self._guard = threading.Lock()
        self._ending = threading.Event()
        self._changed = [threading.Event() for _ in range(count)]
        self._threads = [
            threading.Thread(target=work, args=(changed,), daemon=True)
            for changed in self._changed
            for work in (self._listen, self._look)
        ]

    def __enter__(self) -> Self:
        """Opens all pages."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes them."""
        self._ending.set()
        for changed in self._changed:
            changed.set()
        for thread in self._threads:
            thread.join(_JOIN_S)

    def _listen(self, changed: threading.Event) -> None:
        """Hears that the status changed, until the end."""
        while not self._ending.is_set():
            stream = HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT_S)
            # A browser comes back too, when a stream ends.
            with suppress(OSError, HTTPException):
                stream.request("GET", "/live")
                answer = stream.getresponse()
                while not self._ending.is_set() and (line := answer.readline()):
                    if line.startswith(b"event: changed"):
                        changed.set()
            stream.close()

    def _look(self, changed: threading.Event) -> None:
        """Takes the page, and again after each change, but never at once."""
        changed.set()
        connection = HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT_S)
        while changed.wait() and not self._ending.is_set():
            changed.clear()
            try:
                page_s(connection, self._path)
            except (OSError, HTTPException):
                connection.close()
            else:
                with self._guard:
                    self.pages += 1
            self._ending.wait(PAUSE_S)
        connection.close()

"""Server-sent events: a word to every open page whenever the status changed.

Source: html.spec.whatwg.org, section 9.2.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

STREAMS_MAX = 64
"""Open pages that are told; others show what was when they were asked for."""
QUIET_S = 15.0
"""After which a comment is sent, so that an end of the way that is gone is noticed."""
RETRY_MS = 3000


class LiveStreams:
    """Open streams, and the word that wakes them."""

    def __init__(self) -> None:
        """No stream is open."""
        self.count = 0
        self._changed = asyncio.Event()
        self._number = 0
        self._ended = False

    def notify(self) -> None:
        """Wakes every stream."""
        self._number += 1
        self._changed.set()
        self._changed = asyncio.Event()

    def end(self) -> None:
        """Ends every stream, now and later."""
        self._ended = True
        self.notify()

    @contextmanager
    def place(self) -> Iterator[None]:
        """Takes a place, of `STREAMS_MAX`, until the context ends."""
        self.count += 1
        try:
            yield
        finally:
            self.count -= 1

    async def events(self) -> AsyncIterator[bytes]:
        """Bytes of one stream, until it is ended.

        A reader who is slow misses numbers in between, and nothing is kept for it.
        """
        yield f"retry: {RETRY_MS}\n\n".encode()
        while not self._ended:
            # Taken before the wait: a word that comes between two waits is not missed.
            waited_for, seen = self._changed, self._number
            try:
                await asyncio.wait_for(waited_for.wait(), QUIET_S)
            except TimeoutError:
                yield b": quiet\n\n"
                continue
            if not self._ended:
                yield f"event: changed\ndata: {seen + 1}\n\n".encode()

"""Sessions of operators who signed in with a token of the coordinator's home.

A session lives in this process alone: its cookie is a random name, of which the hash is
kept. It ends with its token, by sign-out, after `SESSION_S`, or with the console.

Source: owasp.org's session management and CSRF prevention cheat sheets.
"""

import hashlib
import hmac
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from starling.coordinator.runtime.operations.operator_tokens import (
    OperatorToken,
    read_tokens,
    token_of,
)

SESSION_S = 8 * 3600.0
SESSIONS_MAX = 64
"""The oldest ends when there would be more."""
NOTES_MAX = 8
_SECRET_BYTES = 32


@dataclass
class OperatorSession:
    """An operator who signed in.

    Attributes:
      token: Row of the token.
      csrf: What every form of the session holds.
      until_s: Unix time of its end.
      notes: What the next page says first: whether it went well, and a text.
    """

    token: OperatorToken
    csrf: str
    until_s: float
    notes: deque[tuple[bool, str]] = field(
        default_factory=lambda: deque(maxlen=NOTES_MAX)
    )

    def is_from_us(self, given: str) -> bool:
        """True if a form has the session's own secret."""
        return hmac.compare_digest(given.encode(), self.csrf.encode())

    def take_notes(self) -> tuple[tuple[bool, str], ...]:
        """Notes that no page has shown yet."""
        taken = tuple(self.notes)
        self.notes.clear()
        return taken


class Sessions:
    """All sessions; `begin` may run in a thread of its own."""

    def __init__(self, file: Path, clock: Callable[[], float]) -> None:
        """Nobody has signed in.

        Args:
          file: Of the tokens' hashes.
          clock: Unix time, in seconds.
        """
        self._file = file
        self._clock = clock
        self._open: dict[bytes, OperatorSession] = {}
        # Both in one, so that two threads cannot mix what they read.
        self._read: tuple[tuple[int, int, int], tuple[OperatorToken, ...]] | None = None

    def begin(self, given: str) -> tuple[str, OperatorSession] | None:
        """Signs somebody in.

        Args:
          given: What should be a token.

        Returns:
          The value of the cookie, and the session; None if it is no token.

        Raises:
          StorageError: If the file of tokens is damaged.
        """
        now_s = self._clock()
        token = token_of(self.tokens(), given, now_s)
        if token is None:
            return None
        cookie = secrets.token_urlsafe(_SECRET_BYTES)
        made = OperatorSession(
            token,
            secrets.token_urlsafe(_SECRET_BYTES),
            min(now_s + SESSION_S, token.until_s),
        )
        # Only who has a token gets here: the oldest goes, and nobody is kept out.
        while len(self._open) >= SESSIONS_MAX:
            self._open.pop(next(iter(self._open)), None)
        # By hash, so that neither a dump nor the time of a look-up tells a cookie.
        self._open[_key(cookie)] = made
        return cookie, made

    def find(self, cookie: str) -> OperatorSession | None:
        """The session of a cookie; None if it is over, or never was.

        Raises:
          StorageError: If the file of tokens is damaged.
        """
        found = self._open.get(_key(cookie)) if cookie else None
        if found is None:
            return None
        # Asked of the file each time: a token that is revoked ends its sessions at
        # once.
        if self._clock() >= found.until_s or found.token not in self.tokens():
            self.end(cookie)
            return None
        return found

    def end(self, cookie: str) -> None:
        """Signs out."""
        self._open.pop(_key(cookie), None)

    def tokens(self) -> tuple[OperatorToken, ...]:
        """Rows of the file, read anew if it changed.

        Raises:
          StorageError: If it is damaged.
        """
        try:
            found = self._file.stat()
        except OSError:
            self._read = None
            return ()
        stamp = (found.st_mtime_ns, found.st_ino, found.st_size)
        known = self._read
        if known is None or known[0] != stamp:
            known = self._read = stamp, read_tokens(self._file)
        return known[1]


def _key(cookie: str) -> bytes:
    return hashlib.sha256(cookie.encode()).digest()

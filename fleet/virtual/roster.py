"""Which virtual boards are awake, and for how long.

A board wakes, takes part once and sleeps until its next turn, as one does that trains
at night. While it sleeps it hears nothing; when it wakes it gets the newest manifest,
which is retained. So a version costs work for the boards that take part in it, and not
for the whole fleet. Everybody has had a turn before anybody has the next.
"""

from collections import deque

import numpy as np


class Roster:
    """Deals out turns.

    Attributes:
      awake: Boards in their turn.
      retired: Boards that will have no turn any more.
    """

    def __init__(
        self, boards: int, places: int, rng: np.random.Generator, *, waves: bool
    ) -> None:
        """Nobody is awake yet.

        Args:
          boards: How many there are.
          places: How many are awake at once.
          rng: Decides the order of the turns.
          waves: Whether all places are given at once when a version begins, and none
            in between: what is called synchronous.
        """
        self.awake: set[int] = set()
        self.retired: set[int] = set()
        self._boards = boards
        self._places = places
        self._rng = rng
        self._waves = waves
        self._queue: deque[int] = deque()
        self._skipped: list[int] = []

    def next_boards(self, *, version_began: bool) -> list[int]:
        """Who wakes now.

        Args:
          version_began: Whether a new version has just become final.
        """
        if version_began:
            self._queue.extendleft(reversed(self._skipped))
            self._skipped.clear()
        if self._waves and not version_began:
            return []
        woken: list[int] = []
        while len(self.awake) < self._places and self._fill():
            board = self._queue.popleft()
            if board in self.retired or board in self.awake:
                continue
            self.awake.add(board)
            woken.append(board)
        return woken

    def rest(self, board: int, *, took_part: bool, spent: bool) -> None:
        """A board's turn is over.

        Args:
          board: Which one.
          took_part: Whether it made an update; if not, it comes first at the next
            version.
          spent: Whether its budget is spent: it gets no more turns.
        """
        self.awake.discard(board)
        if spent:
            self.retired.add(board)
        elif not took_part:
            self._skipped.append(board)

    def _fill(self) -> bool:
        """Sees to it that somebody is in the queue, if anybody may be."""
        if not self._queue:
            busy = self.retired | self.awake | set(self._skipped)
            free = [board for board in range(self._boards) if board not in busy]
            self._queue.extend(int(board) for board in self._rng.permutation(free))
        return bool(self._queue)

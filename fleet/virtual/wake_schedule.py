"""Schedule of virtual boards: awake or asleep, and for how long.

A board wakes, takes part once and sleeps until its next turn, as one does that trains
at night. While it sleeps it hears nothing; when it wakes it gets the newest manifest,
which is retained. So a version costs work for the boards that take part in it, and not
for the whole fleet. Whoever had the fewest turns is next.
"""

import heapq
from collections.abc import Callable

import numpy as np

Choose = Callable[[list[int], int, int], list[int]]
"""From the boards that sleep, rising, the places that are free and the fewest that must
be given, to the boards that wake; asked about one board and one place at least."""


class WakeSchedule:
    """Deals out turns.

    Attributes:
      awake: Boards in their turn.
      retired: Boards that will have no turn any more.
    """

    def __init__(
        self,
        boards: int,
        places: int,
        rng: np.random.Generator,
        *,
        waves: bool,
        leave_behind: bool = False,
        choose: Choose | None = None,
    ) -> None:
        """Nobody is awake yet.

        Args:
          boards: How many there are.
          places: How many are awake at once.
          rng: Decides among those with equally many turns.
          waves: Whether all places are given at once when a version begins, and none
            in between: what is called synchronous.
          leave_behind: Whether a wave gets all its places though boards of the one
            before, which more than filled its version, are still at work.
          choose: Whose turn it is; whoever had the fewest by default.
        """
        self.awake: set[int] = set()
        self.retired: set[int] = set()
        self._places = places
        self._rng = rng
        self._waves = waves
        self._leave_behind = leave_behind
        self._choose = choose
        self._turns = [0] * boards
        self._asleep: list[tuple[int, float, int]] = []
        self._skipped: list[int] = []
        self._gone: set[int] = set()
        for board in range(boards):
            self._lie_down(board)

    def next_boards(self, *, version_began: bool) -> list[int]:
        """Boards that wake now.

        Args:
          version_began: Whether a new version has just become final.
        """
        if version_began:
            for board in self._skipped:
                self._lie_down(board)
            self._skipped.clear()
        if self._waves and not version_began:
            return []
        taken = 0 if self._leave_behind else len(self.awake)
        free = min(self._places - taken, len(self._asleep))
        if free <= 0:
            return []
        if self._choose is None:
            woken = [heapq.heappop(self._asleep)[2] for _ in range(free)]
        else:
            woken = self._chosen(self._choose, free)
        self.awake.update(woken)
        return woken

    def _chosen(self, choose: Choose, free: int) -> list[int]:
        """Boards that `choose` wakes; they sleep no more."""
        # A wave that is not full makes no version, and without anybody at work nobody
        # would be asked again.
        least = free if self._waves else int(not self.awake)
        woken = choose(sorted(each[2] for each in self._asleep), free, least)
        self._asleep = [each for each in self._asleep if each[2] not in woken]
        heapq.heapify(self._asleep)
        return woken

    def rest(self, board: int, *, took_part: bool, spent: bool) -> None:
        """A board's turn is over.

        Args:
          board: Which one.
          took_part: Whether it made an update; if not, it waits for the next version.
          spent: Whether its budget is spent: it gets no more turns.
        """
        self.awake.discard(board)
        if spent:
            self.retired.add(board)
        elif took_part:
            self._turns[board] += 1
            self._lie_down(board)
        else:
            # Until the next version: awake again at once it would get the same answer,
            # without end.
            self._skipped.append(board)

    def leave(self, board: int) -> None:
        """A board is gone; its place is free, and it gets no turn."""
        self._gone.add(board)
        self.awake.discard(board)
        self._skipped = [each for each in self._skipped if each != board]
        self._asleep = [each for each in self._asleep if each[2] != board]
        heapq.heapify(self._asleep)

    def come_back(self, board: int) -> None:
        """A board that was gone sleeps until its next turn; any other goes on."""
        # Faults that overlap may end together, and each of them brings it back.
        if board not in self._gone:
            return
        self._gone.discard(board)
        if board not in self.retired:
            self._lie_down(board)

    def _lie_down(self, board: int) -> None:
        # Drawn anew each time: equals are dealt out at random, and not by their
        # numbers.
        place = (self._turns[board], float(self._rng.random()), board)
        heapq.heappush(self._asleep, place)

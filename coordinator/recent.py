"""What was worked out lately, in bounded memory.

For functions of their arguments that are asked again soon. Kept in two generations:
when the newer one is full, the older one goes.
"""

from collections.abc import Hashable
from typing import Generic, TypeVar

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")


class Recent(Generic[_K, _V]):
    """The latest values by key; what it forgets is worked out again.

    Threads may share it: at worst one of them works something out twice.
    """

    def __init__(self, weight_max: int) -> None:
        """Starts empty.

        Args:
          weight_max: Of all that is kept, in whatever `keep` counts.
        """
        self._each = weight_max // 2
        self._newer: dict[_K, _V] = {}
        self._older: dict[_K, _V] = {}
        self._weight = 0

    def get(self, key: _K) -> _V | None:
        """A value, if it is kept."""
        found = self._newer.get(key)
        return self._older.get(key) if found is None else found

    def keep(self, key: _K, value: _V, weight: int = 1) -> None:
        """Keeps a value, which weighs so much."""
        if self._weight + weight > self._each:
            self._older, self._newer, self._weight = self._newer, {}, 0
        if weight <= self._each:
            self._newer[key] = value
            self._weight += weight

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._newer) + len(self._older)

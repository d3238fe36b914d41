"""Validators that decide a height, and their order as proposers."""

from collections.abc import Collection
from dataclasses import dataclass

from starling.protocol.chain.genesis import ValidatorSet


@dataclass(frozen=True)
class ProposerSchedule:
    """The validators of one height.

    Attributes:
      validators: The set whose hash the height's header carries; votes name its
        members by their place in it.
      order: All of those places; round r is led by the r-th, over and over.
    """

    validators: ValidatorSet
    order: tuple[int, ...]

    def proposer(self, number: int) -> int:
        """Proposer of a round."""
        return self.order[number % len(self.order)]

    def missed(self, proposer: int) -> tuple[int, ...]:
        """Proposers of the rounds before the block's, which made no block."""
        # A header names no round. But its maker leads one of the first n rounds only,
        # and a block that is offered again in a later round keeps its first maker.
        return self.order[: self.order.index(proposer)]


def turns(count: int, height: int, passed_over: Collection[int]) -> tuple[int, ...]:
    """The order of a height: everybody in turn, those that are passed over last.

    Args:
      count: How many validators there are.
      height: Each height another one comes first.
      passed_over: Places of validators that missed a turn and did not come back.

    Returns:
      A permutation of all places, whatever is passed over.
    """
    everybody = [(height + place) % count for place in range(count)]
    # Sorting is stable: among themselves they keep their turns.
    return tuple(sorted(everybody, key=lambda place: place in passed_over))

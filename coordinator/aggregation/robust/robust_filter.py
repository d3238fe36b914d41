"""The filter before an aggregation strategy, by the number that stands on the wire.

A buffer's updates go in, and as many come out, each with its own weight by staleness,
pledge, base and board, so that any strategy can follow. Where a task has no noise,
vectors longer than past norms allow for are shortened first
(`coordinator.aggregation.robust.norm_history`). Then the rule replaces each update's
direction per example by one that a minority cannot choose
(`coordinator.aggregation.robust.robust_rules`), as long as its pledge.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from starling.coordinator.aggregation.integer_rounding import divide_half_even
from starling.coordinator.aggregation.robust import norm_history, robust_rules
from starling.coordinator.aggregation.robust.spectral_clipping import (
    spectral_clipping,
)
from starling.coordinator.aggregation.strategy import (
    Aggregator,
    ModelState,
    WeightedUpdate,
)
from starling.protocol.learning.task import Robust
from starling.protocol.learning.vector_codecs import MAGNITUDE_BITS, Grid

Rule = Callable[[Grid, Sequence[int], int], Grid]
"""From rows, their weights and f to one vector."""
_WEIGHT_MAX = 1 << 10
_ROW_MAX = (1 << robust_rules.ROW_BITS) - 1
_VECTOR_MAX = (1 << MAGNITUDE_BITS) - 1


def _mixed_trimmed_mean(rows: Grid, weights: Sequence[int], f: int) -> Grid:
    return robust_rules.trimmed_mean(robust_rules.neighbour_mixed(rows, weights, f), f)


RULES: dict[int, Rule] = {
    Robust.MEDIAN: lambda rows, _weights, _f: robust_rules.median(rows),
    Robust.TRIMMED_MEAN: lambda rows, _weights, f: robust_rules.trimmed_mean(rows, f),
    Robust.KRUM: lambda rows, _weights, f: robust_rules.krum(rows, f),
    Robust.MULTI_KRUM: lambda rows, _weights, f: robust_rules.multi_krum(rows, f),
    Robust.BULYAN: lambda rows, _weights, f: robust_rules.bulyan(rows, f),
    Robust.GEOMETRIC_MEDIAN: lambda rows, _weights, _f: robust_rules.geometric_median(
        rows
    ),
    Robust.CENTRED_CLIPPING: lambda rows, _weights, _f: robust_rules.centred_clipping(
        rows
    ),
    Robust.CTMA: lambda rows, _weights, f: robust_rules.centred_trimmed_mean(rows, f),
    Robust.NNM_TRIMMED_MEAN: _mixed_trimmed_mean,
    Robust.SPECTRAL_CLIPPING: lambda rows, weights, _f: spectral_clipping(
        rows, weights
    ),
}


def robust(inner: Aggregator, number: int, *, noised: bool) -> Aggregator:
    """A strategy with a filter before it.

    Args:
      inner: The strategy; its memory is kept apart from ours, which stands behind it.
      number: `Robust`.
      noised: Whether the task has noise, and with it a bound that is public.
    """
    if number == Robust.NONE:
        return inner
    if noised:

        def apply_filtered(
            state: ModelState, updates: Iterable[WeightedUpdate], version: int
        ) -> ModelState:
            buffer = in_one_order(updates)
            return inner.apply(state, filtered(buffer, number), version)

        return Aggregator(inner.init, apply_filtered)

    def init(theta: Grid) -> ModelState:
        return _joined(inner.init(theta), norm_history.empty_history())

    def apply(
        state: ModelState, updates: Iterable[WeightedUpdate], version: int
    ) -> ModelState:
        known = state.memory[-norm_history.HISTORY_WORDS :]
        own = replace(state, memory=state.memory[: -norm_history.HISTORY_WORDS])
        buffer, norms = _within_the_past(known, in_one_order(updates))
        made = inner.apply(own, filtered(buffer, number), version)
        return _joined(made, norm_history.remembered(known, norms))

    return Aggregator(init, apply)


def memory_words(number: int, *, noised: bool) -> int:
    """The filter's own memory, in integers of 8 bytes."""
    return 0 if noised or number == Robust.NONE else norm_history.HISTORY_WORDS


def _joined(state: ModelState, history: Grid) -> ModelState:
    return replace(state, memory=np.concatenate([state.memory, history]))


def _within_the_past(
    known: Grid, buffer: Sequence[WeightedUpdate]
) -> tuple[list[WeightedUpdate], list[int]]:
    """Updates no longer than past norms allow for, and their norms then."""
    norms = [norm_history.norm_per_example(each.vector, each.pledge) for each in buffer]
    most = norm_history.radius(known, norms) if buffer else 0
    held = [
        replace(each, vector=norm_history.shortened(each.vector, norm, most))
        for each, norm in zip(buffer, norms, strict=True)
    ]
    return held, [min(norm, most) for norm in norms]


def in_one_order(updates: Iterable[WeightedUpdate]) -> list[WeightedUpdate]:
    """Updates sorted by what they are: the same list for each order they come in."""
    return sorted(
        updates,
        key=lambda each: (each.pledge, each.weight_q15, _bytes(each.vector)),
    )


def _bytes(vector: Grid) -> bytes:
    """The same on machines of either byte order."""
    return vector.astype("<i8", copy=False).tobytes()


def filtered(buffer: Sequence[WeightedUpdate], number: int) -> list[WeightedUpdate]:
    """Updates in one order, each with the robust direction.

    Args:
      buffer: At most 2^10.
      number: `Robust`.
    """
    rule = RULES.get(number)
    if rule is None or len(buffer) < 2:
        return list(buffer)
    unit = max(each.pledge for each in buffer)
    # |vector| < 2^38 and a pledge of at most 2^20: no product passes 2^58.
    rows = np.stack([_at_pledge(each.vector, unit, each.pledge) for each in buffer])
    np.clip(rows, -_ROW_MAX, _ROW_MAX, out=rows)
    weights = [max(1, each.pledge * _WEIGHT_MAX // unit) for each in buffer]
    found = rule(rows, weights, robust_rules.tolerated(len(buffer)))
    return [
        replace(
            each,
            vector=np.clip(
                _at_pledge(found, each.pledge, unit), -_VECTOR_MAX, _VECTOR_MAX
            ),
        )
        for each in buffer
    ]


def _at_pledge(vector: Grid, wanted: int, given: int) -> Grid:
    """A sum over `given` examples as one over `wanted`."""
    return vector if wanted == given else divide_half_even(vector * wanted, given)

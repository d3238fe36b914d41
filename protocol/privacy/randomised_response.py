"""Randomised response with K answers: the law of a drawn label, in exact integers.

A board keeps a label with probability `q` and draws each of the other K - 1 classes
with probability `r`, once. `q / r` is at most `e^epsilon`, so that no two labels make
any answer more than `e^epsilon` times as likely. What is trained from answers and from
inputs that are public costs nothing beyond that.

Letters: `K` classes; `q` and `r` as above, `q + (K - 1) r = 1`.

Source: Warner 1965 (two answers); Kairouz, Bonawitz, Ramage 2016, arXiv:1602.07387
(K answers); Ghazi et al., NeurIPS 2021, arXiv:2102.06062 (LP-1ST: labels drawn by it,
and one training on them).
"""

from decimal import ROUND_FLOOR, Context, Decimal
from functools import lru_cache

from starling.protocol.errors import ConfigError
from starling.protocol.learning.task import MICRO

CLASSES_MAX = 1 << 16
DRAW_BITS = 64
"""Random bits that decide whether a label is kept."""
_EPSILON_MICRO_MAX = 1000 * MICRO
_DIGITS = 80
_EXACT = Context(prec=_DIGITS)


@lru_cache(maxsize=64)
def keep_threshold(epsilon_micro: int, classes: int) -> int:
    """The number below which a draw of 64 bits keeps its label.

    Rounded down, so that `q / r` is never above `e^epsilon`.

    Args:
      epsilon_micro: Of one answer, in units of 10^-6; positive.
      classes: K, in [2, 2^16].

    Returns:
      In [2^64 / K - 2, 2^64 - 1]: some draws give another class, however large epsilon.

    Raises:
      ConfigError: If an argument is out of bounds.
    """
    if not 0 < epsilon_micro <= _EPSILON_MICRO_MAX:
        raise ConfigError("must be above 0 and at most 1000", key="epsilon")
    if not 2 <= classes <= CLASSES_MAX:
        detail = f"must be in [2, {CLASSES_MAX}]"
        raise ConfigError(detail, key="classes")
    odds = _EXACT.exp(_EXACT.divide(Decimal(epsilon_micro), Decimal(MICRO)))
    share = _EXACT.divide(odds, _EXACT.add(odds, Decimal(classes - 1)))
    kept = _EXACT.multiply(share, Decimal(1 << DRAW_BITS))
    # One less than the floor, whatever the last of 80 digits was rounded to.
    return int(kept.to_integral_value(ROUND_FLOOR)) - 1


def response_law(epsilon_micro: int, classes: int) -> tuple[float, float]:
    """`q` and `r`, as a loss is corrected with.

    Raises:
      ConfigError: As `keep_threshold`.
    """
    keep = keep_threshold(epsilon_micro, classes) / (1 << DRAW_BITS)
    return keep, (1.0 - keep) / (classes - 1)

"""Exponential backoff: the longer something fails, the more rarely it is tried.

The delay is a bound that grows by a factor with each failure in a row, up to a most.
Whoever waits together with many others draws from below or around that bound, so that
they do not come back in step; who draws how is said where it is drawn:

- links, full jitter: all of (0, bound], as a whole fleet loses its broker at one moment
  (`broker.backoff`);
- a board's requests, half the bound to one and a half (`AgentStep.jittered`): boards
  begin at moments of their own, and the mean wait stays the bound;
- a coordinator's requests, none: they go to one peer each, which differs by key and
  attempt (`request_scheduler`), and a core draws no random numbers for them.

Source: Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015, which
compares full jitter with equal jitter, half the bound and a draw from its other half.
"""

_FAILURES_MAX = 30


def backoff_s(
    first_s: float,
    most_s: float,
    failures: int,
    *,
    growth: float = 2.0,
    failures_max: int = _FAILURES_MAX,
) -> float:
    """The bound of a delay: `min(most_s, first_s * growth ** failures)`.

    Args:
      first_s: Seconds, for no failure before; above 0.
      most_s: Seconds that no bound passes; may be infinite.
      failures: In a row before this delay, at least 0.
      growth: Factor of each failure, at least 1.
      failures_max: Failures that count, so that the power stays finite and, where
        `most_s` comes from a setting, that the bound stops growing in any case.

    Returns:
      Seconds, in (0, `most_s`].
    """
    # Bounded, since a power of very many failures is no float any more.
    return min(most_s, first_s * growth ** min(failures, failures_max))

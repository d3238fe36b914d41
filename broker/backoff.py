"""Reconnect delays: full jitter, slow to forget.

A fleet that lost its broker must not come back in lock-step, so each delay is drawn
from all of (0, bound]. The bound doubles with every failure and falls back only after
a connection was stable, or a broker that accepts and drops would be stormed.

Source: Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

from dataclasses import dataclass

from starling.protocol.backoff import backoff_s

ATTEMPT_MAX = 30
SHORT_LIVED_S = 5.0
"""A connection that ends sooner than this was perhaps taken over."""
TAKEN_OVER_AFTER = 3
"""So many short connections in a row mean that somebody else uses our identity, if the
broker knew our session each time: one that started anew has forgotten all sessions."""


@dataclass(frozen=True)
class BackoffPolicy:
    """Bounds of the delays.

    Attributes:
      first_s: Bound of the first delay.
      most_s: Bound that no delay passes.
      stable_s: A connection that lasted so long clears the failures before it.
    """

    first_s: float = 1.0
    most_s: float = 60.0
    stable_s: float = 30.0


@dataclass(frozen=True)
class Backoff:
    """State that is kept between connections.

    Attributes:
      attempt: Failures since the last stable connection.
      short_lived: Connections in a row that ended within `SHORT_LIVED_S` and went on
        with a session that the broker had kept.
    """

    attempt: int = 0
    short_lived: int = 0

    @property
    def taken_over(self) -> bool:
        """True if another client seems to use the same identity.

        Brokers before Mosquitto 2.1 drop the older connection without a reason.
        """
        return self.short_lived >= TAKEN_OVER_AFTER


def after_loss(
    state: Backoff,
    policy: BackoffPolicy,
    lived_s: float | None,
    told_taken_over: bool,
    uniform: float,
    resumed: bool = True,
) -> tuple[Backoff, float]:
    """The next delay.

    Args:
      state: From the loss before.
      policy: The bounds.
      lived_s: How long the connection lasted; None if there was none.
      told_taken_over: The broker said that another client took the session over.
      uniform: Drawn from [0, 1).
      resumed: Whether the broker had kept our session from before the connection.

    Returns:
      The state to keep, and seconds to wait, in (0, `policy.most_s`]. After a takeover
      at least half of the most, since two clients would drop each other for ever.
    """
    # Not at the connect itself: a broker that accepts and drops at once would be asked
    # again without a pause.
    if lived_s is not None and lived_s >= policy.stable_s:
        state = Backoff()
    short = resumed and lived_s is not None and lived_s < SHORT_LIVED_S
    state = Backoff(
        min(state.attempt + 1, ATTEMPT_MAX), state.short_lived + 1 if short else 0
    )
    # Two clients of one identity end each other's connections: long waits spare the
    # broker their taking turns.
    if told_taken_over or state.taken_over:
        return state, policy.most_s * (1.0 - uniform / 2)
    bound = backoff_s(policy.first_s, policy.most_s, state.attempt - 1)
    return state, bound * (1.0 - uniform)

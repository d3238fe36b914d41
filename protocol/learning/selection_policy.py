"""Selection of boards by what they say of themselves and by their reputation.

    eval      = s1 w1 + s2 w2 + s3 w3       over w1 + w2 + w3
    composite = eval w4 + reputation w5     over w4 + w5

s1 are a board's resources, s2 is its timeliness, s3 its remaining privacy budget: the
three numbers of its CHECK_IN, none of which depends on its data. Everything is in parts
per million; the w's are integers of the task. All zero means that boards are drawn with
equal chances.

Source: Wu and Kang, "Research on Federated Sharing Methods for Massive Data in
Blockchain", algorithm 1 (Select_Client), with these three numbers in place of size,
quality and kind of data, which would tell of a board's records.
"""

from typing import Annotated

from starling.protocol.schema.msgpack_codec import Structure, uint

WEIGHT_MAX = 1_000_000
_Weight = Annotated[int, uint(WEIGHT_MAX)]


class SelectionPolicy(Structure, frozen=True):
    """The five weights of a task.

    Attributes:
      resources: w1.
      timeliness: w2.
      budget: w3.
      own_word: w4, of the three together.
      reputation: w5.
    """

    resources: _Weight = 0
    timeliness: _Weight = 0
    budget: _Weight = 0
    own_word: _Weight = 0
    reputation: _Weight = 0


EQUAL_CHANCES = SelectionPolicy()
"""Every board that waits is as likely as every other."""


def composite_ppm(
    policy: SelectionPolicy, said_ppm: tuple[int, int, int], reputation_ppm: int
) -> int:
    """The composite of a board, in parts per million.

    Args:
      policy: The weights.
      said_ppm: Resources, timeliness and remaining budget, as the board says.
      reputation_ppm: As the chain says.

    Returns:
      10^6 for everybody if the weights are all zero.
    """
    own = (policy.resources, policy.timeliness, policy.budget)
    eval_ppm = _mean(own, said_ppm)
    weights = (policy.own_word, policy.reputation)
    # Without weights every board is worth the same, and chances are equal.
    if not any(weights):
        return 10**6
    return _mean(weights, (eval_ppm, reputation_ppm))


def _mean(weights: tuple[int, ...], values: tuple[int, ...]) -> int:
    total = sum(weights)
    if not total:
        return 0
    return sum(w * each for w, each in zip(weights, values, strict=True)) // total

"""Size of the parts in which a batch is computed: what a board has memory for.

Sums over examples and rows of them come out the same in parts. A large example takes so
long that a part of one costs nothing; of small ones a whole batch is below the bound.
"""

WORKING_BYTES = 32 << 20
"""Of the values between inputs and outputs of one run, as the bundle predicts them."""


def examples_together(example_bytes: int) -> int:
    """The most examples that one run computes, at least 1.

    Args:
      example_bytes: What the values of one example take, as the manifest says.
    """
    return max(1, WORKING_BYTES // max(1, example_bytes))


def part_size(count: int, example_bytes: int) -> int:
    """Number of examples in one run, at least 1.

    Parts are of one size as far as it goes, since a runtime lays out its memory anew
    for each other.

    Args:
      count: Examples in the batch.
      example_bytes: See `examples_together`.
    """
    parts = -(-count // examples_together(example_bytes))
    return -(-count // parts) if parts else 1

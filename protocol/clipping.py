"""How an example's gradient is scaled, so that one record moves a sum by little.

| name | scale of a gradient of norm r, for a clip C | longest result |
|---|---|---|
| `norm` | min(1, C / r): short gradients stay as they are | C |
| `automatic` | C / (r + 0.01): all count about the same | below C |

Both give vectors of at most C, so that noise and charge are the same; C is then only a
unit for `automatic`, which has no clip to be tuned.

Source: Abadi et al. 2016, arXiv:1607.00133 (norm); Bu et al. 2023, arXiv:2206.07136,
section 4.2 (automatic, AUTO-S with gamma = 0.01).
"""

NORM, AUTOMATIC = "norm", "automatic"
INSIDE = 1.0 - 2.0**-24
"""Share of a clip that a board aims at: more than float64 can err by up to d = 2^26."""
CLIPPINGS = (NORM, AUTOMATIC)
"""All of them; a bundle's manifest names one."""
AUTOMATIC_OFFSET = 0.01
NORM_MIN = 1e-30
"""Stands for a norm of 0 under a clip of 0."""


def scale_inside(norm: float, clip: float, kind: str) -> float:
    """The factor with which a board shortens one record's gradient, in float64.

    Args:
      norm: r, finite, at least 0, off by at most 2^-27 of itself.
      clip: C, above 0.
      kind: One of `CLIPPINGS`.
    """
    bound = clip * INSIDE
    if kind == AUTOMATIC:
        return bound / (norm + AUTOMATIC_OFFSET)
    return 1.0 if norm <= bound else bound / norm


def clip_margin(dimension: int) -> float:
    """What share of the clip is given up, so that rounding never exceeds it.

    A float32 sum of m squares is off by at most m 2^-24 of itself in any order, and its
    root by half of that. So with a bound of clip (1 - 2^-12 - d 2^-25) no scaled
    gradient is longer than clip; 2^-12 covers the few roundings of root, quotient and
    products. Never more than a half.

    Args:
      dimension: d, the number of values in a gradient.
    """
    return float(min(2.0**-12 + dimension * 2.0**-25, 0.5))


def clip_scale(norm: float, clip: float, dimension: int, kind: str) -> float:
    """The factor of one example's gradient, as private graphs compute it.

    Args:
      norm: r, at least 0.
      clip: C, at least 0.
      dimension: d.
      kind: One of `CLIPPINGS`.
    """
    bound = clip * (1.0 - clip_margin(dimension))
    if kind == AUTOMATIC:
        return bound / (norm + AUTOMATIC_OFFSET)
    return bound / max(norm, bound, NORM_MIN)

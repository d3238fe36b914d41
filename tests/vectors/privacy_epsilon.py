"""Writes privacy_epsilon.json: epsilons of equal Gaussian releases, from two oracles.

Run with dp-accounting 0.6.0 and mpmath 1.4 installed; neither is needed by the tests.
"""

import json
from itertools import product
from pathlib import Path

# Oracles, installed only where the vectors are made anew.
import dp_accounting  # type: ignore[import-not-found]  # see above
import mpmath  # type: ignore[import-not-found]  # see above

SIGMAS = ("0.5", "0.8", "1.898", "3.419", "6.305", "10", "22.24", "100")
RELEASES = (1, 10, 15, 100, 1000)
DELTAS = ("1e-3", "1e-5", "1e-6", "1e-9")
DIGITS = 60


def exact_epsilon(sigma: str, releases: int, delta: str) -> str:
    """The root of Balle and Wang's equation, to 30 digits.

    Args:
      sigma: Noise multiplier of each release.
      releases: How many.
      delta: Below 1.
    """
    mpmath.mp.dps = DIGITS
    mu = mpmath.sqrt(releases) / mpmath.mpf(sigma)

    def excess(epsilon: mpmath.mpf) -> mpmath.mpf:
        first = mpmath.ncdf(mu / 2 - epsilon / mu)
        second = mpmath.exp(epsilon) * mpmath.ncdf(-mu / 2 - epsilon / mu)
        return first - second - mpmath.mpf(delta)

    low, high = mpmath.mpf(0), mpmath.mpf(1) + mu**2 + 20 * mu
    if excess(low) <= 0:
        return "0"
    for _ in range(180):
        middle = (low + high) / 2
        if excess(middle) > 0:
            low = middle
        else:
            high = middle
    return str(mpmath.nstr(high, 30))


def main() -> None:
    """Writes the file beside this script."""
    rows = []
    for sigma, releases, delta in product(SIGMAS, RELEASES, DELTAS):
        oracle = dp_accounting.get_epsilon_gaussian(
            float(sigma) / releases**0.5, float(delta)
        )
        rows.append(
            {
                "sigma": sigma,
                "releases": releases,
                "delta": delta,
                "exact": exact_epsilon(sigma, releases, delta),
                "dp_accounting": repr(float(oracle)),
            }
        )
    target = Path(__file__).with_suffix(".json")
    lines = ",\n".join(json.dumps(row) for row in rows)
    target.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()

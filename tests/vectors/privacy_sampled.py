"""Writes privacy_sampled.json: Poisson-sampled Gaussian sums, from three oracles.

Run with dp-accounting 0.6.0 and mpmath 1.4 installed; neither is needed by the tests.
"""

import json
import sys
from pathlib import Path

# Oracles, installed only where the vectors are made anew.
import dp_accounting  # type: ignore[import-not-found]  # see above
import mpmath  # type: ignore[import-not-found]  # see above
from dp_accounting.pld import (  # type: ignore[import-not-found]  # see above
    privacy_loss_distribution,
)
from dp_accounting.rdp import (  # type: ignore[import-not-found]  # see above
    RdpAccountant,
)

SCHEDULES = (
    ("0.1", "1", 100),
    ("0.1", "2.5", 100),
    ("0.1", "1.39", 10),
    ("0.1", "1.39", 100),
    ("0.1", "7.23", 100),
    ("0.1", "0.7", 100),
    ("0.01", "1", 1000),
    ("0.01", "0.8", 10000),
    ("0.008533", "1.23", 4687),
    ("0.001", "0.6", 5000),
    ("0.001", "0.8", 300),
    ("0.25", "4", 30),
    ("0.5", "2", 50),
    ("0.9", "3", 20),
    ("1", "10", 10),
    ("1", "1.9", 10),
)
DELTAS = ("1e-4", "1e-5", "1e-8")
MOMENTS = (
    *((rate, sigma) for rate in ("0.1", "0.01", "0.5") for sigma in ("0.6", "1", "4")),
)
ORDERS = ("1.5", "2", "2.5", "3.3", "5", "7.5", "16", "48", "256")
DIGITS = 40
INTERVAL = 1e-4


def divergence(rate: str, sigma: str, order: str) -> str:
    """The Renyi divergence by quadrature, to 20 digits."""
    mpmath.mp.dps = DIGITS
    q, s, a = (mpmath.mpf(value) for value in (rate, sigma, order))

    def density(z: mpmath.mpf) -> mpmath.mpf:
        ratio = 1 - q + q * mpmath.exp((2 * z - 1) / (2 * s * s))
        return mpmath.npdf(z, 0, s) * ratio**a

    ends = sorted({-40 * s, -8 * s, mpmath.mpf(0), a / 2, a - 8 * s, a, a + 8 * s})
    moment = mpmath.quad(density, [*ends, a + 40 * s])
    return str(mpmath.nstr(mpmath.log(moment) / (a - 1), 20))


def epsilons(rate: str, sigma: str, total: int, delta: str) -> tuple[float, float]:
    """What dp-accounting's two accountants say."""
    gaussian = dp_accounting.GaussianDpEvent(float(sigma))
    one = dp_accounting.PoissonSampledDpEvent(float(rate), gaussian)
    accountant = RdpAccountant()
    accountant.compose(dp_accounting.SelfComposedDpEvent(one, total))
    losses = privacy_loss_distribution.from_gaussian_mechanism(
        float(sigma),
        sampling_prob=float(rate),
        value_discretization_interval=INTERVAL,
        use_connect_dots=True,
    ).self_compose(total)
    by_losses = losses.get_epsilon_for_delta(float(delta))
    return float(accountant.get_epsilon(float(delta))), float(by_losses)


def main() -> None:
    """Writes the file beside this script."""
    rows = []
    for rate, sigma, total in SCHEDULES:
        for delta in DELTAS:
            renyi, losses = epsilons(rate, sigma, total, delta)
            case = {"rate": rate, "sigma": sigma, "total": total, "delta": delta}
            rows.append({**case, "rdp": renyi, "pld": losses})
            sys.stdout.write(f"{rows[-1]}\n")
    moments = [
        {"rate": q, "sigma": s, "order": a, "divergence": divergence(q, s, a)}
        for q, s in MOMENTS
        for a in ORDERS
    ]
    parts = [
        f'"{name}": [\n' + ",\n".join(json.dumps(row) for row in table) + "\n]"
        for name, table in (("schedules", rows), ("moments", moments))
    ]
    text = "{\n" + ",\n".join(parts) + "\n}\n"
    Path(__file__).with_suffix(".json").write_text(text)


if __name__ == "__main__":
    main()

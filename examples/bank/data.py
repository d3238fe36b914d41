"""Makes loans of a bank's branches: `python -m examples.bank.data DIR`.

Writes loans.csv, a row a loan with its branch, and test.csv of branches that do not
take part. One loan in about nine is not paid back. The made truth has a bend (young and
old pay worse) that a linear model misses, and noise that none can see through.
"""

import csv
import sys
from pathlib import Path

import numpy as np

SEED = 1
BRANCHES, TEST_BRANCHES = 12, 3
LOANS = (250, 600)
JOBS = {
    "clerk": 0.0,
    "farmer": 0.2,
    "nurse": -0.5,
    "self-employed": 0.9,
    "student": 0.5,
}
HOUSING = {"own": -0.6, "rent": 0.3, "with family": 0.0}
HEADER = ["branch", "age", "income", "amount", "months", "job", "housing", "repaid"]


def loans(branch: int, rng: np.random.Generator) -> list[list[object]]:
    """Rows of one branch, as in `HEADER`; branches differ in wealth and jobs."""
    count = int(rng.integers(*LOANS))
    wealth = rng.normal(0, 0.25)
    shares = rng.dirichlet([3.0] * len(JOBS))
    rows: list[list[object]] = []
    for _ in range(count):
        age = int(np.clip(rng.normal(42, 13), 18, 80))
        income = float(np.exp(rng.normal(7.9 + wealth, 0.45)))
        amount = float(np.exp(rng.normal(8.9, 0.7)))
        months = int(rng.choice([12, 24, 36, 48, 60]))
        job = str(rng.choice(list(JOBS), p=shares))
        housing = str(rng.choice(list(HOUSING), p=[0.4, 0.45, 0.15]))
        load = amount / months / income
        risk = -4.2 + 9.0 * load + JOBS[job] + HOUSING[housing]
        risk += 1.2 * ((age - 45) / 20) ** 2
        repaid = "no" if rng.random() < 1 / (1 + np.exp(-risk)) else "yes"
        cells = [f"branch {branch:02}", age, round(income), round(amount), months]
        rows.append([*cells, job, housing, repaid])
    return rows


def main() -> int:
    """Writes both files."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(SEED)
    branches = [loans(number, rng) for number in range(BRANCHES + TEST_BRANCHES)]
    for name, part in (
        ("loans.csv", branches[:BRANCHES]),
        ("test.csv", branches[BRANCHES:]),
    ):
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(HEADER)
            rows.writerows(row for branch in part for row in branch)
    return 0


if __name__ == "__main__":
    sys.exit(main())

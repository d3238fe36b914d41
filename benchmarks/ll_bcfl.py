"""LL-BCFL's experiment: noise by split by rounds, each cell with its total epsilon.

`python -m benchmarks.ll_bcfl` is `starling reproduce ll-bcfl` with its cells, table
and figures in benchmarks/results/ll_bcfl; it takes the same flags, and goes on where it
was.
"""

import sys
from pathlib import Path

from starling.fleet import reproduce_cli

RESULTS = Path(__file__).parent / "results" / "ll_bcfl"


def main(argv: list[str]) -> int:
    """Runs the experiment, or what is left of it."""
    RESULTS.parent.mkdir(exist_ok=True)
    return reproduce_cli.main(["ll-bcfl", "--out", str(RESULTS), *argv])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

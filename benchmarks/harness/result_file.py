"""What a benchmark found, as benchmarks/results/NAME.json."""

import json
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "results"


def keep(name: str, found: object) -> None:
    """Writes what a benchmark found so far."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")

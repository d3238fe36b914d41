"""Aggregates all versions of a coordinator's home anew; a program of its own.

`python replayed_versions.py HOME` prints, for each version, whether the parameters that
this machine computes have the digest that the chain attests.
"""

import json
import platform
import sys
from pathlib import Path

from starling.coordinator.lineage.lineage_replay import replay
from starling.coordinator.runtime.lineage.lineage_source import LineageSource


def main() -> int:
    """Prints the machine, and whether each version came out bit for bit."""
    source = LineageSource(Path(sys.argv[1]), 0, lambda _height: None)
    try:
        lineage = source.lineage(source.head, None)
        steps = replay(
            lineage.spec, lineage.start, lineage.versions, lineage.open_vector
        )
        exact = {int(step.version): step.exact for step in steps}
    finally:
        source.close()
    document = {"machine": platform.machine(), "exact": exact}
    sys.stdout.write(json.dumps(document) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A coordinator that lies about the aggregate, to see that it is outvoted and named.

It runs the real coordinator, but one number of every model that it computes is wrong.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from coordinator.aggregation.job import Fetch, recompute
from coordinator.aggregation.strategy import ModelState, PackedModel
from coordinator.ledger.views import Job
from coordinator.rim import runner, workers
from coordinator.rim.home import CoordinatorHome
from protocol.keys import OpeningKey
from protocol.task import TaskSpec


def falsified(model: PackedModel) -> PackedModel:
    """The model with its first number changed by one."""
    changed = bytes([model.theta[0] ^ 1]) + model.theta[1:]
    return replace(model, theta=changed)


def _lie(
    key: OpeningKey, spec: TaskSpec, job: Job, before: ModelState, fetch: Fetch
) -> PackedModel:
    return falsified(recompute(key, spec, job, before, fetch))


def main(argv: Sequence[str]) -> int:
    """Runs the coordinator in the folder that is the only argument."""
    setattr(workers, "recompute", _lie)  # noqa: B010 - mypy takes it for a constant
    return runner.run(CoordinatorHome(Path(argv[0])))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""A task for containers to learn: bundle, task.toml, held-out examples, shards, pledge.

`python packaging/docker/demo_task.py DIR` divides the digits that come with Starling.
"""

import sys
from pathlib import Path

import numpy as np

from starling.compiler import compile_model, write_bundle
from starling.fleet.reference_models import build_model
from starling.fleet.runtime.dataset_catalog import open_data_set

SHARDS = 20
SEED = 1
CLASSES = 10
PLEDGE = 64
"""Of every board; a shard has 71 or 72 records."""
_TASK = f"""\
name = "digits"
buffer = 2
leases = 8
pledge_least = 16
pledge_most = {PLEDGE}

[privacy]
releases = 60
"""


def main() -> int:
    """Writes the task."""
    folder = Path(sys.argv[1])
    shards = folder / "shards"
    shards.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(SEED)
    found = open_data_set("digits", rng)
    data, held_out = found.training, found.held_out
    np.savez(folder / "held-out.npz", x=held_out.x, y=held_out.y)
    for number in range(SHARDS):
        part = slice(number, None, SHARDS)
        np.savez(shards / f"{number}.npz", x=data.x[part], y=data.y[part])
    model = build_model("softmax", data.x.shape[1:], CLASSES, rng)
    write_bundle(compile_model(model, loss="cross-entropy"), folder / "bundle")
    (folder / "task.toml").write_text(_TASK, "utf-8")
    (folder / "pledge").write_text(f"{PLEDGE}\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

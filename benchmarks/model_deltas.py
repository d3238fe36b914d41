"""What differences of versions would save of the bytes that boards pull.

`python -m benchmarks.model_deltas` makes versions as `benchmarks.step_control` does,
each update one version late, and packs each one whole and as its difference from one
1, 2, 5 and 10 versions older: integers of 2^-24, which give the same float32 bit for
bit, in planes of bytes, deflated. `--data mnist --model cnn` needs the MNIST files
(STARLING_DATA).
"""

import argparse
import sys
import zlib

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.delayed_versions import late_run, pure_delay
from benchmarks.harness.result_file import keep
from starling.fleet import FleetPlan
from starling.protocol.learning.vector_codecs import from_grid, to_grid

BEHIND = (1, 2, 5, 10)


def packed_bytes(rows: NDArray[np.uint8]) -> int:
    """Length of some planes of bytes, deflated with a code of its own for each."""
    coder = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9)
    size = 0
    for row in rows:
        size += len(coder.compress(row.tobytes())) + len(coder.flush(zlib.Z_BLOCK))
    return size + len(coder.flush())


def delta_bytes(newer: bytes, older: bytes) -> int:
    """Length of the exact difference of two versions' float32."""
    one, other = (to_grid(np.frombuffer(each, "<f4")) for each in (newer, older))
    assert from_grid(other + (one - other)).astype("<f4").tobytes() == newer
    change = one - other
    unsigned = ((change << 1) ^ (change >> 63)).astype("<u8")
    width = -(-max(1, int(unsigned.max()).bit_length()) // 8)
    return packed_bytes(unsigned.view(np.uint8).reshape(-1, 8)[:, :width].T)


def whole_bytes(model: bytes) -> int:
    """Length of a version's float32, deflated."""
    return packed_bytes(np.frombuffer(model, np.uint8).reshape(-1, 4).T)


def main(argv: list[str]) -> int:
    """Prints shares of the bytes of a whole version, and writes them."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.model_deltas")
    made.add_argument("--data", default="digits")
    made.add_argument("--model", default="mlp")
    made.add_argument("--devices", type=int, default=20)
    made.add_argument("--versions", type=int, default=24)
    options = made.parse_args(argv)
    found = {}
    for privacy in ("none", "record"):
        plan = FleetPlan(
            devices=options.devices,
            buffer=5,
            data=options.data,
            model=options.model,
            privacy=privacy,
            until_version=options.versions,
        )
        models: list[bytes] = []
        late_run(plan, pure_delay(1), models.append)
        newest = range(len(models) // 2, len(models))
        sizes = {"whole": [whole_bytes(models[at]) for at in newest]}
        for behind in BEHIND:
            sizes[f"{behind} behind"] = [
                delta_bytes(models[at], models[at - behind])
                for at in newest
                if at >= behind
            ]
        size = len(models[0])
        found[privacy] = {name: float(np.mean(s)) / size for name, s in sizes.items()}
        shown = ", ".join(
            f"{name} {share:.1%}" for name, share in found[privacy].items()
        )
        sys.stdout.write(f"{privacy}: of {size:,} bytes: {shown}\n")
    keep("model_deltas", found)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

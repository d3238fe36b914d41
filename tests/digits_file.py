"""The packed digits of `fleet/datasets/`, made from the copy that scikit-learn ships.

`python -m tests.digits_file` writes the file; a test compares it with scikit-learn's.
The licence lies beside it, in `digits-licence.txt`.
"""

import io
from pathlib import Path

import numpy as np

DIGITS = Path(__file__).parents[1] / "fleet" / "datasets" / "digits.npz"


def packed_digits() -> bytes:
    """The arrays x (1797, 64) and y (1797,), uint8, as one .npz."""
    from sklearn.datasets import load_digits

    shipped = load_digits()
    x, y = shipped.data.astype(np.uint8), shipped.target.astype(np.uint8)
    assert np.array_equal(x, shipped.data)
    assert np.array_equal(y, shipped.target)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=x, y=y)
    return buffer.getvalue()


if __name__ == "__main__":
    DIGITS.write_bytes(packed_digits())

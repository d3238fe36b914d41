"""Finds faults by what cannot be rebuilt: `python -m examples.vibration.detect DIR`.

DIR holds trained.onnx and what `data` made. The threshold is the error that 99 % of
healthy spectra stay under, of which nobody has learned; nothing faulty is needed for
it.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

_QUANTILE = 0.99


def errors(
    session: onnxruntime.InferenceSession, x: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Mean squared errors (n,) of spectra (n, 64)."""
    rebuilt = session.run(None, {session.get_inputs()[0].name: x})[0]
    found: NDArray[np.float32] = ((rebuilt - x) ** 2).mean(axis=1)
    return found


def detected(folder: Path) -> dict[str, float]:
    """Threshold, and what it finds in the test."""
    session = onnxruntime.InferenceSession(folder / "trained.onnx")
    with np.load(folder / "data" / "healthy.npz") as file:
        threshold = float(np.quantile(errors(session, file["x"]), _QUANTILE))
    with np.load(folder / "data" / "test.npz") as file:
        faulty, found = file["faulty"], errors(session, file["x"])
    pairs = found[faulty][:, None] > found[~faulty][None, :]
    return {
        "threshold": threshold,
        "faults_found": float((found[faulty] > threshold).mean()),
        "false_alarms": float((found[~faulty] > threshold).mean()),
        "roc_auc": float(pairs.mean()),
    }


def main() -> int:
    """Prints and writes what was found."""
    folder = Path(sys.argv[1])
    found = detected(folder)
    (folder / "detected.json").write_text(json.dumps(found) + "\n", "utf-8")
    sys.stdout.write(
        f"threshold {found['threshold']:.4f}: finds {found['faults_found']:.1%} of "
        f"faulty spectra, {found['false_alarms']:.1%} false alarms, ROC-AUC "
        f"{found['roc_auc']:.3f}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

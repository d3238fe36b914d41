# What the how-to pages begin with: a fleet with one board, in homes beside each other.
# Run in a copy of the sources; PORT is a free one.
python3 -m venv env && . env/bin/activate
pip wheel -q --no-deps --wheel-dir dist .
pip install -q --no-compile "$(ls dist/starling_fl-*.whl)[fleet]"
mkdir meadow && cd meadow

python - <<'END_OF_DATA'
from pathlib import Path
import numpy as np
import onnx
from starling.fleet.reference_models import build_model
from starling.fleet.runtime.dataset_catalog import open_data_set

rng = np.random.default_rng(1)
digits = open_data_set("digits", rng).training
for board in (1, 2):
    Path(f"data-{board}").mkdir()
    mine = slice(board - 1, None, 2)
    np.savez(f"data-{board}/part.npz", x=digits.x[mine], y=digits.y[mine])
onnx.save(build_model("softmax", digits.x.shape[1:], 10, rng), "model.onnx")
END_OF_DATA
starling compile model.onnx --loss cross-entropy --out bundle

starling broker init --home broker --fleet meadow --bind 127.0.0.1 --host 127.0.0.1 --port "$PORT"
starling coordinator init --home coordinator --fleet meadow --broker broker
starling broker run --home broker 2> broker.log &
starling coordinator run --home coordinator 2> coordinator.log &
until [ -f coordinator/status.json ]; do sleep 0.2; done
starling agent init --home board-1 --data "$PWD/data-1" --pledge 400
starling agent enrol --home board-1
starling coordinator admit board-1/enrolment-request.json --out admission-1.json --home coordinator
starling agent enrol --home board-1 --admission admission-1.json
starling agent run --home board-1 2> board-1.log &
until grep -q '"connected": *true' board-1/status.json 2>/dev/null; do sleep 0.2; done

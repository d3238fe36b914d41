"""The peer of `own_data`: Flower's scikit-learn quickstart on the same table.

Its environment (`pip install 'flwr[simulation]' scikit-learn`) is one of its own, so
its interpreter runs this file. The apps are the quickstart's in shape: each client fits
a linear model for one epoch a round (here of numbers, `SGDRegressor`), the server takes
the mean (FedAvg), and `run_simulation` has Ray run the clients. What the table needs
beyond it is the same as at Starling: a tenth is held out, the rest dealt out over the
clients, and scales are measured over all of it. There is no privacy, no signature and
no proof, and the weights are written as `.npz`.
"""

import importlib
import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import (
    ArrayRecord,
    ConfigRecord,
    Context,
    Message,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from numpy.typing import NDArray
from sklearn.linear_model import SGDRegressor

Reals = NDArray[np.float64]
CLIENTS = 10
client_app = ClientApp()


@cache
def standardised(path: str) -> tuple[Reals, Reals, Reals, Reals]:
    """(n, k) x and (n,) y to learn from, and those held out; once in a process."""
    table = np.loadtxt(path, delimiter=",", skiprows=1)
    table = table[np.random.default_rng(1).permutation(len(table))]
    held = len(table) // 10
    table = (table - table[held:].mean(axis=0)) / table[held:].std(axis=0)
    return table[held:, :-1], table[held:, -1], table[:held, :-1], table[:held, -1]


def regressor(weights: list[Reals]) -> SGDRegressor:
    """Linear model that goes on from coefficients (k,) and intercept (1,)."""
    model = SGDRegressor()
    model.coef_, model.intercept_ = weights
    return model


@client_app.train()  # type: ignore[untyped-decorator] # flwr is not installed here
def train(message: Message, context: Context) -> Message:
    """One epoch on the client's part."""
    place = int(context.node_config["partition-id"])
    path = str(message.content["config"]["table"])
    x, y = (part[place::CLIENTS] for part in standardised(path)[:2])
    model = regressor(message.content["arrays"].to_numpy_ndarrays())
    model.partial_fit(x, y)
    weights = ArrayRecord([model.coef_, model.intercept_])
    counts = MetricRecord({"num-examples": len(x)})
    content = RecordDict({"arrays": weights, "metrics": counts})
    return Message(content=content, reply_to=message)


def server(path: str, rounds: int, out: str) -> ServerApp:
    """Leaves the weights and their R2 on the records that were held out."""
    app = ServerApp()

    @app.main()  # type: ignore[untyped-decorator] # as above
    def main(grid: Grid, context: Context) -> None:
        x, y = standardised(path)[2:]
        start = ArrayRecord([np.zeros(x.shape[1]), np.zeros(1)])
        strategy = FedAvg(fraction_evaluate=0.0, min_available_nodes=CLIENTS)
        found = strategy.start(
            grid=grid,
            initial_arrays=start,
            num_rounds=rounds,
            train_config=ConfigRecord({"table": path}),
        )
        coef, intercept = found.arrays.to_numpy_ndarrays()
        r2 = regressor([coef, intercept]).score(x, y)
        np.savez(out, coef=coef, intercept=intercept, r2=r2)

    return app


def main() -> int:
    """Runs as `flower_quickstart.py TABLE ROUNDS OUT`; prints R2."""
    path, rounds, out = sys.argv[1:]
    resources: dict[str, Any] = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}}
    # By its name, so that Ray's processes import what this one runs as a script.
    run_simulation(
        server_app=server(path, int(rounds), out),
        client_app=importlib.import_module(Path(__file__).stem).client_app,
        num_supernodes=CLIENTS,
        backend_config=resources,
    )
    with np.load(out) as found:
        sys.stdout.write(json.dumps({"r2": float(found["r2"])}) + "\n")
    return 0 if Path(out).exists() else 1


if __name__ == "__main__":
    sys.exit(main())

"""How fast own data are read, and from a CSV file to a model that is taken out.

`python -m benchmarks.own_data [--mb 256] [--runs 3]` writes tables of 20 columns and
reads them as `starling data check` does (`read`), piece by piece without keeping them
(`stream`), as a board does by a bundle's columns (`board`), and with NumPy's `loadtxt`
and the csv module with `float`, in turn, on a part of the file, since those take long.
The peak of memory is of a process of its own. Then `starling fleet run --virtual`
learns from 10,000 rows of 20 columns on 10 boards, and `starling model export` writes
the best version, from the first command's start to the last one's end. Where
STARLING_FLOWER names an interpreter that has Flower, its quickstart learns from the
same file in turn (`harness.flower_quickstart`), three rounds of it; `--learned` does
that alone.
"""

import argparse
import csv
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from starling.protocol.model.table_schema import InputColumn, TableSchema, TargetColumn
from starling.records.data_options import DataOptions
from starling.records.formats.csv_pieces import csv_pieces, open_csv, whole_lines
from starling.records.runtime.bundle_files import known_pieces
from starling.records.runtime.sources import read_source

RESULTS = Path(__file__).parent / "results" / "own_data.json"
GOAL_MB_S = 60
GOAL_LEARNED_S = 10.0
COLUMNS = 20
OWN = ("stream", "read", "board")
FLOWER_ROUNDS = 3
"""As many as its quickstart has."""
FLOWER_ENVIRONMENT = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "RAY_raylet_start_wait_time_s": "300",
    "RAY_worker_niceness": "0",
}
"""Ray's workers have a niceness of 15 else, and starve where anything else runs."""
_PEER_MB = 16
_BLOCK = 1 << 20


def write_table(path: Path, megabytes: int, *, digits: int, texts: bool) -> None:
    """Writes rows of reals until the file is as long as that.

    Args:
      path: The file.
      megabytes: Its length.
      digits: After the point.
      texts: Whether two columns are texts.
    """
    rng = np.random.default_rng(1)
    names = [f"f{place}" for place in range(COLUMNS)]
    names += ["site", "price"] if texts else ["price"]
    with path.open("w") as file:
        file.write(",".join(names) + "\n")
        while file.tell() < megabytes * 1_000_000:
            rows = rng.normal(size=(2000, COLUMNS + 1))
            for row in rows:
                cells = [f"{value:.{digits}f}" for value in row]
                if texts:
                    cells.insert(COLUMNS, f"site {int(abs(row[0]) * 10)}")
                file.write(",".join(cells) + "\n")


def stream(path: Path) -> int:
    """Reads every piece and keeps none; the number of rows."""
    with path.open("rb") as file:
        pieces = whole_lines(iter(partial(file.read, _BLOCK), b""))
        first = next(pieces)
        layout = open_csv(first, path.name)
        found = csv_pieces(chain([first], pieces), layout, path.name)
        return sum(len(piece.lines) for piece in found)


def read(path: Path) -> int:
    """Reads all records, as `starling data check` does; the number of rows."""
    return len(read_source(path, DataOptions(ignore=_texts(path))))


def board(path: Path) -> int:
    """Reads all records as a board does, keeping none; the number of rows."""
    # Imported here, since the peak of memory of other readers is without them.
    from starling.compiler import compile_model
    from starling.fleet.reference_models import build_model

    with path.open() as file:
        names = file.readline().rstrip("\n").split(",")
    inputs = [InputColumn(name) for name in names if name not in ("site", "price")]
    table = TableSchema(tuple(inputs), (TargetColumn("price"),))
    model = build_model("softmax", (len(inputs),), 1, np.random.default_rng(1))
    manifest = compile_model(model, loss="mse").manifest
    pieces = known_pieces(path, replace(manifest, table=table), "", None)
    return sum(len(piece.places) for piece in pieces)


def _texts(path: Path) -> tuple[str, ...]:
    with path.open() as file:
        return ("site",) if "site" in file.readline().split(",") else ()


def numpy_loadtxt(path: Path) -> int:
    """The peer of numbers; the number of rows."""
    return len(np.loadtxt(path, delimiter=",", skiprows=1))


def csv_module(path: Path) -> int:
    """The peer of mixed tables: floats of what the csv module parts."""
    with path.open() as file:
        rows = csv.reader(file)
        texts = {place for place, name in enumerate(next(rows)) if name == "site"}
        found = [
            [float(cell) for place, cell in enumerate(row) if place not in texts]
            for row in rows
        ]
    return len(np.array(found))


READERS: dict[str, Callable[[Path], int]] = {
    "stream": stream,
    "read": read,
    "board": board,
    "loadtxt": numpy_loadtxt,
    "csv": csv_module,
}


def measure(reader: str, path: Path, runs: int) -> dict[str, Any]:
    """Best of some runs, each in a process of its own, and its peak of memory."""
    best, peak = float("inf"), 0.0
    rows = 0
    for _ in range(runs):
        words = [sys.executable, "-m", "benchmarks.own_data", "--one", reader]
        said = subprocess.run([*words, str(path)], capture_output=True, check=True)
        found = json.loads(said.stdout)
        best, rows = min(best, found["seconds"]), found["rows"]
        peak = max(peak, found["peak_mb"])
    size = path.stat().st_size / 1e6
    return {
        "reader": reader,
        "mb": size,
        "rows": rows,
        "seconds": best,
        "mb_s": size / best,
        "peak_mb": peak,
    }


def one(reader: str, path: Path) -> None:
    """Measures this process."""
    started = time.process_time()
    rows = READERS[reader](path)
    seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    document = {"seconds": seconds, "rows": rows, "peak_mb": peak}
    sys.stdout.write(json.dumps(document) + "\n")


def learned(path: Path) -> dict[str, Any]:
    """From the command to an exported model of a virtual fleet, chain verified."""
    starling, report = [sys.executable, "-m", "starling"], path.with_name("report")
    words = [*starling, "fleet", "run", "--virtual", "--json", "--report", str(report)]
    words += ["--data", str(path), "--target", "price", "--patience", "4"]
    out = path.with_name("model.onnx")
    export = [*starling, "model", "export", "--report", str(report)]
    export += ["--version", "best", "--out", str(out)]
    started = time.perf_counter()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = subprocess.run(words, capture_output=True, check=True)
    subprocess.run(export, capture_output=True, check=True)
    wall_s = time.perf_counter() - started
    shutil.rmtree(report)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    document = json.loads(said.stdout)
    return {
        "wall_s": wall_s,
        "processor_s": after.ru_utime
        + after.ru_stime
        - before.ru_utime
        - before.ru_stime,
        "boards": document["config"]["devices"],
        "versions": document["versions"][-1]["version"],
        "r2": document["metrics"]["held_out"]["r2"],
        "verified": document["chain"]["verified"],
        "stopped_because": document["stopped_because"],
    }


def flower(interpreter: str, path: Path) -> dict[str, float]:
    """The peer's three rounds on the same file, from its start to the weights."""
    script = Path(__file__).parent / "harness" / "flower_quickstart.py"
    out = path.with_name("flower.npz")
    started = time.perf_counter()
    said = subprocess.run(
        [interpreter, str(script), str(path), str(FLOWER_ROUNDS), str(out)],
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONPATH": "", **FLOWER_ENVIRONMENT},
    )
    wall_s = time.perf_counter() - started
    return {"wall_s": wall_s, "r2": json.loads(said.stdout.splitlines()[-1])["r2"]}


def house_prices(path: Path) -> None:
    """Writes 10,000 rows of 20 columns of differing scales, and a price of them."""
    rng = np.random.default_rng(2)
    scales = 10.0 ** (np.arange(COLUMNS) % 4)
    x = rng.normal(size=(10_000, COLUMNS)) * scales
    weights = 5000 * ((np.arange(COLUMNS) % 3) - 1) / scales
    y = 200_000 + x @ weights + rng.normal(size=10_000) * 5000
    names = [f"f{place}" for place in range(COLUMNS)] + ["price"]
    np.savetxt(
        path, np.column_stack([x, y]), "%.4f", ",", header=",".join(names), comments=""
    )


def main() -> int:
    """Prints the tables and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mb", type=int, default=256, help="length of a file")
    parser.add_argument("--runs", type=int, default=3, help="of which the best counts")
    parser.add_argument("--learned", action="store_true", help="no reading")
    parser.add_argument("--one", choices=READERS, help=argparse.SUPPRESS)
    parser.add_argument("path", nargs="?", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options.one, options.path)
        return 0
    found: dict[str, Any] = {"goal_mb_s": GOAL_MB_S, "load": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as folder:
        if not options.learned:
            found["read"] = _read_all(Path(folder), options.mb, options.runs)
            _print_read(found["read"])
        found.update(_learn_in_turns(Path(folder) / "prices.csv", options.runs))
    _print_learned(found)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(found, indent=2) + "\n")
    return 0


def _print_read(rows: list[dict[str, Any]]) -> None:
    table = Table(title="CSV of 20 columns of numbers: MB a processor's second")
    for name in ("file", "reader", "MB", "MB/s", "goal", "peak MB"):
        table.add_column(name, justify="right")
    for row in rows:
        numbers = [f"{row[key]:.0f}" for key in ("mb", "mb_s", "peak_mb")]
        goal = str(GOAL_MB_S) if row["reader"] in OWN else ""
        table.add_row(row["file"], row["reader"], *numbers[:2], goal, numbers[2])
    Console().print(table)


def _learn_in_turns(prices: Path, runs: int) -> dict[str, Any]:
    """Each run of ours, and the peer's right behind it where there is one."""
    house_prices(prices)
    interpreter = os.environ.get("STARLING_FLOWER")
    ours, peers = [], []
    for _ in range(runs):
        ours.append(learned(prices))
        if interpreter:
            peers.append(flower(interpreter, prices))
    return {"learned": ours, "flower": peers}


def _print_learned(found: dict[str, Any]) -> None:
    best = min(found["learned"], key=lambda run: run["wall_s"])
    say = Console().print
    say(
        f"CSV of 10,000 x 20 to an exported model of {best['boards']} boards: "
        f"{best['wall_s']:.1f} s (goal {GOAL_LEARNED_S:.0f}), of processors "
        f"{best['processor_s']:.1f} s, {best['versions']} versions, R2 "
        f"{best['r2']:.3f}, chain verified: {best['verified']}"
    )
    for own, peer in zip(found["learned"], found["flower"], strict=False):
        say(
            f"Flower, {FLOWER_ROUNDS} rounds right after: {peer['wall_s']:.1f} s, R2 "
            f"{peer['r2']:.3f}: {peer['wall_s'] / own['wall_s']:.2f} times our "
            f"{own['wall_s']:.1f} s"
        )


def _read_all(folder: Path, megabytes: int, runs: int) -> list[dict[str, Any]]:
    rows = []
    kinds = {
        "4 digits": (4, False),
        "16 digits": (16, False),
        "with texts": (4, True),
    }
    for name, (digits, texts) in kinds.items():
        whole, part = folder / "whole.csv", folder / "part.csv"
        write_table(whole, megabytes, digits=digits, texts=texts)
        with whole.open("rb") as source, part.open("wb") as target:
            lines = islice(source, _PEER_MB * 1_000_000 // len(source.readline()))
            source.seek(0)
            target.writelines(lines)
        peers = ["csv"] if texts else ["loadtxt", "csv"]
        tried = [(own, whole) for own in OWN] + [(peer, part) for peer in peers]
        rows += [
            {"file": name, **measure(reader, file, runs)} for reader, file in tried
        ]
        whole.unlink()
    return rows


if __name__ == "__main__":
    sys.exit(main())

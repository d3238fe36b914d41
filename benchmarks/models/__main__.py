"""Scoreboard of public models: exported, compiled, trained, timed beside their toolkit.

`make models` runs it in an environment of its own. Every stage of a model is a process
with a time limit, and what is done is kept in benchmarks/results/models.json, so that a
run that was stopped goes on where it was.
"""

import argparse
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from benchmarks.models.catalogue import MODULES, catalogue
from benchmarks.models.compiling import TRAIN
from benchmarks.models.exporting import FACTS, LIMIT_S, PEER
from benchmarks.models.public_model import PublicModel
from benchmarks.models.scoreboard import DOCS, summary, told, write_docs
from starling.durable.files import replace_unsynced

RESULT = Path(__file__).parents[1] / "results" / "models.json"
_SETTINGS = {
    "OMP_NUM_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "KERAS_BACKEND": "tensorflow",
    "CUDA_VISIBLE_DEVICES": "",
    "PYTHONWARNINGS": "ignore",
}
_EXAMPLES = """\
examples:
  python -m benchmarks.models
  python -m benchmarks.models --only resnet8 --again
  python -m benchmarks.models --only 'timm*' --json
  python -m benchmarks.models --docs
"""
Rows = dict[str, dict[str, Any]]


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.models",
        description="Try public models on the compiler.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="a name or pattern"
    )
    made.add_argument(
        "--in", action="append", default=[], dest="modules", choices=MODULES
    )
    made.add_argument(
        "--form", action="append", default=[], metavar="FORM", help="only these forms"
    )
    made.add_argument("--again", action="store_true", help="also what is done already")
    made.add_argument("--json", action="store_true", help="print the rows as JSON")
    made.add_argument("--docs", action="store_true", help=f"write {DOCS.name} anew")
    made.add_argument(
        "--timed",
        action="store_true",
        help="time PyTorch and Opacus, too, and show times: the machine is quiet",
    )
    made.add_argument("--keep", type=Path, metavar="DIR", help="keep the files here")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what is not done yet, and prints or writes the table."""
    options = _parser().parse_args(argv)
    rows = _kept()
    wanted: dict[str, dict[str, PublicModel]] = {}
    keys: list[str] = []
    for module, model in catalogue(options.modules):
        if options.only and not any(fnmatch(model.name, p) for p in options.only):
            continue
        mine = [_key(model, form) for form in model.ways]
        keys += mine
        asked = {_key(model, form) for form in options.form or model.ways} & {*mine}
        if options.again or asked - rows.keys():
            wanted.setdefault(module, {})[model.name] = model
    for module, models in wanted.items():
        peers = [PEER] if options.timed else []
        for row in _rows(module, models, options.form, peers, options.keep):
            key = f"{row['model']} | {row['form']}"
            rows = _keep(key, row)
            sys.stderr.write(f"{told(key, row)}\n")
    chosen = {key: rows[key] for key in keys if key in rows}
    if options.json:
        sys.stdout.write(json.dumps(chosen, indent=1) + "\n")
    else:
        sys.stdout.write(summary(chosen))
    if options.docs:
        write_docs(chosen, timed=options.timed)
    return 0


def _kept() -> Rows:
    """What is done already, by other runs beside this one, too."""
    RESULT.parent.mkdir(exist_ok=True)
    return json.loads(RESULT.read_text()) if RESULT.exists() else {}


def _keep(key: str, row: dict[str, Any]) -> Rows:
    """All rows, with a new one; runs beside this one write in turn."""
    with RESULT.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        rows = {**_kept(), key: row}
        replace_unsynced(RESULT, f"{json.dumps(rows, indent=1)}\n".encode())
    return rows


def _key(model: PublicModel, form: str) -> str:
    return f"{model.name} | {form}"


def _rows(
    module: str,
    models: Mapping[str, PublicModel],
    forms: Sequence[str],
    peers: Sequence[str],
    keep: Path | None,
) -> Iterator[dict[str, Any]]:
    """A row for each form of some models of one module."""
    with tempfile.TemporaryDirectory(prefix="models-") as scratch:
        place = Path(scratch)
        if keep is not None:
            place = keep / module.rpartition(".")[2]
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
        ways = [way for model in models.values() for way in model.ways]
        kinds = ",".join([*peers, *(forms or dict.fromkeys(ways))])
        program = [sys.executable, "-m", "benchmarks.models.exporting"]
        with subprocess.Popen(
            [*program, module, str(place), kinds, *models],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | _SETTINGS,
        ) as exporter:
            for line in exporter.stdout or ():
                if line.startswith('["'):
                    name, folder = json.loads(line)
                    tried = [w for w in models[name].ways if w in kinds.split(",")]
                    for form in tried:
                        yield _row(models[name], form, Path(folder))


def _row(model: PublicModel, form: str, folder: Path) -> dict[str, Any]:
    row: dict[str, Any] = {
        "model": model.name,
        "family": model.family,
        "source": model.source,
        "toolkit": model.toolkit,
        "form": form,
    }
    row |= _facts(folder / form)
    if "export_failed" in row:
        return row
    if (folder / PEER).is_dir():
        row[PEER] = _facts(folder / PEER)
    for words in ((model.loss,), (TRAIN,)):
        found, failed = _stage("compiling", *words, str(folder / form))
        if failed:
            return row | {"failed": failed}
        row |= json.loads(found)
        if "refused" in row:
            return row
    return row


def _facts(folder: Path) -> dict[str, Any]:
    file = folder / FACTS
    if not file.exists():
        return {"export_failed": f"not done within {LIMIT_S} s of processor time"}
    facts: dict[str, Any] = json.loads(file.read_text())
    return facts


def _stage(stage: str, *words: str) -> tuple[str, str]:
    """Standard output of a stage, and why it failed ("" if it did not)."""
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.models.{stage}", *words],
        capture_output=True,
        text=True,
        env=os.environ | _SETTINGS,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit {done.returncode}"]
        return "", lines[-1][:400]
    return done.stdout.strip().rpartition("\n")[2], ""


if __name__ == "__main__":
    raise SystemExit(main())

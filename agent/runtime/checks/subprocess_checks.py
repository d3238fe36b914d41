"""Checks that could crash or hang, each in a process of its own."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from starling.agent.runtime.checks.check_rows import fail, ok, warn
from starling.agent.trainer.client import cause_of_end
from starling.broker.health_checks import HealthCheck
from starling.sandbox import child_process

TIMEOUT_S = 120.0
_ENGINE = """
import os
from starling.engine.runtime.onnxruntime_session import onnxruntime
print(onnxruntime.__version__, os.environ.get("ORT_DISABLE_TELEMETRY"))
"""
_FILES = "put .npz, .csv, .tsv or .parquet files there, or pictures by class"
_INSTALL = "install the wheel for this processor: pip install onnxruntime"


def engine_checks(code: str = _ENGINE) -> Iterator[HealthCheck]:
    """Checks that ONNX Runtime starts here, and reports to nobody.

    Args:
      code: What is run; prints its version and whether telemetry is off.
    """
    name = "runtime.onnxruntime"
    with tempfile.TemporaryDirectory() as folder:
        done = _run(("-c", code), folder)
        left = sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*"))
    if done is None:
        yield fail(name, f"no answer within {TIMEOUT_S:.0f} s", _INSTALL)
        return
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        said = lines[-1] if lines else "it said nothing"
        yield fail(name, f"{cause_of_end(done.returncode)}; {said}", _INSTALL)
        return
    version, _, switch = done.stdout.strip().partition(" ")
    yield ok(name, f"{version} starts")
    name = "runtime.telemetry"
    if switch != "1" or left:
        found = f"writes {left[0]}" if left else "not switched off"
        yield fail(name, found, "set ORT_DISABLE_TELEMETRY=1 for the service")
    else:
        yield ok(name, "off: nothing is written, nothing is sent")


def data_checks(folder: Path, label: str, memory_mb: int) -> Iterator[HealthCheck]:
    """Checks that the data set can be read; names the place of its first fault.

    Args:
      folder: Of the data set.
      label: The target's column in CSV files; empty for the last one.
      memory_mb: Most private memory for that, in MiB; 0 for no limit.
    """
    name, place = "data.readable", f"{folder}"
    # Confined like a trainer: the files are hostile bytes, and whoever runs a check may
    # be root.
    words = ("-m", "starling.agent.trainer.data_probe", str(folder), label)
    done = _run((*words, str(memory_mb)), str(folder))
    if done is None:
        yield warn(
            name, f"{place}: not read within {TIMEOUT_S:.0f} s", "use fewer data"
        )
        return
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        said = lines[-1] if lines else cause_of_end(done.returncode)
        yield fail(name, f"{place}: {said}", _FILES)
        return
    found = json.loads(done.stdout)
    if found["refusal"]:
        yield fail(name, found["refusal"], _FILES)
        return
    text = f"{found['records']} records in {found['files']} files"
    fix = "mend that place; records that cannot be used are left out"
    if found["faults"]:
        text += f", {found['unusable']} unusable; the first: {found['faults'][0]}"
    elif not found["is_table"]:
        yield ok(name, text)
        return
    if found["is_table"]:
        fix = "right if the task's bundle names the columns; else it takes numbers only"
    yield (warn if found["records"] else fail)(name, text, fix)


def _run(words: Sequence[str], folder: str) -> subprocess.CompletedProcess[str] | None:
    """Runs Python in a folder that is its home, too; None if it takes too long."""
    # A home of its own, so that whatever a library leaves below it is found.
    environment = {**child_process.environment(), "HOME": folder}
    command = [sys.executable, "-s", "-P", *words]
    try:
        return child_process.run_expendable(command, environment, TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return None

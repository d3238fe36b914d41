"""The mutation gate: plants each bug in a copy of the tree and runs its tests there.

`python -m tests.mutants.run [NAME ...]` prints a line for each bug, and ends with
status 1 if one survives. A bug is killed if one of its tests fails; tests that cannot
even be collected kill nothing.
"""

import argparse
import compileall
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from py_compile import PycInvalidationMode
from queue import SimpleQueue

from tests.mutants.clipping_mutants import CLIPPING
from tests.mutants.consensus_mutants import CHAIN
from tests.mutants.engine_mutants import DOOR
from tests.mutants.ledger_mutants import LEDGER
from tests.mutants.mutant import Mutant
from tests.mutants.privacy_mutants import PRIVACY

MUTANTS = (*PRIVACY, *CLIPPING, *LEDGER, *DOOR, *CHAIN)
ROOT = Path(__file__).parents[2]
TIMEOUT_S = 540.0
_LEFT_OUT = shutil.ignore_patterns(
    ".git",
    ".venv",
    "__pycache__",
    ".*_cache",
    ".hypothesis",
    "build",
    "demo",
    "results",
)
_TESTS_FAILED = 1


def copy_of_tree(folder: Path) -> Path:
    """A copy of the project without what is generated."""
    # The package is links to the folders: a copy of what they lead to would be another.
    copied = shutil.copytree(ROOT, folder / "tree", symlinks=True, ignore=_LEFT_OUT)
    # A file that changes within a second keeps its time; by its hash it is another.
    compileall.compile_dir(
        copied, quiet=2, invalidation_mode=PycInvalidationMode.CHECKED_HASH
    )
    return Path(copied)


@contextmanager
def planted(tree: Path, mutant: Mutant) -> Iterator[None]:
    """The bug stands in the tree inside this block.

    Raises:
      ValueError: If its text does not stand there exactly once.
    """
    path = tree / mutant.file
    sound = path.read_text(encoding="utf-8")
    if sound.count(mutant.old) != 1:
        found = sound.count(mutant.old)
        raise ValueError(f"{mutant.name}: {found} places in {mutant.file}")
    path.write_text(sound.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(sound, encoding="utf-8")


def verdict(tree: Path, mutant: Mutant) -> str:
    """Plants the bug and runs its tests.

    Returns:
      `killed`, `SURVIVED`, or what went wrong.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(tree / "src"), str(tree))),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    with planted(tree, mutant):
        try:
            done = subprocess.run(
                [*command, *mutant.tests],
                cwd=tree,
                env=environment,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return "no answer"
    if done.returncode == _TESTS_FAILED and " failed" in done.stdout:
        return "killed"
    if done.returncode == 0:
        return "SURVIVED"
    return f"pytest ended with {done.returncode}: {done.stdout[-400:]}"


def main() -> int:
    """Runs the gate, or the bugs whose names hold one of the words given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", metavar="NAME", help="a part of a name")
    parser.add_argument("--jobs", type=int, default=2, help="at once (default 2)")
    asked = parser.parse_args()
    chosen = [
        mutant
        for mutant in MUTANTS
        if not asked.words or any(word in mutant.name for word in asked.words)
    ]
    trees: SimpleQueue[Path] = SimpleQueue()

    def judge(mutant: Mutant) -> bool:
        tree = trees.get()
        found = verdict(tree, mutant)
        trees.put(tree)
        print(f"{found:10} {mutant.name}", flush=True)
        return found == "killed"

    with tempfile.TemporaryDirectory() as folder:
        for number in range(asked.jobs):
            (Path(folder) / str(number)).mkdir()
            trees.put(copy_of_tree(Path(folder) / str(number)))
        with ThreadPoolExecutor(asked.jobs) as pool:
            killed = sum(pool.map(judge, chosen))
    print(f"{killed} of {len(chosen)} killed")
    return 0 if killed == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())

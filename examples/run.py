"""Runs the commands of an example's README, one after the other.

`python -m examples.run bank` does what a reader would do by hand: each line of the
README's first block of commands is run as it stands there. `--out DIR` has everything
written there instead of in `build/NAME`.
"""

import argparse
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).parent
_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


def names() -> list[str]:
    """The examples, in order of name."""
    return sorted(page.parent.name for page in FOLDER.glob("*/README.md"))


def commands(name: str, out: Path) -> list[list[str]]:
    """An example's commands, ready to be run with this Python.

    Args:
      name: One of `names()`.
      out: Stands for `build/NAME`.
    """
    page = (FOLDER / name / "README.md").read_text("utf-8")
    found = _BLOCK.search(page)
    assert found, f"{name}/README.md has no block of commands"
    text = found[1].replace("\\\n", " ")
    lines = [shlex.split(line, comments=True) for line in text.splitlines()]
    return [
        [*_program(line[0]), *_arguments(line, name, out)] for line in lines if line
    ]


def _program(word: str) -> list[str]:
    programs = {
        "python": [sys.executable],
        "starling": [sys.executable, "-m", "starling"],
    }
    return programs[word]


def _arguments(line: list[str], name: str, out: Path) -> list[str]:
    """Later words of a command; paths of files in `examples/` become whole ones."""
    whole = [re.sub(rf"^build/{name}(?=/|$)", str(out), word) for word in line[1:]]
    return [re.sub(r"^examples/", f"{FOLDER}/", word) for word in whole]


def main() -> int:
    """Runs one example; the exit status is of the first command that fails."""
    options = argparse.ArgumentParser(
        prog="python -m examples.run", description=__doc__
    )
    options.add_argument("name", choices=names(), nargs="?")
    options.add_argument("--out", type=Path, help="instead of build/NAME")
    options.add_argument("--list", action="store_true", help="names; so without one")
    asked = options.parse_args()
    if asked.name is None:
        sys.stdout.write("\n".join(names()) + "\n")
        return 0
    out = asked.out or Path("build") / asked.name
    began = time.monotonic()
    for words in commands(asked.name, out):
        sys.stdout.write(f"\n$ {shlex.join(words[1:])}\n")
        sys.stdout.flush()
        if status := subprocess.run(words, check=False).returncode:
            return status
    sys.stdout.write(f"\n{asked.name}: {time.monotonic() - began:.0f} s; see {out}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

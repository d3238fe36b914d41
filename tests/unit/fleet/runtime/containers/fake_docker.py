"""A `docker` in PATH that answers as it is told, and notes what it was asked."""

import json
import stat
import sys
from pathlib import Path

_SCRIPT = """\
#!{python} -IS
import json, pathlib, sys
folder = pathlib.Path({folder!r})
words = sys.argv[1:]
given = sys.stdin.read() if "--interactive" in words else ""
with (folder / "asked").open("a") as asked:
    asked.write(json.dumps([words, given]) + "\\n")
for said, status, out, errors in json.loads((folder / "answers").read_text()):
    if said in " ".join(words):
        sys.stdout.write(out)
        sys.stderr.write(errors)
        sys.exit(status)
"""


class FakeDocker:
    """Answers to commands that hold some words; others end well and say nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.answers: list[tuple[str, int, str, str]] = []
        program = folder / "docker"
        program.write_text(_SCRIPT.format(python=sys.executable, folder=str(folder)))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        self.answer("compose version", out="2.26.1-4\n")

    def answer(
        self, words: str, status: int = 0, out: str = "", errors: str = ""
    ) -> None:
        """Commands that hold these words get this from now on."""
        self.answers.insert(0, (words, status, out, errors))
        (self.folder / "answers").write_text(json.dumps(self.answers))

    @property
    def asked(self) -> list[str]:
        """What it was asked, in order."""
        return [" ".join(words) for words, _ in self._notes()]

    @property
    def given(self) -> list[str]:
        """What came on its standard input, where something did."""
        return [given for _, given in self._notes() if given]

    def _notes(self) -> list[tuple[list[str], str]]:
        notes = self.folder / "asked"
        lines = notes.read_text().splitlines() if notes.exists() else []
        return [tuple(json.loads(line)) for line in lines]

"""Files of a new project: what is learned, how, and the commands for it, as text.

The Makefile holds the commands that the manual names; nothing else knows of a project.
"""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from starling.coordinator.task_file.task_settings import TaskSettings
from starling.fleet.plan import PRIVACY_KINDS
from starling.protocol.errors import ConfigError
from starling.protocol.schema.toml_settings import sample

NAME_CHARS_MAX = 64
BUILT_IN = ("digits", "mnist")
"""Data sets that need no path."""
_TEXT_CHARS_MAX = 1024


@dataclass(frozen=True)
class NewProject:
    """Choices of a new project.

    Attributes:
      name: Of the task.
      data: One of `BUILT_IN`, or a path as the Makefile has it.
      target: Column that is learned; empty for the last.
      board_column: Column that names boards; empty for none.
      model: Name of a small model or an ONNX file; empty for one that fits the data.
      privacy: A key of `PRIVACY_KINDS`.
      epsilon: That a board's data may pay in all.
      devices: Boards; 0 for as many as the data name, or 10.
      buffer: Updates that make a version.
      until_version: Where the simulation ends.
    """

    name: str
    data: str = "digits"
    target: str = ""
    board_column: str = ""
    model: str = ""
    privacy: str = "record"
    epsilon: float = 8.0
    devices: int = 0
    buffer: int = 4
    until_version: int = 50

    def __post_init__(self) -> None:
        """Refuses what a Makefile or a task could not hold.

        Raises:
          ConfigError: Naming the flag.
        """
        if not 0 < len(self.name) <= NAME_CHARS_MAX or not self.name.isprintable():
            raise ConfigError(f"1 to {NAME_CHARS_MAX} letters", key="--name")
        for key in ("data", "target", "board_column", "model"):
            text = getattr(self, key)
            if len(text) > _TEXT_CHARS_MAX or not text.isprintable():
                flag = f"--{key.replace('_', '-')}"
                raise ConfigError(f"{text!r} cannot stand in a Makefile", key=flag)
        if self.privacy not in PRIVACY_KINDS:
            known = ", ".join(PRIVACY_KINDS)
            raise ConfigError(f"{self.privacy!r} is none of {known}", key="--privacy")


def project_files(project: NewProject) -> Mapping[str, str]:
    """Contents of the files, by name."""
    return {
        "Makefile": _makefile(project),
        "task.toml": sample(TaskSettings, _task_values(project)),
        "README.md": _readme(project),
        ".gitignore": "build/\n",
    }


def _task_values(project: NewProject) -> dict[str, str | float | int]:
    return {
        "name": project.name,
        "buffer": project.buffer,
        "leases": 2 * project.buffer,
        "privacy.mechanism": PRIVACY_KINDS[project.privacy],
        "privacy.epsilon": project.epsilon,
    }


def _words(*words: str) -> str:
    """Words as a recipe of make has them: quoted for the shell, `$` for make."""
    return shlex.join(words).replace("$", "$$")


def _assigned(words: str) -> str:
    """Words of `_words` as the value of a variable, where `#` begins a comment."""
    return re.sub(r"(\\*)#", r"\1\1\\#", words)


def _data_words(project: NewProject) -> str:
    words = ["--data", project.data, *_table_words(project)]
    return _words(*words)


def _table_words(project: NewProject) -> list[str]:
    found = []
    if project.target:
        found += ["--target", project.target]
    if project.board_column:
        found += ["--board-column", project.board_column]
    return found


def _fleet_words(project: NewProject) -> str:
    words = ["--buffer", str(project.buffer), "--privacy", project.privacy]
    words += ["--epsilon", f"{project.epsilon:g}"]
    words += ["--until-version", str(project.until_version)]
    if project.devices:
        words += ["--devices", str(project.devices)]
    if project.model:
        words += ["--model", project.model]
    return _words(*words)


_MAKEFILE = """\
# {name}: `make` checks the data, simulates a fleet, and writes the model and its card.
STARLING ?= starling
DATA := {data}
FLEET := {fleet}

.PHONY: all
all: check run export card

.PHONY: check
check: ## Say what would be learned from the data, and what is wrong with them
{check}

.PHONY: run
run: ## A fleet in one process; its report lies in build/report
\t$(STARLING) fleet run --virtual $(DATA) $(FLEET) --report build/report

.PHONY: export
export: ## The best version as an ordinary ONNX file, its proof checked
\t$(STARLING) model export --report build/report --out build/model.onnx

.PHONY: card
card: ## What the model is, what it is worth, and what it costs in privacy
\t$(STARLING) model card --report build/report --out build/MODEL.md

.PHONY: fleet
fleet: ## The same with a broker and a process for each board; needs Mosquitto
\t$(STARLING) fleet run $(DATA) $(FLEET) --report build/fleet

.PHONY: publish
publish: ## To boards of your own, after make fleet: make publish COORDINATOR=HOME
\t$(STARLING) coordinator publish --bundle build/fleet/home/bundle --task task.toml \\
\t\t--home $(COORDINATOR)

.PHONY: clean
clean: ## Remove what was made
\trm -rf build
"""


def _makefile(project: NewProject) -> str:
    checked = _words("data", "check", project.data, *_table_words(project))
    check = f"\t$(STARLING) {checked}"
    if project.data in BUILT_IN:
        check = f"\t@echo {project.data}: comes checked"
    return _MAKEFILE.format(
        name=project.name.replace("\\", " "),
        data=_assigned(_data_words(project)),
        fleet=_assigned(_fleet_words(project)),
        check=check,
    )


_README = """\
# {name}

    make            check the data, simulate a fleet, write build/model.onnx, its card
    make run        the simulation alone; DATA and FLEET in the Makefile are its flags
    make fleet      the same as processes, with a broker; leaves a bundle
    make publish COORDINATOR=HOME    task.toml and that bundle, to boards of your own

| file | what it holds |
|---|---|
| `Makefile` | the commands, with the data set and the fleet's flags on top |
| `task.toml` | the task for real boards; every key is explained |
| `build/` | reports, models and cards; made anew at any time |

What an epsilon promises, and to whom, is said before anything is published, and in the
card. `starling --help` names all commands.
"""


def _readme(project: NewProject) -> str:
    return _README.format(name=project.name)

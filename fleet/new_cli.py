"""`starling new`: a project folder with data, model, task and the commands for them."""

import argparse
import json
import os
import shutil
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from starling.protocol.errors import EXIT_DONE, ConfigError
from starling.service.arguments import command

_READABLE = 0o644
_EXAMPLES = """\
  starling new energy --data readings.csv --target kwh --board-column meter
  starling new energy --data readings.csv --model net.onnx --privacy none
  starling new first && make -C first

At a terminal it asks for what no flag says; elsewhere, and with --yes, defaults hold.
Without --data it learns digits, which come with Starling.
"""
_QUESTIONS = (
    ("data", "data: digits, mnist, or a path"),
    ("target", "column that is learned (empty: the last)"),
    ("board_column", "column that names boards (empty: none)"),
    ("model", "model: a name or an ONNX file (empty: one that fits)"),
    (
        "privacy",
        "privacy: record, record-dpsgd, device-gaussian, device-laplace, labels, none",
    ),
)
_ONLY_TABLES = ("target", "board_column")


def main(argv: list[str]) -> int:
    """Runs `starling new`.

    Returns:
      The exit status.

    Raises:
      ConfigError: If the folder holds something, or a flag cannot be.
      StorageError: If the disk refuses.
    """
    options = parser().parse_args(argv)
    # Imported late, so that --help and usage errors are quick.
    from starling.durable.files import storage_errors, write_atomic
    from starling.fleet.plan import FleetPlan
    from starling.fleet.project_files import BUILT_IN, NewProject, project_files

    folder: Path = options.folder
    # Before somebody has answered questions for nothing.
    with storage_errors(folder):
        _refuse_taken(folder)
    _own_file(options.model or "", "--model", suffix=".onnx")
    if options.data and options.data not in BUILT_IN:
        _there(options.data, "--data")
    named = {item.name: item.default for item in fields(NewProject)}
    chosen = {key: getattr(options, key) for key in named if key != "name"}
    if sys.stdin.isatty() and not options.yes:
        _ask(chosen, named, BUILT_IN)
    given = {key: value for key, value in chosen.items() if value is not None}
    given["name"] = options.name or folder.resolve().name
    model = _own_file(given.get("model", ""), "--model", suffix=".onnx")
    data = given.get("data", "digits")
    if data not in BUILT_IN:
        given["data"] = str(_there(data, "--data").resolve())
    if model is not None:
        given["model"] = model.name
    planned = {item.name for item in fields(FleetPlan)}
    # Refuses what no fleet can be, before a folder is made for it.
    FleetPlan(
        **{key: said for key, said in given.items() if said != "" and key in planned}
    )
    files = project_files(NewProject(**given))
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if model is not None:
            shutil.copyfile(model, folder / model.name)
    for name, text in files.items():
        write_atomic(folder / name, text.encode(), _READABLE)
    if options.json:
        document = {"folder": str(folder), "files": sorted(files)}
        sys.stdout.write(json.dumps(document) + "\n")
    else:
        sys.stdout.write(f"made {folder}; next: make -C {folder}\n")
    return EXIT_DONE


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = command(
        "new",
        "A project folder: data, model, task, and the commands for them.",
        _EXAMPLES,
    )
    made.add_argument("folder", type=Path, metavar="FOLDER", help="new, or empty")
    made.add_argument("--name", help="of the task (default: the folder's)")
    made.add_argument(
        "--data", metavar="PATH", help="digits, mnist or data of your own"
    )
    made.add_argument("--target", metavar="COLUMN", help="what is learned")
    made.add_argument("--board-column", metavar="COLUMN", help="whose records they are")
    made.add_argument("--model", help="softmax, linear, mlp, cnn or an ONNX file")
    made.add_argument("--privacy", help="as of `starling fleet run` (default record)")
    made.add_argument("--epsilon", type=float, help="that a board may pay (default 8)")
    made.add_argument("--devices", type=int, help="boards of the simulation")
    made.add_argument("--buffer", type=int, help="updates that make a version")
    made.add_argument("--until-version", type=int, help="where the simulation ends")
    made.add_argument("--yes", action="store_true", help="ask nothing")
    made.add_argument("--json", action="store_true", help="print one JSON document")
    return made


def _ask(
    chosen: dict[str, Any], defaults: dict[str, Any], plain: tuple[str, ...]
) -> None:
    """Asks for what no flag said."""
    for key, question in _QUESTIONS:
        of_table = key in _ONLY_TABLES
        if chosen[key] is not None or (of_table and chosen["data"] in (None, *plain)):
            continue
        shown = f" [{defaults[key]}]" if defaults[key] else ""
        try:
            answer = input(f"{question}{shown}: ").strip()
        except EOFError as error:
            raise ConfigError("ended; --yes takes the defaults", key="input") from error
        chosen[key] = answer or defaults[key]


def _refuse_taken(folder: Path) -> None:
    """Refuses a folder that holds something, or that cannot be made or written to."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ConfigError(
            "something is there already: name a new or an empty folder",
            file=str(folder),
        )
    above = next(each for each in (folder, *folder.parents) if each.exists())
    if not above.is_dir():
        detail = f"{above} is no folder: name one below a folder"
        raise ConfigError(detail, file=str(folder))
    if not os.access(above, os.W_OK | os.X_OK):
        detail = f"this user may not write to {above}: name another folder"
        raise ConfigError(detail, file=str(folder))


def _there(text: str, flag: str) -> Path:
    path = Path(text)
    if not path.exists():
        raise ConfigError("there is no such file or folder", file=text, key=flag)
    return path


def _own_file(text: str, flag: str, suffix: str) -> Path | None:
    """A file that the project takes along; None for a name of ours."""
    return _there(text, flag) if text.endswith(suffix) else None

"""The verb that prints a task's settings."""

import argparse

from starling.coordinator.cli.verb_arguments import AddCommand, show
from starling.coordinator.task_file.task_settings import TaskSettings
from starling.protocol.schema.toml_settings import sample


def add_verbs(add: AddCommand) -> None:
    """Adds `task-template`."""
    add("task-template", _task_template, "print a task.toml with every key")


def _task_template(options: argparse.Namespace) -> int:
    text = sample(TaskSettings, {"name": "my task"})
    return show(options, {"task": text}, text.rstrip("\n"))

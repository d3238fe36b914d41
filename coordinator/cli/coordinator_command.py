"""`starling coordinator`: found a fleet's chain, admit boards, publish tasks, run.

A verb's modules are imported when it is asked for: `status`, which monitors call each
few seconds, needs a tenth of what `run` does.
"""

import argparse
from functools import partial
from importlib import import_module
from typing import Any

from starling.coordinator.cli.verb_arguments import add_command, add_verb
from starling.service.arguments import command

_COMMANDS = {
    "starling.coordinator.cli.verbs.genesis": ("init", "identity", "genesis"),
    "starling.coordinator.cli.verbs.service": (
        "run",
        "install",
        "id",
        "status",
        "check",
    ),
    "starling.coordinator.cli.verbs.recovery": ("resume", "recover"),
    "starling.coordinator.cli.verbs.task_sample": ("task-template",),
}
"""Modules with verbs that print by themselves."""
_VERBS = {
    "starling.coordinator.cli.verbs.boards_and_tasks": (
        "admit",
        "revoke",
        "publish",
        "resume-task",
        "close-task",
        "submit",
    ),
    "starling.coordinator.cli.enrolment": ("enrol",),
    "starling.coordinator.cli.verbs.console_tokens": ("token",),
    "starling.coordinator.cli.verbs.credits_and_governance": (
        "fund",
        "transfer",
        "release",
        "motion",
    ),
    "starling.coordinator.runtime.setup.peer_invitations": ("invite",),
    "starling.coordinator.cli.verbs.learner_admission": ("learner",),
    "starling.coordinator.runtime.setup.pinned_header": ("checkpoint",),
    "starling.coordinator.cli.verbs.key_retirement": ("retire",),
    "starling.coordinator.cli.verbs.version_rollback": ("rollback",),
}
"""Modules with verbs whose result is printed here."""
_EXAMPLES = """\
  starling broker init --home broker --fleet meadow --host broker.example.org
  starling coordinator init --home coordinator --fleet meadow --broker broker
  starling coordinator run --home coordinator
  starling coordinator run --home coordinator --web 8080
  starling coordinator token new --name ana --home coordinator
  starling coordinator admit request.json --out admission.json --home coordinator
  starling coordinator task-template > task.toml
  starling coordinator publish --bundle bundle --task task.toml --home coordinator
  starling coordinator status --home coordinator --json
  starling coordinator check --home coordinator
  starling coordinator install --print-unit

several coordinators, each on its own machine, by one token and no file:
  starling coordinator init --home north --fleet meadow --broker broker --parties 4
  starling coordinator init --home south --token LINE --broker broker
  starling coordinator init --home west --token LINE --at south

the same by files, on each machine and once for all:
  starling coordinator identity --home north --name north --out north.json
  starling coordinator genesis --fleet meadow --out genesis north.json south.json ...
  starling coordinator init --home north --fleet meadow --broker broker \\
      --genesis genesis

one that joins, first to learn:
  starling coordinator checkpoint --out checkpoint --home north
  starling coordinator init --home west --fleet meadow --broker broker \\
      --genesis genesis --join --trusted checkpoint
  starling coordinator learner add west.json --home north

what a quorum decides, from hand to hand:
  starling coordinator motion validator-add west.json --out motion --home north
  starling coordinator motion approve motion --home south
  starling coordinator motion submit motion --home north
  starling coordinator rollback 0 --without BOARD --out motion --home north

STARLING_HOME is the folder when --home is not given.
"""


def main(argv: list[str]) -> int:
    """Runs one verb of `starling coordinator`.

    Returns:
      The exit status.

    Raises:
      FederationError: What the operator must know.
    """
    options = parser(argv[0] if argv else None).parse_args(argv)
    run: Any = options.verb
    status: int = run(options)
    return status


def parser(verb: str | None = None) -> argparse.ArgumentParser:
    """The command's arguments.

    Args:
      verb: The only verb that is wanted; all of them if it is None or none of ours.
    """
    made = command(
        "coordinator",
        "Admits boards and updates, keeps the chain, makes the model.",
        _EXAMPLES,
    )
    verbs = made.add_subparsers(required=True, metavar="VERB")
    adders: dict[str, Any] = dict.fromkeys(_COMMANDS, add_command)
    adders |= dict.fromkeys(_VERBS, add_verb)
    for module in _modules_with(verb):
        import_module(module).add_verbs(partial(adders[module], verbs))
    return made


def _modules_with(verb: str | None) -> list[str]:
    every = {**_COMMANDS, **_VERBS}
    return [name for name, verbs in every.items() if verb in verbs] or list(every)

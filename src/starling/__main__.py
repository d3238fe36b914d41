"""The `starling` command: one word picks the part, and only that part is imported."""

import importlib
import io
import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import TypedDict

from starling import __version__
from starling.durable.files import refusal
from starling.protocol.errors import (
    EXIT_CONFIG,
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_USAGE,
    ConfigError,
    FederationError,
)

COMMANDS = {
    "agent": ("starling.agent.cli", "the service on a board: init, enrol, run, status"),
    "broker": (
        "starling.broker.cli",
        "a Mosquitto broker with the fleet's certificates",
    ),
    "coordinator": (
        "starling.coordinator.cli.coordinator_command",
        "admit boards and updates, keep the chain",
    ),
    "enrol": (
        "starling.coordinator.cli.enrolment",
        "tokens with which boards and coordinators enrol",
    ),
    "compile": ("starling.compiler.cli", "turn an ONNX model into a training bundle"),
    "chain": (
        "starling.coordinator.cli.chain_command",
        "show and verify a chain offline",
    ),
    "reputation": (
        "starling.coordinator.cli.reputation_command",
        "what the chain thinks of each board",
    ),
    "data": ("starling.records.cli", "what would be learned from one's own data"),
    "model": (
        "starling.export.cli",
        "trained versions as ONNX files, with their proof",
    ),
    "diag": ("starling.service.cli", "a bundle for whoever helps, without secrets"),
    "console": ("starling.console.cli", "a coordinator in a browser, and its metrics"),
    "new": ("starling.fleet.new_cli", "a project folder: data, model, task, commands"),
    "top": ("starling.fleet.top_cli", "a running deployment in a terminal"),
    "fleet": ("starling.fleet.cli", "a whole fleet on this machine"),
    "fronts": ("starling.fleet.fronts_cli", "frozen layers that a head is trained on"),
    "tune": (
        "starling.fleet.tune_cli",
        "clip and rate, by simulated fleets on public data",
    ),
    "reproduce": (
        "starling.fleet.reproduce_cli",
        "a paper's experiment, with its epsilons",
    ),
}
_EXTRAS = {
    "compile": "compiler",
    "chain": "coordinator",
    "console": "web",
    "data": "agent",
    "enrol": "coordinator",
    "fronts": "fleet",
    "model": "agent",
    "new": "fleet",
    "reproduce": "fleet",
    "reputation": "coordinator",
    "top": "coordinator",
    "tune": "fleet",
}
_INTERRUPTED = 130


class ChainVersions(TypedDict):
    """Versions of the chain's bytes and of its rules."""

    format: int
    rules: int


class Versions(TypedDict):
    """The object that `starling --version --json` prints."""

    version: str
    chain: ChainVersions
    wire: int


def usage() -> str:
    """The text of `starling --help`."""
    rows = "\n".join(f"  {name:<12} {text}" for name, (_, text) in COMMANDS.items())
    return (
        "usage: starling COMMAND ...\n\n"
        f"{rows}\n\n"
        "examples:\n"
        "  starling fleet run --devices 10 --buffer 4 --data digits\n"
        "  starling compile model.onnx --loss cross-entropy --out bundle/\n"
        "  starling chain verify --home DIR\n"
        "  starling --version --json\n"
        "  starling completion bash\n\n"
        "`starling COMMAND --help` says more; `--version` prints the versions of this\n"
        "release, of the chain that it verifies and of the wire, with --json as JSON.\n"
        "exit status: 0 done, 1 failed, 2 usage, 78 configuration\n"
    )


def main(argv: list[str] | None = None) -> int:
    """Runs one command.

    Returns:
      0 done, 1 failed, 2 usage, 78 configuration, 130 interrupted.
    """
    words = sys.argv[1:] if argv is None else argv
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            # Closed by whoever started us: what is said goes nowhere.
            nowhere = Path(os.devnull).open("w")  # noqa: SIM115 - until the end
            setattr(sys, name, nowhere)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name that the terminal's encoding lacks, or a file's that is no UTF-8, is
        # shown by its numbers, as on standard error.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = _dispatch(words)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of our output has gone, which is its right. What is still buffered
        # goes nowhere, so that flushing it at exit does not fail a second time.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except KeyboardInterrupt:
        return _INTERRUPTED
    return code


def _dispatch(words: list[str]) -> int:
    if not words:
        sys.stderr.write(usage())
        return EXIT_USAGE
    if words[0] in {"-h", "--help"}:
        sys.stdout.write(usage())
        return EXIT_DONE
    if words[0] in {"-V", "--version"}:
        return _show_versions(words[1:])
    if words[0] == "completion":
        return _show_completion(words[1:])
    if words[0] not in COMMANDS:
        sys.stderr.write(f"starling: no command {words[0]!r}\n\n{usage()}")
        return EXIT_USAGE
    return _run(words)


def versions() -> Versions:
    """Versions of the release, the chain and the wire, as `--version --json` has them.

    `chain.format` is the number in blocks and genesis, `chain.rules` the newest rules
    that this release can apply; a chain with newer ones needs a newer release.
    """
    # Loaded here: `starling --help` needs none of it.
    from starling.coordinator.chain.governance.chain_parameters import RULES_VERSION
    from starling.protocol.chain.genesis import FORMAT_VERSION
    from starling.protocol.wire.envelope import ENVELOPE_VERSION

    return {
        "version": __version__,
        "chain": {"format": FORMAT_VERSION, "rules": RULES_VERSION},
        "wire": ENVELOPE_VERSION,
    }


def _show_versions(words: list[str]) -> int:
    if words not in ([], ["--json"]):
        sys.stderr.write(f"starling --version: takes --json alone\n\n{usage()}")
        return EXIT_USAGE
    shown = versions()
    if words:
        sys.stdout.write(json.dumps(shown) + "\n")
    else:
        chain = shown["chain"]
        sys.stdout.write(
            f"starling {shown['version']}, chain format {chain['format']} with rules "
            f"{chain['rules']}, wire {shown['wire']}\n"
        )
    return EXIT_DONE


def _show_completion(words: list[str]) -> int:
    from starling.service.completion import SHELLS, script

    if len(words) != 1 or words[0] not in SHELLS:
        sys.stderr.write(f"usage: starling completion {'|'.join(SHELLS)}\n")
        return EXIT_USAGE
    parsers = {}
    for name, (module, _) in COMMANDS.items():
        # What is not installed here is not completed either.
        with suppress(ModuleNotFoundError):
            parsers[name] = importlib.import_module(module).parser()
    sys.stdout.write(script(words[0], parsers))
    return EXIT_DONE


def _run(words: list[str]) -> int:
    try:
        command: ModuleType = importlib.import_module(COMMANDS[words[0]][0])
        code: int = command.main(words[1:])
    except ModuleNotFoundError as error:
        # A command may import its heavy parts late; either way an extra is missing.
        extra = _EXTRAS.get(words[0], words[0])
        sys.stderr.write(
            f"starling {words[0]}: the package {error.name!r} is missing; "
            f"in a checkout run: pip install '.[{extra}]'\n"
        )
        return EXIT_FAILED
    except ConfigError as error:
        _complain(words[0], str(error))
        return EXIT_CONFIG
    except FederationError as error:
        _complain(words[0], str(error))
        return EXIT_FAILED
    except BrokenPipeError:
        raise
    except OSError as error:
        # What no part expected of the system is still no bug of ours.
        place = "" if error.filename is None else f"{os.fspath(error.filename)}: "
        _complain(words[0], f"{place}{refusal(error)}")
        return EXIT_FAILED
    return code


def _complain(command: str, text: str) -> None:
    """Says why a command ends: as an error where the journal takes levels."""
    from logging import ERROR

    from starling.service.log_lines import is_journal, level_prefix

    prefix = level_prefix(ERROR) if is_journal(2, os.environ) else ""
    lines = f"starling {command}: {text}".splitlines()
    sys.stderr.write("".join(f"{prefix}{line}\n" for line in lines))


if __name__ == "__main__":
    sys.exit(main())

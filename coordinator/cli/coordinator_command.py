"""`starling coordinator`: found a fleet's chain, admit boards, publish tasks, run."""

import argparse
import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from starling.coordinator.chain.consensus.voting_permit import resume
from starling.coordinator.cli import (
    boards_and_tasks,
    console_tokens,
    credits_and_governance,
    enrolment,
    founding,
    joining,
    key_retirement,
    learner_admission,
    self_check,
    version_rollback,
)
from starling.coordinator.cli.status_text import status_shown
from starling.coordinator.publication.task_settings import TaskSettings
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.setup import peer_invitations, pinned_header
from starling.coordinator.runtime.setup.damage_recovery import recover
from starling.coordinator.runtime.setup.double_sign_guard import write_resumption
from starling.coordinator.runtime.setup.genesis_setup import (
    GenesisOptions,
    assemble_genesis,
    found,
    identify,
    read_identity,
)
from starling.coordinator.runtime.verb_types import Run
from starling.durable.files import write_atomic
from starling.protocol.chain.genesis import (
    GENESIS,
    HEARTBEAT_S_MAX,
    FaultModel,
    quorum,
)
from starling.protocol.errors import EXIT_DONE, ConfigError
from starling.protocol.schema.toml_settings import sample
from starling.service import install_verb
from starling.service.arguments import PORT_MAX, command, home_of, whole_number
from starling.service.log_lines import add_log_options, use_log_options
from starling.service.span_file import add_spans, use_spans
from starling.service.unit_files import ServiceKind
from starling.service.web_access import add_web_access, web_access

_READABLE = 0o644
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
    options = parser().parse_args(argv)
    run: Any = options.verb
    status: int = run(options)
    return status


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = command(
        "coordinator",
        "Admits boards and updates, keeps the chain, makes the model.",
        _EXAMPLES,
    )
    verbs = made.add_subparsers(required=True, metavar="VERB")
    _add_founding(verbs)
    _add_serving(verbs)
    boards_and_tasks.add_verbs(partial(_governing, verbs))
    enrolment.add_verbs(partial(_governing, verbs))
    console_tokens.add_verbs(partial(_governing, verbs))
    credits_and_governance.add_verbs(partial(_governing, verbs))
    peer_invitations.add_verbs(partial(_governing, verbs))
    learner_admission.add_verbs(partial(_governing, verbs))
    pinned_header.add_verbs(partial(_governing, verbs))
    key_retirement.add_verbs(partial(_governing, verbs))
    version_rollback.add_verbs(partial(_governing, verbs))
    _verb(verbs, "task-template", _task_template, "print a task.toml with every key")
    return made


def _add_founding(verbs: Any) -> None:  # noqa: ANN401 - argparse has no public type for them
    """Adds the verbs that make keys and a chain."""
    making = _verb(verbs, "init", _init, "make keys, genesis and settings")
    making.add_argument("--fleet", help="name of the fleet")
    making.add_argument("--broker", type=Path, help="folder of `starling broker init`")
    joining.add_token(making)
    founding.add_founding(making)
    making.add_argument(
        "--host",
        default="",
        help="where boards reach the broker (default: the broker's first --host)",
    )
    making.add_argument(
        "--broker-host",
        default="",
        metavar="HOST",
        help="where this coordinator reaches the broker (default: on this machine)",
    )
    making.add_argument(
        "--port", type=whole_number(1, PORT_MAX), default=0, help="the broker's port"
    )
    making.add_argument(
        "--genesis", type=Path, help="of a chain that several coordinators keep"
    )
    making.add_argument(
        "--join", action="store_true", help="the chain admits it later, by a motion"
    )
    _add_heartbeat(making)
    credits_and_governance.add_economy(making)
    peer_invitations.add_peers(making)
    pinned_header.add_pin(making)
    identity = _verb(
        verbs, "identity", _identity, "make keys and show their public side"
    )
    identity.add_argument("--name", default="coordinator", help="for people")
    identity.add_argument("--out", type=Path, help="file to write")
    genesis = _verb(verbs, "genesis", _genesis, "assemble a genesis from identities")
    genesis.add_argument("identities", nargs="+", type=Path, help="identity files")
    genesis.add_argument("--fleet", required=True, help="name of the fleet")
    genesis.add_argument("--out", required=True, type=Path, help="the genesis to write")
    genesis.add_argument(
        "--fault-model",
        choices=[model.name.lower() for model in FaultModel],
        default=FaultModel.BYZANTINE.name.lower(),
        help="crash is for 2 or 3 that trust each other (default byzantine)",
    )
    _add_heartbeat(genesis)
    credits_and_governance.add_economy(genesis)


def _add_serving(verbs: Any) -> None:  # noqa: ANN401 - argparse has no public type for them
    """Adds the verbs that run a coordinator and recover it."""
    running = _verb(verbs, "run", _run, "serve until stopped")
    running.add_argument(
        "--web",
        metavar="[HOST:]PORT",
        help="show it in a browser and to Prometheus, too (default host 127.0.0.1)",
    )
    add_web_access(running)
    add_log_options(running)
    add_spans(running)
    installing = _verb(verbs, "install", _install, install_verb.TEXT)
    install_verb.add_arguments(installing, ServiceKind.COORDINATOR)
    _verb(verbs, "id", _id, "print the coordinator's name")
    _verb(verbs, "status", _status, "show what the running coordinator last wrote")
    text = "say whether all is well; exit 1 if not"
    self_check.add_arguments(_verb(verbs, "check", _check, text))
    resuming = _verb(
        verbs, "resume", _resume, "let it vote again though its journal was lost"
    )
    resuming.add_argument(
        "--height",
        required=True,
        type=int,
        help="vote from here on: above every height at which it may have voted",
    )
    _verb(verbs, "recover", _recover, "set damaged files aside; others replace them")


def _add_heartbeat(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--heartbeat",
        type=whole_number(1, HEARTBEAT_S_MAX),
        default=10,
        metavar="SECONDS",
        help="longest time without a block (default 10)",
    )


def _verb(verbs: Any, name: str, run: Any, text: str) -> argparse.ArgumentParser:  # noqa: ANN401 - argparse has no public type for them
    verb: argparse.ArgumentParser = verbs.add_parser(
        name, help=text, description=text.capitalize() + "."
    )
    verb.add_argument("--home", type=Path, help="the coordinator's folder")
    verb.add_argument("--json", action="store_true", help="print one JSON document")
    verb.set_defaults(verb=run)
    return verb


def _governing(
    verbs: Any,  # noqa: ANN401 - as in `_verb`
    name: str,
    run: Run,
    text: str,
) -> argparse.ArgumentParser:
    def verb(options: argparse.Namespace) -> int:
        return _show(options, *run(_home(options), options))

    return _verb(verbs, name, verb, text)


def _home(options: argparse.Namespace) -> CoordinatorHome:
    return CoordinatorHome(home_of(options).absolute())


def _show(options: argparse.Namespace, document: dict[str, Any], text: str) -> int:
    shown = json.dumps(document, indent=1) if options.json else text
    sys.stdout.write(shown + "\n")
    return EXIT_DONE


def _init(options: argparse.Namespace) -> int:
    home = _home(options)
    if options.token is not None:
        return _show(options, *joining.join(home, options))
    joining.require_broker(options)
    if options.parties is not None:
        return _show(options, *founding.begin(home, options))
    asked = GenesisOptions(
        options.fleet,
        options.broker,
        options.host,
        options.port,
        options.heartbeat,
        options.genesis,
        options.join,
        credits_and_governance.economy(options),
        options.broker_host,
    )
    genesis = found(home, asked)
    peer_invitations.keep_peers(home, options)
    pinned = pinned_header.keep_pinned(home, options.trusted)
    document = {
        "home": str(home.path),
        "id": home.name,
        "fleet": genesis.fleet,
        "chain": genesis.chain_id().hex(),
        "pinned": None if pinned is None else pinned_header.shown(pinned),
    }
    text = f"coordinator {home.name} in {home.path}"
    if pinned is not None:
        text += f"\npins {pinned_header.shown(pinned)}: compare it with its sender's"
    return _show(options, document, text)


def _identity(options: argparse.Namespace) -> int:
    home = _home(options)
    text = identify(home, options.name).to_json()
    if options.out is None:
        sys.stdout.write(text)
        return EXIT_DONE
    write_atomic(options.out, text.encode(), _READABLE)
    document = {"id": home.name, "identity": str(options.out)}
    return _show(options, document, f"coordinator {home.name}: {options.out}")


def _genesis(options: argparse.Namespace) -> int:
    made = assemble_genesis(
        options.fleet,
        [read_identity(path) for path in options.identities],
        FaultModel[options.fault_model.upper()],
        options.heartbeat,
        credits_and_governance.economy(options),
    )
    write_atomic(options.out, GENESIS.pack(made), _READABLE)
    members = made.validators.members
    document = {
        "genesis": str(options.out),
        "chain": made.chain_id().hex(),
        "fault_model": options.fault_model,
        "validators": [member.name for member in members],
        "quorum": quorum(len(members), FaultModel(made.fault_model)),
    }
    text = f"{len(members)} coordinators, {document['quorum']} decide: {options.out}"
    if made.fault_model == FaultModel.CRASH:
        text += "; CRASH-ONLY: safe only while none of them lies"
    return _show(options, document, text)


def _run(options: argparse.Namespace) -> int:
    # Only `run` needs numpy, ONNX Runtime and MQTT.
    from starling.coordinator.runtime.console_process import console_beside
    from starling.coordinator.runtime.enrolment.registrar_threads import (
        registrar_beside,
    )
    from starling.coordinator.runtime.process import run

    home = _home(options)
    use_log_options(options)
    use_spans(options)
    console = console_beside(home.path, options.web, web_access(options), _say)
    with console, registrar_beside(home):
        return run(home)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _install(options: argparse.Namespace) -> int:
    kind = ServiceKind.COORDINATOR
    home = CoordinatorHome(Path(options.home or kind.home).absolute())
    # Enrolment, renewals and revocations of the broker beside it are written there.
    broker = str(ServiceKind.BROKER.home)
    if home.settings_file.exists():
        broker = home.config().broker.home
    writable = [Path(broker).absolute()] if broker else []
    return install_verb.install(kind, options, options.home, writable)


def _id(options: argparse.Namespace) -> int:
    name = _home(options).name
    return _show(options, {"id": name}, name)


def _status(options: argparse.Namespace) -> int:
    home = _home(options)
    home.config()
    more = {"certificates": self_check.certificates_section(home, time.time())}
    shown = status_shown(home.status, more, as_text=not options.json)
    return _show(options, *shown)


def _check(options: argparse.Namespace) -> int:
    return self_check.show(_home(options), options)


def _resume(options: argparse.Namespace) -> int:
    home = _home(options)
    if options.height < 1:
        raise ConfigError("at least 1", key="height")
    chain_id = home.genesis().chain_id()
    validator, height = home.signing_key().public, options.height
    resumption = resume(home.operator_key(), chain_id, validator, height)
    write_resumption(home.state, resumption)
    text = f"votes from height {height} once it is started again"
    return _show(options, {"height": height}, text)


def _recover(options: argparse.Namespace) -> int:
    found = recover(_home(options))
    document = {
        "chain": found.chain,
        "votes": found.votes,
        "kept": [str(path) for path in found.kept],
    }
    return _show(options, document, found.text())


def _task_template(options: argparse.Namespace) -> int:
    text = sample(TaskSettings, {"name": "my task"})
    return _show(options, {"task": text}, text.rstrip("\n"))

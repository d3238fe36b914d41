"""`starling agent`: init, enrol, run, recount, status, train-once."""

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from shlex import quote
from typing import Any

from starling.agent.runtime.enrolment import enrolment_arguments
from starling.protocol.errors import EXIT_DONE, EXIT_FAILED, ConfigError
from starling.protocol.ids import device_name
from starling.protocol.learning.local_optimiser import (
    DescentPolicy,
    OptimiserKind,
    ScheduleKind,
)
from starling.service import install_verb
from starling.service.arguments import HOME_VARIABLE, command, home_of
from starling.service.log_lines import add_log_options, use_log_options
from starling.service.span_file import add_spans, use_spans
from starling.service.unit_files import ServiceKind, is_installed

_EXAMPLES = """\
  starling agent init --home /var/lib/starling --pledge 600
  starling agent enrol --home /var/lib/starling --pledge 600 --token LINE
  starling agent enrol --home /var/lib/starling
  starling agent enrol --home /var/lib/starling --admission admission.json
  starling agent run --home /var/lib/starling
  starling agent status --home /var/lib/starling --json
  starling agent check --home /var/lib/starling
  starling agent install --print-unit
  starling agent recount --home /var/lib/starling --take-data
  starling agent train-once --bundle bundle/ --data data/ --epochs 3
  starling agent train-once --bundle bundle/ --data data/ --epsilon 8 --clip 0.5

--home may be left out where the environment variable STARLING_HOME is set.
"""


def main(argv: list[str]) -> int:
    """Runs one verb of `starling agent`.

    Returns:
      The exit status.

    Raises:
      ConfigError: For the operator's mistakes; exit 78.
      FederationError: For what cannot be done now; exit 1.
    """
    arguments = parser().parse_args(argv)
    verb: Callable[[argparse.Namespace], int] = arguments.run
    return verb(arguments)


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = command("agent", "The service on a board.", _EXAMPLES)
    verbs = made.add_subparsers(required=True, metavar="VERB")
    init = _verb(verbs, "init", _init, "make the board's home and keys; safe to repeat")
    enrolment_arguments.new_home(init)
    enrol = _verb(verbs, "enrol", _enrol, "write the request, or take the admission")
    way = enrol.add_mutually_exclusive_group()
    way.add_argument("--admission", type=Path, help="what the operator gave back")
    enrolment_arguments.token(enrol, way)
    enrolment_arguments.new_home(enrol)
    enrol.add_argument(
        "--replace", action="store_true", help="change over to another fleet"
    )
    rotating = _verb(verbs, "rotate", _rotate, "change the board's key; its id stays")
    rotating.add_argument("--out", type=Path, help="the transaction to write")
    rotating.add_argument(
        "--done", action="store_true", help="go over to the key that the chain knows"
    )
    running = _verb(verbs, "run", _run, "take part, until stopped")
    add_log_options(running)
    add_spans(running)
    counting = _verb(
        verbs, "recount", _recount, "count all that is known, after a loss or a move"
    )
    counting.add_argument(
        "--take-data",
        action="store_true",
        help="move the data set here from another home, with all that was paid",
    )
    counting.add_argument(
        "--from", type=Path, dest="origin", help="that home, if it was moved itself"
    )
    counting.add_argument(
        "--as-fully-spent",
        action="store_true",
        help="count everything as spent where what was paid is not known",
    )
    showing = _verb(
        verbs,
        "status",
        _status,
        "show what the agent is doing; exit 1 if somebody is needed",
    )
    showing.add_argument("--quiet", action="store_true", help="the exit status alone")
    text = "say whether the board is fit; exit 1 if not"
    checking = _verb(verbs, "check", _check, text)
    checking.add_argument(
        "--without-data",
        action="store_true",
        help="leave out all that depends on the data set, to show the rest to others",
    )
    installing = _verb(verbs, "install", _install, install_verb.TEXT)
    install_verb.add_arguments(installing, ServiceKind.AGENT)
    enrolment_arguments.token(installing, installing)
    enrolment_arguments.new_home(installing)
    once = verbs.add_parser("train-once", help="train locally, without any network")
    once.set_defaults(run=_train_once)
    _train_once_arguments(once)
    return made


def _verb(
    verbs: Any,  # noqa: ANN401 - argparse keeps the type of its subparsers private
    name: str,
    run: Callable[[argparse.Namespace], int],
    text: str,
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text)
    parser.add_argument("--home", type=Path, help="the agent's home")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(run=run)
    return parser


def _train_once_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bundle", type=Path, required=True, help="folder or file")
    parser.add_argument("--data", type=Path, required=True, help="folder of data")
    parser.add_argument("--label", default="", help="target column of CSV files")
    parser.add_argument("--epochs", type=int, default=1, help="default 1")
    parser.add_argument("--batch", type=int, default=20, help="default 20")
    parser.add_argument("--learning-rate", type=float, default=0.1, help="default 0.1")
    kinds = [kind.name.lower() for kind in OptimiserKind]
    parser.add_argument("--optimiser", choices=kinds, default=kinds[0])
    schedules = [kind.name.lower() for kind in ScheduleKind]
    parser.add_argument("--schedule", choices=schedules, default=schedules[0])
    parser.add_argument(
        "--epsilon",
        type=float,
        help="train as a fleet would under record-level privacy, at this epsilon for "
        "all releases; nothing is charged, since nothing leaves the board",
    )
    parser.add_argument("--delta", type=float, default=1e-5, help="default 1e-5")
    parser.add_argument(
        "--clip", type=float, default=1.0, help="of a record's gradient; default 1"
    )
    parser.add_argument(
        "--releases", type=int, default=10, help="noised steps; default 10"
    )
    parser.add_argument("--engine", default="ort", help="ort, or ort-training")
    parser.add_argument("--out", type=Path, help="write the parameters, as .npy")
    parser.add_argument("--threads", type=int, default=1, help="default 1")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def _print(arguments: argparse.Namespace, document: dict[str, Any], text: str) -> None:
    sys.stdout.write(json.dumps(document) + "\n" if arguments.json else text)


def _init(arguments: argparse.Namespace) -> int:
    from starling.agent.runtime.storage.agent_home import AgentHome

    home = AgentHome(home_of(arguments))
    is_new = home.begin(enrolment_arguments.first_settings(arguments))
    name = device_name(home.identity())
    document = {"device": name, "home": str(home.path), "new": is_new}
    text = (
        f"{'made' if is_new else 'kept'} board {name}\n"
        f"settings: {home.config_file}\n"
        f"{_pledge_advice(home.config_file, home.config().data.pledge)}"
        f"next: starling agent enrol --home {quote(str(home.path))}\n"
    )
    _print(arguments, document, text)
    return 0


def _enrol(arguments: argparse.Namespace) -> int:
    from starling.agent.runtime.enrolment.token_enrolment import enrol_by_token
    from starling.agent.runtime.storage.agent_home import AgentHome
    from starling.broker.runtime.token_exchange import read_token

    home = AgentHome(home_of(arguments))
    token = None if arguments.token is None else read_token(arguments.token)
    if token is not None:
        home.begin(enrolment_arguments.first_settings(arguments))
    name = device_name(home.identity())
    if arguments.admission is None and token is None:
        request = home.write_request()
        document = {"device": name, "request": str(request)}
        text = (
            f"board {name} asks to be admitted: {request}\n"
            "next: give that file to the operator, who runs\n"
            f"  starling coordinator admit {request.name} --out admission.json\n"
            "then: starling agent enrol "
            f"--home {quote(str(home.path))} --admission admission.json\n"
        )
    else:
        replace = arguments.replace
        if token is None:
            admission = home.accept(arguments.admission, replace=replace)
        else:
            wait_s = arguments.wait
            admission = enrol_by_token(
                home, token, wait_s, enrolment_arguments.show_code, replace=replace
            )
        broker = f"{admission.broker_host}:{admission.broker_port}"
        fleet = admission.genesis.fleet
        document = {"device": name, "fleet": fleet, "broker": broker}
        config = home.config()
        text = (
            f"board {name} belongs to fleet {fleet}, broker {broker}\n"
            f"data: {home.data(config).absolute()}\n"
            f"{_pledge_advice(home.config_file, config.data.pledge)}"
            f"next: {_start(home.path)}\n"
        )
    _print(arguments, document, text)
    return 0


def _pledge_advice(settings: Path, pledge: int) -> str:
    """Line for the owner of a board that pledges nothing: its noise is the largest."""
    if pledge:
        return ""
    return (
        "data.pledge is 0: the board weighs the least that a task allows, and its "
        f"noise is large; write about the number of its records to {settings}\n"
    )


def _start(home: Path) -> str:
    """The command that starts the agent of a home: as a service where there is one."""
    kind = ServiceKind.AGENT
    if home.absolute() == kind.home and is_installed(kind):
        return f"sudo systemctl enable --now {kind.unit_name.removesuffix('.service')}"
    return f"starling agent run --home {quote(str(home))}"


def _rotate(arguments: argparse.Namespace) -> int:
    from starling.agent.runtime.key_rotation import finish, prepare
    from starling.agent.runtime.storage.agent_home import AgentHome
    from starling.durable.locks import lock

    home = AgentHome(home_of(arguments))
    name = device_name(home.identity())
    with lock(home.state / "lock"):
        if arguments.done:
            finish(home)
            _print(arguments, {"device": name}, f"board {name} has its new key\n")
            return 0
        if arguments.out is None:
            raise ConfigError("name the file to write", key="--out")
        prepare(home, arguments.out)
    document = {"device": name, "transaction": str(arguments.out)}
    text = (
        f"board {name} asks for its next key: {arguments.out}\n"
        "next: give that file to the operator, who runs\n"
        f"  starling coordinator submit {arguments.out.name}\n"
        "then, and not before it stands in the chain:\n"
        f"  starling agent rotate --done --home {quote(str(home.path))}\n"
    )
    _print(arguments, document, text)
    return 0


def _run(arguments: argparse.Namespace) -> int:
    from starling.agent.runtime.process import run
    from starling.agent.runtime.storage.agent_home import AgentHome

    use_log_options(arguments)
    use_spans(arguments)
    return run(AgentHome(home_of(arguments)))


def _install(arguments: argparse.Namespace) -> int:
    from starling.agent.runtime.storage.agent_home import AgentHome

    place = arguments.home or ServiceKind.AGENT.home
    home = AgentHome(Path(place).absolute())
    # Whose the data set is, is written beside it.
    writable = [home.data(home.config())] if home.config_file.exists() else []
    token = arguments.token
    if token is None or arguments.print_unit:
        return install_verb.install(ServiceKind.AGENT, arguments, home.path, writable)
    from starling.agent.runtime.enrolment.service_enrolment import install_and_enrol

    return install_and_enrol(arguments, home.path, writable)


def _recount(arguments: argparse.Namespace) -> int:
    from starling.agent.runtime.privacy_ledger.ledger_recount import recount
    from starling.agent.runtime.storage.agent_home import AgentHome
    from starling.durable.locks import lock

    home = AgentHome(home_of(arguments))
    data = home.data(home.config())
    admission = home.admission()
    with lock(home.state / "lock"):
        found = recount(
            home,
            data,
            chain=None if admission is None else admission.pinned.chain_id,
            take_data=arguments.take_data,
            origin=arguments.origin,
            as_fully_spent=arguments.as_fully_spent,
        )
    aside = None if found.aside is None else str(found.aside)
    document = {"kept": found.kept, "counted": list(found.added), "aside": aside}
    lines = [f"kept {found.kept} entries", *(f"counted {each}" for each in found.added)]
    if aside is not None:
        lines.append(f"the ledger as it was: {aside}")
    _print(arguments, document, "\n".join(lines) + "\n")
    return 0


def _status(arguments: argparse.Namespace) -> int:
    from starling.agent.runtime.status_reader import (
        is_well,
        read_shared,
        read_status,
        readable,
    )
    from starling.agent.runtime.storage.agent_home import AgentHome

    # Who gives no home means the service, whose group may look at it.
    named = arguments.home or os.environ.get(HOME_VARIABLE)
    document = read_status(AgentHome(Path(named))) if named else read_shared()
    if not arguments.quiet:
        _print(arguments, document, readable(document))
    return EXIT_DONE if is_well(document) else EXIT_FAILED


def _check(arguments: argparse.Namespace) -> int:
    from starling.agent.runtime.checks.memory_limit import memory_limit

    # Said first: what is imported now may be more than there is.
    if (limit := memory_limit()) is not None:
        sys.stderr.write(limit.warning)
    from starling.agent.runtime.checks.agent_check import check_agent
    from starling.agent.runtime.storage.agent_home import AgentHome
    from starling.broker.health_checks import checks_json, checks_text, failed

    home = AgentHome(home_of(arguments))
    rows = []
    for row in check_agent(home, with_data=not arguments.without_data):
        rows.append(row)
        if not arguments.json:
            sys.stdout.write(checks_text([row]))
            sys.stdout.flush()
    if arguments.json:
        sys.stdout.write(checks_json(rows))
    return EXIT_FAILED if failed(rows) else EXIT_DONE


def _train_once(arguments: argparse.Namespace) -> int:
    from starling.agent.trainer.train_once import (
        LocalTrial,
        PrivateTrial,
        readable,
        train_once,
    )
    from starling.protocol.privacy.gaussian_dp import Budget

    private = None
    if arguments.epsilon is not None:
        budget = Budget(arguments.epsilon, arguments.delta)
        private = PrivateTrial(budget, arguments.clip, arguments.releases)
    descent = DescentPolicy(
        OptimiserKind[arguments.optimiser.upper()],
        schedule=ScheduleKind[arguments.schedule.upper()],
    )
    trial = LocalTrial(
        arguments.epochs, arguments.batch, arguments.learning_rate, descent, private
    )
    document = train_once(
        arguments.bundle,
        arguments.data,
        trial,
        label=arguments.label,
        threads=arguments.threads,
        engine=arguments.engine,
        out=arguments.out,
    )
    _print(arguments, document, readable(document))
    return 0

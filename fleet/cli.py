"""`starling fleet`: a whole fleet on this machine, as processes or in containers."""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from starling.fleet import container_cli
from starling.fleet.plan_flags import add_plan_flags, pace_of, plan_of
from starling.protocol.errors import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    ConfigError,
)
from starling.service.arguments import EXIT_STATUS, command
from starling.service.log_lines import add_verbosity, use_verbosity
from starling.service.span_file import add_spans, use_spans

_EXAMPLES = f"""\
  starling fleet run
  starling fleet run --devices 10 --buffer 4 --privacy record --epsilon 8 --report demo
  starling fleet run --coordinators 4 --fault 'kill coordinator 2 at 20s'
  starling fleet run --web 8080
  starling fleet run --virtual --fault 'boards 1-2 flip signs from version 0'
  starling fleet run --virtual --fault 'boards 20 % leave from 10s to 30s'
  starling fleet run --virtual --coordinators 4 --fault 'coordinator 4 lies from 9s'
  starling fleet run --data mnist --split dirichlet:0.5 --privacy none --json
  starling fleet run --data mnist --model head --front whitened --epsilon 2
  starling fleet run --data own.csv --target price --board-column site --virtual
  starling fleet run --data pictures/ --model mine.onnx --freeze 'features.*'
  starling fleet run --virtual --devices 1000 --buffer 100 --until-version 50
  starling fleet run --virtual --virtual-time --speed-sigma 1 --over-select 0.3

Data sets are found through STARLING_DATA. With --report the fleet's homes stay in
DIR/home, where `starling chain verify --home DIR/home/coordinator` finds the chain.

In containers, once `make image` has built the image (docs/containers.md):

{container_cli.EXAMPLES}"""


def main(argv: list[str]) -> int:
    """Runs one verb of `starling fleet`.

    Returns:
      The exit status.

    Raises:
      FederationError: What the user must know.
    """
    options = parser().parse_args(argv)
    if options.verb in container_cli.VERBS:
        return container_cli.run_verb(options)
    plan = plan_of(options)
    if options.virtual and options.home is not None:
        raise ConfigError("virtual boards have no homes", key="--home")
    if options.virtual and options.spans is not None:
        raise ConfigError("virtual boards take no time of their own", key="--spans")
    if not options.virtual:
        for flag in ("waves", "over_select", "virtual_time"):
            if getattr(options, flag):
                key = f"--{flag.replace('_', '-')}"
                raise ConfigError("only virtual fleets can; add --virtual", key=key)
    use_spans(options)
    if options.verbose:
        use_verbosity(options)
    return _run(options, plan)


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = command(
        "fleet",
        "A whole fleet on this machine: broker, coordinator and boards.",
        _EXAMPLES,
        f"{EXIT_STATUS}, 130 interrupted",
    )
    verbs = made.add_subparsers(dest="verb", required=True, metavar="VERB")
    run = verbs.add_parser(
        "run", help="start a fleet, watch it learn, stop it, leave a report"
    )
    add_plan_flags(run)
    _add_output(run)
    container_cli.add_verbs(verbs)
    return made


def _add_output(run: argparse.ArgumentParser) -> None:
    group = run.add_argument_group("what it leaves")
    group.add_argument(
        "--report", type=Path, metavar="DIR", help="report.json, plots, the view"
    )
    group.add_argument(
        "--home", type=Path, metavar="DIR", help="keep broker, chain and boards here"
    )
    group.add_argument(
        "--json", action="store_true", help="print the report to standard output"
    )
    group.add_argument(
        "--log",
        action="append",
        default=[],
        metavar="KIND",
        help="write a version's figures as it is evaluated: tensorboard:DIR,"
        " mlflow:URI, wandb or wandb:PROJECT; may be given several times",
    )
    group.add_argument(
        "--web",
        metavar="[HOST:]PORT",
        help="show the first coordinator in a browser while the fleet runs",
    )
    add_spans(group)
    add_verbosity(
        group,
        "show neither view nor lines, and no summary of a run in which all went well",
        "a line for each version in place of the view; processes log for debugging",
    )


def _run(options: argparse.Namespace, plan: Any) -> int:  # noqa: ANN401 - its module is imported late
    from rich.console import Console

    from starling.coordinator.runtime.console_process import console_beside
    from starling.fleet.report.run_report import summary
    from starling.fleet.runtime.metric_logs import metric_logs
    from starling.fleet.runtime.process_run import run_processes
    from starling.fleet.runtime.processes.home_setup import FleetHomes
    from starling.fleet.runtime.terminal_screen import (
        TerminalScreen,
        terminated_as_interrupted,
    )
    from starling.fleet.runtime.virtual_run import run_virtual
    from starling.service.web_access import WebAccess

    kept = options.report / "home" if options.report else None
    with (
        terminated_as_interrupted(),
        tempfile.TemporaryDirectory() as spare,
        TerminalScreen(
            metric_logs(options.log), quiet=options.quiet, verbose=options.verbose
        ) as screen,
    ):
        if options.virtual:
            pace = pace_of(options)
            shown = options.web is not None
            home = kept or (Path(spare) if shown else None)
            first = FleetHomes(home or Path(spare)).coordinator.absolute()
            with console_beside(first, options.web, WebAccess(), screen.say):
                made = run_virtual(
                    plan, pace, on_snapshot=screen.show, home=home, live=shown
                )
        else:
            home = options.home or kept or Path(spare)
            first = FleetHomes(home).coordinator.absolute()
            with console_beside(first, options.web, WebAccess(), screen.say):
                made = run_processes(plan, home, screen)
        screen.show(made.heading, made.last, is_last=True)
    if options.report:
        _leave(options.report, made)
        screen.say(f"report: {options.report}")
    if options.json:
        sys.stdout.write(json.dumps(made.document, indent=2) + "\n")
    elif not options.quiet or not made.outcome.sound:
        Console().print(summary(made.heading, made.last, made.outcome))
    if not made.outcome.sound:
        return EXIT_FAILED
    interrupted = made.outcome.stopped_because == "interrupted"
    return EXIT_INTERRUPTED if interrupted else EXIT_DONE


def _leave(folder: Path, made: Any) -> None:  # noqa: ANN401 - as above
    from starling.fleet.runtime.report_files import write_report, write_view

    write_report(folder, made.document)
    write_view(folder / "view.svg", made.heading, made.last)

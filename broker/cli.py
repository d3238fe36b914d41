"""`starling broker`: a Mosquitto broker with the fleet's certificates and rights."""

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from shlex import quote

from starling.broker.broker_settings import BrokerSettings, ascii_host
from starling.broker.health_checks import checks_json, checks_text, failed
from starling.broker.runtime.broker_certificates import CertificateMonitor
from starling.broker.runtime.broker_check import check_broker
from starling.broker.runtime.broker_home import BrokerHome
from starling.broker.runtime.enrolment_files import EnrolmentListener
from starling.broker.runtime.installation.included_listener import (
    USUAL_FILE,
    IncludedListener,
)
from starling.broker.runtime.mosquitto_process import MosquittoProcess
from starling.durable.locks import lock
from starling.protocol.errors import EXIT_DONE, EXIT_FAILED, ConfigError, OperationError
from starling.service import install_verb
from starling.service.arguments import PORT_MAX, command, whole_number
from starling.service.notifications import ServiceNotifier
from starling.service.unit_files import ServiceKind

_EXAMPLES = """\
  starling broker init --home broker/ --fleet garden --host broker.example.org
  starling broker init --home broker/ --enrol-port 8884
  starling broker run --home broker/
  starling broker check --home broker/ --json
  starling broker install --print-unit
  starling broker install --mosquitto --print
  starling broker expel l2nqfxzwqkhzmzdpvsmw6tqr3e --home broker/
"""


def main(argv: list[str]) -> int:
    """Runs `starling broker` with the words after it.

    Returns:
      The exit status.

    Raises:
      ConfigError, OperationError, StorageError: Printed by the caller.
    """
    arguments = parser().parse_args(argv)
    if arguments.verb == "install":
        place = None if arguments.home is None else Path(arguments.home)
        if arguments.mosquitto or arguments.print or arguments.remove:
            home = BrokerHome(place or ServiceKind.BROKER.home)
            return _include(home, arguments)
        return install_verb.install(ServiceKind.BROKER, arguments, place)
    home = BrokerHome(Path(arguments.home))
    match arguments.verb:
        case "init":
            return _init(home, arguments)
        case "run":
            return _run(home, arguments)
        case "expel":
            return _expel(home, arguments)
        case _:
            return _check(home, arguments)


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = command(
        "broker",
        "A Mosquitto broker with the fleet's certificates and rights.",
        _EXAMPLES,
    )
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--home",
        metavar="DIR",
        default=os.environ.get("STARLING_HOME", "starling-broker"),
        help="the broker's folder (default: $STARLING_HOME, else ./starling-broker)",
    )
    shared.add_argument("--json", action="store_true", help="print one JSON document")
    verbs = made.add_subparsers(dest="verb", required=True, metavar="VERB")
    init = verbs.add_parser(
        "init",
        parents=[shared],
        help="make the folder, or change it; what is not named stays as it is",
    )
    _add_settings(init)
    verbs.add_parser("run", parents=[shared], help="run it until SIGTERM or Ctrl-C")
    verbs.add_parser("check", parents=[shared], help="check the running broker")
    expel = verbs.add_parser(
        "expel",
        parents=[shared],
        help="take all rights from a coordinator or board",
        description="Take all rights from a coordinator or a board. A running broker "
        "reads that at once and neither delivers to it nor takes from it any more; its "
        "connection itself ends when the broker is restarted. It may be repeated, and "
        "`init --coordinator NAME` takes it back.",
    )
    expel.add_argument("name", metavar="NAME", help="its user name, which is its id")
    install = verbs.add_parser("install", help=install_verb.TEXT)
    install.add_argument("--home", metavar="DIR", help="the broker's folder")
    install.add_argument("--json", action="store_true", help="print one JSON document")
    install_verb.add_arguments(install, ServiceKind.BROKER)
    _add_inclusion(install)
    return made


def _add_inclusion(install: argparse.ArgumentParser) -> None:
    install.description = (
        f"{install.description} With --mosquitto: put the fleet's listener into a "
        "Mosquitto that is here already, as one file in the folder that its "
        "configuration includes. No other file of it is touched; what stands against "
        "it there is named."
    )
    install.add_argument(
        "--mosquitto",
        nargs="?",
        type=Path,
        const=USUAL_FILE,
        metavar="FILE",
        help=f"the configuration of a broker that is here (default: {USUAL_FILE})",
    )
    install.add_argument(
        "--print",
        action="store_true",
        help="with --mosquitto: print the file and write nothing",
    )
    install.add_argument(
        "--remove", action="store_true", help="with --mosquitto: remove the file"
    )


def _add_settings(init: argparse.ArgumentParser) -> None:
    init.add_argument("--fleet", help="name of the fleet; needed the first time")
    init.add_argument(
        "--rename",
        action="store_true",
        help="give a finished broker --fleet's other name, which puts all clients out",
    )
    init.add_argument(
        "--bind",
        metavar="ADDRESS",
        help="listen here (default: 0.0.0.0; `::` for IPv6 and IPv4)",
    )
    init.add_argument(
        "--port", type=whole_number(1, PORT_MAX), help="TCP port (default: 8883)"
    )
    init.add_argument(
        "--enrol-port",
        type=whole_number(0, PORT_MAX),
        metavar="PORT",
        help="let newcomers with a token enrol at this TCP port, such as 8884; "
        "0 closes it (default: closed)",
    )
    init.add_argument(
        "--host",
        action="append",
        metavar="NAME",
        help="a name or address under which boards reach it; may be repeated, and the "
        "first is what boards are told",
    )
    init.add_argument(
        "--coordinator",
        action="append",
        metavar="ID",
        default=[],
        help="give this user a coordinator's rights; may be repeated",
    )


def _init(home: BrokerHome, arguments: argparse.Namespace) -> int:
    before = home.settings()
    if before is None and arguments.fleet is None:
        raise ConfigError("--fleet NAME is needed the first time", key="fleet")
    known = before or BrokerSettings(arguments.fleet)
    # The name stands in every topic, and in what boards have enrolled with.
    if arguments.fleet not in (None, known.fleet) and not arguments.rename:
        raise ConfigError(
            f"this broker serves {known.fleet!r}, and boards and coordinators of that "
            "name would all be refused; to rename it all the same, add --rename",
            key="fleet",
        )
    named = known.hosts if arguments.host is None else arguments.host
    hosts = tuple(map(ascii_host, named))
    settings = BrokerSettings(
        fleet=arguments.fleet or known.fleet,
        bind=arguments.bind or known.bind,
        port=arguments.port or known.port,
        hosts=hosts,
        # `--coordinator` adds and never takes away: who is not named again would lose
        # its rights; `expel` is for that.
        coordinators=tuple(sorted({*known.coordinators, *arguments.coordinator})),
        peers=known.peers,
        expelled=tuple(sorted({*known.expelled} - {*arguments.coordinator})),
        enrol_port=(
            known.enrol_port if arguments.enrol_port is None else arguments.enrol_port
        ),
        pid_file=known.pid_file,
    )
    if settings.enrol_port == settings.port:
        raise ConfigError(f"{settings.port} is --port already", key="--enrol-port")
    undone = home.prepare(settings)
    _print_warnings(undone)
    if arguments.json:
        facts = {
            **asdict(settings),
            "authority": str(home.authority_certificate),
            "not_issued": undone,
        }
        _print_json({"home": str(home.path), **facts})
    else:
        sys.stdout.write(
            f"{home.path}: broker of fleet {settings.fleet} on port {settings.port}\n"
            f"Boards pin {home.authority_certificate}\n"
            f"Next: starling broker run --home {quote(str(home.path))}\n"
        )
    return EXIT_FAILED if undone else EXIT_DONE


def _print_warnings(undone: tuple[str, ...]) -> None:
    for line in undone:
        sys.stderr.write(f"warning: {line}\n")


def _expel(home: BrokerHome, arguments: argparse.Namespace) -> int:
    changed = home.expel(arguments.name)
    # After the file is on disk, which is what the signal makes Mosquitto read.
    reloaded = home.reload_running()
    if arguments.json:
        _print_json({"name": arguments.name, "changed": changed, "reloaded": reloaded})
    else:
        done = "expelled" if changed else "was expelled before"
        counts = "from now on"
        if not reloaded:
            counts = "from the broker's next start or reload on"
        sys.stdout.write(f"{arguments.name} {done}; {counts}\n")
    return EXIT_DONE


def _include(home: BrokerHome, arguments: argparse.Namespace) -> int:
    listener = IncludedListener(home, arguments.mosquitto or USUAL_FILE)
    if arguments.print:
        sys.stdout.write(listener.text())
        _print_warnings(listener.warnings())
        return EXIT_DONE
    file, warnings = listener.file, listener.warnings()
    if arguments.remove:
        done, warnings = "removed" if listener.remove() else "there was no", ()
    else:
        done = "wrote"
        listener.write()
    _print_warnings(warnings)
    if arguments.json:
        _print_json({"file": str(file), "done": done, "warnings": warnings})
        return EXIT_DONE
    sys.stdout.write(
        f"{done} {file}\nnext: start Mosquitto again, for instance with\n"
        f"  sudo systemctl restart mosquitto\n"
    )
    if not arguments.remove:
        sys.stdout.write(
            f"then: starling broker check --home {quote(str(home.path))}\n"
        )
    return EXIT_DONE


def _run(home: BrokerHome, arguments: argparse.Namespace) -> int:
    notifier = ServiceNotifier.from_environment()
    settings = home.require_settings()
    process = home.process(log_to_file=False)
    # Before the lock, since whoever finds it taken may send SIGHUP.
    stopped = _stop_on_signals(process)
    with lock(home.lock_file):
        # Certificates that end soon are renewed at every start.
        _print_warnings(home.prepare(settings))
        with process, _enrolment(home, settings) as newcomers:
            if stopped:
                # The signal came before there was a child to pass it on to.
                process.terminate()
            facts = {
                "bind": settings.bind,
                "port": settings.port,
                "enrol_port": settings.enrol_port,
                "pid": process.pid,
            }
            if arguments.json:
                _print_json(facts)
            where = f"listening on {settings.bind} port {settings.port}"
            if settings.enrol_port:
                where += f", for newcomers port {settings.enrol_port}"
            sys.stderr.write(f"{where}\n")
            # Only once both listeners accept: units that wait for the broker connect at
            # once.
            notifier.ready(where)

            certificates = CertificateMonitor(home.certificates, home.require_settings)

            def alive() -> None:
                notifier.feed(time.monotonic())
                newcomers.keep()
                if (found := certificates.look()) is not None:
                    _print_warnings(found.undone)
                    if "server" in found.issued:
                        # Mosquitto reads its certificate again.
                        process.reload()
                        newcomers.reload()

            status = process.wait(alive)
            notifier.stopping()
    # By itself it ends on a fault, and systemd starts the service again on a failure
    # alone.
    if not stopped:
        raise OperationError(f"Mosquitto ended by itself with status {status}")
    return EXIT_DONE


@contextmanager
def _enrolment(
    home: BrokerHome, settings: BrokerSettings
) -> Iterator[EnrolmentListener]:
    """Runs the listener for newcomers during the block, if there is one."""
    process = gate = None
    if settings.enrol_port:
        process = home.enrolment.process(log_to_file=False)
        gate = home.enrolment.gate(settings)
    listener = EnrolmentListener(process, gate)
    try:
        listener.start()
        yield listener
    finally:
        listener.stop()


def _stop_on_signals(process: MosquittoProcess) -> list[int]:
    """Ends the broker on SIGTERM and SIGINT; the list tells that one has come."""
    stopped: list[int] = []

    def stop(number: int, _frame: object) -> None:
        stopped.append(number)
        process.terminate()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    signal.signal(signal.SIGHUP, lambda _number, _frame: process.reload())
    return stopped


def _check(home: BrokerHome, arguments: argparse.Namespace) -> int:
    checks = check_broker(home)
    show = checks_json if arguments.json else checks_text
    sys.stdout.write(show(checks))
    return EXIT_FAILED if failed(checks) else EXIT_DONE


def _print_json(document: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(document, indent=2) + "\n")
    sys.stdout.flush()

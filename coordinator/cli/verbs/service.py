"""The verbs that run a coordinator and look at it."""

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from starling.coordinator.cli import self_check
from starling.coordinator.cli.status_text import status_shown
from starling.coordinator.cli.verb_arguments import AddCommand, home_in, show
from starling.coordinator.runtime.home import CoordinatorHome
from starling.service import install_verb
from starling.service.log_lines import add_log_options, use_log_options
from starling.service.span_file import add_spans, use_spans
from starling.service.unit_files import ServiceKind
from starling.service.web_access import add_web_access, web_access


def add_verbs(add: AddCommand) -> None:
    """Adds `run`, `install`, `id`, `status` and `check`."""
    running = add("run", _run, "serve until stopped")
    running.add_argument(
        "--web",
        metavar="[HOST:]PORT",
        help="show it in a browser and to Prometheus, too (default host 127.0.0.1)",
    )
    add_web_access(running)
    add_log_options(running)
    add_spans(running)
    installing = add("install", _install, install_verb.TEXT)
    install_verb.add_arguments(installing, ServiceKind.COORDINATOR)
    add("id", _id, "print the coordinator's name")
    add("status", _status, "show what the running coordinator last wrote")
    text = "say whether all is well; exit 1 if not"
    self_check.add_arguments(add("check", _check, text))


def _run(options: argparse.Namespace) -> int:
    # Only `run` needs numpy, ONNX Runtime and MQTT.
    from starling.coordinator.runtime.console_process import console_beside
    from starling.coordinator.runtime.enrolment.registrar_threads import (
        registrar_beside,
    )
    from starling.coordinator.runtime.process import run

    home = home_in(options)
    use_log_options(options)
    use_spans(options)

    @contextmanager
    def beside() -> Iterator[None]:
        console = console_beside(home.path, options.web, web_access(options), _say)
        with console, registrar_beside(home):
            yield

    return run(home, beside=beside())


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _install(options: argparse.Namespace) -> int:
    kind = ServiceKind.COORDINATOR
    home = CoordinatorHome(Path(options.home or kind.home).absolute())
    # Enrolment, renewals and revocations of the broker beside it are written there.
    broker = str(ServiceKind.BROKER.home)
    # `install` may come before `init`.
    if home.settings_file.exists():
        broker = home.config().broker.home
    writable = [Path(broker).absolute()] if broker else []
    return install_verb.install(kind, options, options.home, writable)


def _id(options: argparse.Namespace) -> int:
    name = home_in(options).name
    return show(options, {"id": name}, name)


def _status(options: argparse.Namespace) -> int:
    home = home_in(options)
    home.config()
    more = {"certificates": self_check.certificates_section(home, time.time())}
    shown = status_shown(home.status, more, as_text=not options.json)
    return show(options, *shown)


def _check(options: argparse.Namespace) -> int:
    return self_check.show(home_in(options), options)

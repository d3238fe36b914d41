"""`starling fleet up | down | logs | chaos`: a fleet in containers, by compose."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from starling.board_profiles.board_detection import AUTO, choose
from starling.fleet.containers.compose_plan import (
    DEFAULT_IMAGE,
    DEFAULT_PROJECT,
    ContainerPlan,
    check_project,
    limits_of,
    logs_words,
)
from starling.protocol.errors import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
)
from starling.service.arguments import waiting_s, whole_number

EXAMPLES = """\
  starling fleet up --devices 20
  starling fleet up --devices 20 --coordinators 4 --timeout 600
  starling fleet logs coordinator-1 --follow
  starling fleet chaos 'restart broker at 5s; board 3 loses power at 10s'
  starling fleet chaos 'boards 20 % leave from 5s to 30s; board 2 pauses from 9s to 60s'
  starling fleet chaos 'link of board 4 drops 100 % from 5s to 65s' --json
  starling fleet down --volumes
"""
_UP = """\
Starts broker, coordinators and devices with docker compose, or changes how many devices
there are, and waits until every device is enrolled and new versions become final.
`make image` in a checkout builds the image."""
_UP_EXAMPLES = """\
  starling fleet up
  starling fleet up --devices 20 --coordinators 4
  starling fleet up --devices 4 --boards-per-device 5 --board zero2w
  starling fleet up --devices 20 --no-wait --json
"""
_DOWN = """\
Removes containers and network. Volumes stay, and with them keys, chain, data and the
privacy that was spent: `up` goes on from there. With --volumes they go too."""
_DOWN_EXAMPLES = """\
  starling fleet down
  starling fleet down --volumes
"""
_LOGS = "Shows what containers wrote; of all services, or of those that are named."
_LOGS_EXAMPLES = """\
  starling fleet logs
  starling fleet logs broker coordinator-1 --follow
  starling fleet logs device --tail 20 --json
"""
_CHAOS = """\
Has things go wrong in a fleet that `up` started, by the timeline of `fleet run
--fault`, with times from now on; looks on for a while, and then checks every chain.
What is killed stays down until the timeline, or `up`, starts it; `up` mends no link and
ends no pause. Ctrl-C ends what was to end later."""
_CHAOS_EXAMPLES = """\
  starling fleet chaos 'kill broker at 5s; restart broker at 15s'
  starling fleet chaos 'board 3 loses power at 10s; boards 20 % leave from 10s to 30s'
  starling fleet chaos 'board 2 pauses from 5s to 60s'
  starling fleet chaos 'link of board 4 drops 100 % from 5s to 65s'
  starling fleet chaos 'link of board 2 carries 64 kbit/s; link of board 3 drops 5 %'
  starling fleet chaos 'kill coordinator 2 at 5s; restart coordinator 2 at 20s'
  starling fleet chaos 'partition 1 2 | 3 4 from 5s to 20s; coordinator 4 lies from 25s'
"""
_TAIL_MAX = 1_000_000
_TIMEOUT_S = 300.0
_WATCH_S = 15.0


def add_verbs(verbs: Any) -> None:  # noqa: ANN401 - argparse keeps its type private
    """Adds the four verbs to those of `starling fleet`."""
    _add_up(_add(verbs, "up", "start a fleet in containers", _UP, _UP_EXAMPLES))
    down = _add(verbs, "down", "remove a fleet in containers", _DOWN, _DOWN_EXAMPLES)
    down.add_argument("--volumes", action="store_true", help="keys, chain and data too")
    _add_logs(_add(verbs, "logs", "what containers wrote", _LOGS, _LOGS_EXAMPLES))
    text = "have things go wrong in containers"
    chaos = _add(verbs, "chaos", text, _CHAOS, _CHAOS_EXAMPLES)
    chaos.add_argument("timeline", metavar="TIMELINE", help="see docs/containers.md")
    chaos.add_argument(
        "--watch",
        type=waiting_s,
        default=_WATCH_S,
        metavar="SECONDS",
        help=f"after the last entry (default {_WATCH_S:g})",
    )


def _add_up(up: argparse.ArgumentParser) -> None:
    plan = ContainerPlan()
    up.add_argument(
        "--devices",
        type=int,
        default=plan.devices,
        help=f"containers with a board each (default {plan.devices})",
    )
    up.add_argument(
        "--coordinators", type=int, default=1, help="1, or 4 of which three decide"
    )
    up.add_argument(
        "--image",
        default=DEFAULT_IMAGE,
        help=f"on this machine (default {DEFAULT_IMAGE})",
    )
    up.add_argument(
        "--boards-per-device",
        type=int,
        default=plan.boards,
        metavar="N",
        help=f"boards in each container, each with a home and data of its own (default "
        f"{plan.boards})",
    )
    up.add_argument(
        "--board",
        default=AUTO,
        metavar="PROFILE",
        help="have each board the memory and processors of a profile, such as zero2w",
    )
    up.add_argument(
        "--memory",
        type=int,
        metavar="MIB",
        help=f"limit of each board (default the profile's, else {plan.memory_mb})",
    )
    up.add_argument(
        "--between",
        type=waiting_s,
        default=plan.between_s,
        metavar="SECONDS",
        help="least time between two updates of a device; the privacy budget is for 60"
        f" (default {plan.between_s:g})",
    )
    up.add_argument(
        "--timeout",
        type=waiting_s,
        default=_TIMEOUT_S,
        metavar="SECONDS",
        help=f"in which it has to learn (default {_TIMEOUT_S:g})",
    )
    up.add_argument(
        "--no-wait", action="store_true", help="do not wait until it learns"
    )


def _add_logs(logs: argparse.ArgumentParser) -> None:
    logs.add_argument(
        "services",
        nargs="*",
        metavar="SERVICE",
        help="setup, server, links, broker, coordinator-N, device",
    )
    logs.add_argument("--follow", action="store_true", help="go on until Ctrl-C")
    logs.add_argument(
        "--tail",
        type=whole_number(0, _TAIL_MAX),
        default=100,
        metavar="LINES",
        help="of each container first (default 100)",
    )


def _add(
    verbs: Any,  # noqa: ANN401 - as above
    name: str,
    text: str,
    description: str,
    examples: str,
) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser(
        name,
        help=text,
        description=description,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument(
        "--project",
        default=DEFAULT_PROJECT,
        metavar="NAME",
        help=f"of the fleet, for compose (default {DEFAULT_PROJECT})",
    )
    verb.add_argument("--json", action="store_true", help="print JSON")
    return verb


def run_verb(options: argparse.Namespace) -> int:
    """Runs one of the four verbs.

    Returns:
      The exit status.

    Raises:
      FederationError: What the user must know.
    """
    check_project(options.project)
    return VERBS[options.verb](options)


def _up(options: argparse.Namespace) -> int:
    from starling.fleet.runtime.containers.container_fleet import (
        ContainerFleet,
        start,
        wait_until_it_learns,
    )
    from starling.fleet.runtime.containers.docker_engine import DockerEngine

    plan = asked_plan(options)
    fleet = ContainerFleet(DockerEngine(), plan.project)
    each = f" of {plan.boards} boards each" if plan.boards > 1 else ""
    _say(f"starting {plan.devices} devices{each}; coordinators: {plan.coordinators}")
    start(fleet, plan)
    if options.no_wait:
        now = fleet.progress(fleet.rows())
    else:
        now = wait_until_it_learns(fleet, plan, options.timeout, _say)
    document = {"project": plan.project, "waited": not options.no_wait}
    said = "started" if options.no_wait else "it learns"
    _show(options, document | now.document(), f"{said}: {now.text}")
    return EXIT_DONE


def asked_plan(options: argparse.Namespace) -> ContainerPlan:
    """The fleet that is asked for.

    Raises:
      ConfigError: If docker would not take it, or there is no such profile.
    """
    from starling.board_profiles.catalog import catalog

    plan = ContainerPlan(
        options.devices,
        options.coordinators,
        options.project,
        options.image,
        between_s=options.between,
        boards=options.boards_per_device,
    )
    if options.board != AUTO:
        profile = choose(catalog(), options.board, "", 1, 1)
        memory_mb, cpus = limits_of(profile)
        plan = replace(plan, memory_mb=memory_mb, cpus=cpus, profile=profile.name)
    memory_mb = plan.memory_mb if options.memory is None else options.memory
    return replace(plan, memory_mb=memory_mb)


def _down(options: argparse.Namespace) -> int:
    from starling.fleet.runtime.containers.container_fleet import (
        ContainerFleet,
        remove,
    )
    from starling.fleet.runtime.containers.docker_engine import DockerEngine

    fleet = ContainerFleet(DockerEngine(), options.project)
    removed = remove(fleet, volumes=options.volumes)
    kept = "" if options.volumes else "; volumes stay, see --volumes"
    document = {"project": options.project, "removed": list(removed)}
    text = f"removed {len(removed)} containers{kept}"
    _show(options, document | {"volumes": options.volumes}, text)
    return EXIT_DONE


def _logs(options: argparse.Namespace) -> int:
    from starling.fleet.runtime.containers.container_fleet import (
        COMPOSE_FILE,
        ContainerFleet,
    )
    from starling.fleet.runtime.containers.docker_engine import DockerEngine

    words = logs_words(
        options.project,
        str(COMPOSE_FILE),
        options.services,
        follow=options.follow,
        tail=options.tail,
    )
    docker = DockerEngine()
    docker.require_compose()
    ContainerFleet(docker, options.project).require_rows()
    with docker.stream(*words) as shown:
        assert shown.stdout is not None
        try:
            for line in shown.stdout:
                _log_line(line.rstrip("\n"), as_json=options.json)
        except KeyboardInterrupt:
            shown.terminate()
            return EXIT_INTERRUPTED
    return EXIT_DONE if shown.returncode == 0 else EXIT_FAILED


def _log_line(line: str, *, as_json: bool) -> None:
    if as_json:
        container, _, text = line.partition("|")
        row = {"container": container.strip(), "text": text.removeprefix(" ")}
        line = json.dumps(row)
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _chaos(options: argparse.Namespace) -> int:
    from starling.fleet.containers.container_chaos import chaos_plan
    from starling.fleet.containers.container_list import coordinators_of, devices_of
    from starling.fleet.runtime.containers.chaos_run import ChaosRun
    from starling.fleet.runtime.containers.container_fleet import ContainerFleet
    from starling.fleet.runtime.containers.docker_engine import DockerEngine

    docker = DockerEngine()
    docker.require()
    fleet = ContainerFleet(docker, options.project)
    rows = fleet.require_rows()
    sizes = len(coordinators_of(rows)), len(devices_of(rows))
    plan = chaos_plan(options.timeline, *sizes)
    outcome = ChaosRun(fleet, plan, _say).carry_out(options.watch)
    chains = "; ".join(
        f"{name} {'verifies' if good else 'DOES NOT VERIFY'}"
        for name, good in outcome.verified.items()
    )
    text = (
        f"before: {outcome.before.text}\nafter:  {outcome.after.text}\n"
        f"chains: {chains or 'no coordinator is up, none was checked'}"
    )
    _show(options, outcome.document(), text)
    if not outcome.sound:
        return EXIT_FAILED
    return EXIT_INTERRUPTED if outcome.interrupted else EXIT_DONE


def _show(options: argparse.Namespace, document: Mapping[str, Any], text: str) -> None:
    sys.stdout.write((json.dumps(document) if options.json else text) + "\n")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


VERBS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "up": _up,
    "down": _down,
    "logs": _logs,
    "chaos": _chaos,
}

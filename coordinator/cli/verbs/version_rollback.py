"""`starling coordinator rollback`: a version made again without some boards."""

import argparse
from pathlib import Path

from starling.coordinator.cli.verbs.credits_and_governance import (
    approve,
    deciding,
    drawn_up,
    motion_shown,
)
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.operations import version_rollback
from starling.coordinator.runtime.operations.chain_decision import (
    add_wait,
)
from starling.coordinator.runtime.operations.decided_submission import submit_and_wait
from starling.coordinator.runtime.verb_types import AddVerb, Shown
from starling.durable.files import write_atomic
from starling.protocol.chain.governance import MOTION
from starling.protocol.chain.task_rollback import ROLLBACK
from starling.protocol.errors import ConfigError, ProtocolError
from starling.protocol.ids import DeviceId, device_from_name
from starling.protocol.wire.envelope import MessageKind

_READABLE = 0o644


def add_verbs(add: AddVerb) -> None:
    """Adds `rollback`."""
    verb = add(
        "rollback", _rollback, "make a version again without some boards' updates"
    )
    verb.add_argument("task", type=int, help="the task's number")
    verb.add_argument(
        "--without", nargs="+", required=True, metavar="BOARD", help="whose updates"
    )
    verb.add_argument(
        "--version", type=int, help="the version to make again (default: the newest)"
    )
    verb.add_argument(
        "--from",
        dest="first",
        type=int,
        metavar="VERSION",
        help="leave out what they sent after it (default: all that they sent)",
    )
    verb.add_argument(
        "--out",
        type=Path,
        help="the motion to write, for the other validators to approve; a coordinator "
        "that decides alone needs none",
    )
    add_wait(verb)


def _rollback(home: CoordinatorHome, options: argparse.Namespace) -> Shown:
    # Before the version is made again, which may take minutes.
    if options.out is None and len(deciding(home).members) > 1:
        raise ConfigError("name the file for the other validators", key="--out")
    boards = [_board(name) for name in options.without]
    made = version_rollback.remake(
        home, options.task, boards, options.version, options.first
    )
    asked = made.rollback
    motion = approve(home, drawn_up(home, MessageKind.ROLLBACK, ROLLBACK.pack(asked)))
    version_rollback.hand_over(home, made)
    document = {
        "task": options.task,
        "again": asked.again,
        "from": asked.first,
        "left_out": made.left_out,
        "kept": made.kept,
    }
    text = (
        f"version {asked.again} made again from version {asked.first}: {made.kept} "
        f"updates, {made.left_out} left out"
    )
    if options.out is not None:
        write_atomic(options.out, MOTION.pack(motion), _READABLE)
        shown, said = motion_shown(home, motion)
        return {**document, "motion": shown}, f"{text}\n{said}"
    body, kind = MOTION.pack(motion), MessageKind.ROLLBACK
    decision = submit_and_wait(home, kind, body, options.wait, "not rolled back")
    done = decision.text("rolled back", "whether it is rolled back")
    return {**document, **decision.document()}, f"{text}; {done}"


def _board(name: str) -> DeviceId:
    try:
        return device_from_name(name)
    except ProtocolError as error:
        raise ConfigError(str(error), key="--without") from error

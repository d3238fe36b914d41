"""The operator's verbs about boards and tasks, and about what others have signed."""

import argparse
from dataclasses import asdict
from pathlib import Path

from starling.coordinator.chain.execution.transaction_table import TRANSACTIONS
from starling.coordinator.runtime import command_inbox
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.operations import board_admission, task_publication
from starling.coordinator.runtime.operations.chain_decision import (
    add_wait,
    await_decision,
)
from starling.coordinator.runtime.verb_types import AddVerb, Shown
from starling.durable.files import read_limited, write_atomic
from starling.protocol.chain.enrolment import DOCUMENT_BYTES_MAX, request_from_json
from starling.protocol.errors import ConfigError, ProtocolError
from starling.protocol.ids import TASKS_MAX
from starling.protocol.wire.envelope import ENVELOPE, MessageKind


def add_verbs(add: AddVerb) -> None:
    """Adds `admit`, `revoke`, `publish`, `resume-task`, `close-task` and `submit`."""
    admit = add("admit", _admit, "admit a board")
    admit.add_argument("request", type=Path, help="the board's enrolment-request.json")
    admit.add_argument("--out", required=True, type=Path, help="the admission to write")
    add_wait(admit)
    revoke = add("revoke", _revoke, "exclude a board for good")
    revoke.add_argument("device", help="the board's id")
    add_wait(revoke)
    publish = add("publish", _publish, "publish a task")
    publish.add_argument("--bundle", required=True, type=Path, help="a bundle's folder")
    publish.add_argument("--task", required=True, type=Path, help="task.toml")
    publish.add_argument(
        "--root",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a root set that updates are scored with, as in evaluation.root: its "
        "digest goes into the task; several times, too",
    )
    publish.add_argument(
        "--force", action="store_true", help="though too few boards are admitted for it"
    )
    add_wait(publish)
    again = add("resume-task", _resume_task, "let a task go on that pauses")
    again.add_argument("task", type=_task, help="its number")
    add_wait(again)
    close = add("close-task", _close_task, "end a task for good")
    close.add_argument("task", type=_task, help="its number")
    add_wait(close)
    hand = add("submit", _submit, "hand in a transaction that was signed elsewhere")
    hand.add_argument("file", type=Path, help="the transaction")
    add_wait(hand)


def _admit(home: CoordinatorHome, options: argparse.Namespace) -> Shown:
    try:
        request = request_from_json(read_limited(options.request, DOCUMENT_BYTES_MAX))
    except ProtocolError as error:
        raise ConfigError(str(error), file=str(options.request)) from error
    admitted = board_admission.admit(home, request, options.wait)
    write_atomic(options.out, admitted.admission.to_json().encode())
    document = {
        "device": admitted.name,
        "admission": str(options.out),
        "broker": admitted.broker,
        **admitted.decision.document(),
    }
    connects = f"it connects to {admitted.broker}; give it {options.out}"
    return document, f"{admitted.text()}\n{connects}"


def _revoke(home: CoordinatorHome, options: argparse.Namespace) -> Shown:
    name = options.device
    decision = board_admission.revoke(home, name, options.wait)
    document = {"device": name, **decision.document()}
    return document, board_admission.revoked_text(name, decision)


def _publish(home: CoordinatorHome, options: argparse.Namespace) -> Shown:
    text = read_limited(options.task, DOCUMENT_BYTES_MAX).decode(errors="replace")
    drafted = task_publication.draft(
        home,
        options.bundle,
        text,
        str(options.task),
        force=options.force,
        roots=options.root,
    )
    decision = task_publication.publish(home, drafted, options.wait)
    spec = drafted.made.spec
    document = {
        "name": spec.name,
        "dimension": spec.dimension,
        "bundle": spec.bundle.hex(),
        "sigma": spec.privacy.sigma_micro / 10**6,
        "norm_max": spec.aggregation.norm_max / 2**24,
        "privacy": asdict(drafted.privacy),
        **decision.document(),
    }
    said = task_publication.published_text(drafted, decision)
    return document, "\n".join((said, *drafted.lines()))


def _resume_task(home: CoordinatorHome, options: argparse.Namespace) -> Shown:
    done = task_publication.resume_task(home, options.task, options.wait)
    document = {
        "task": options.task,
        "version": done.version,
        **done.decision.document(),
    }
    return document, done.text


def _close_task(home: CoordinatorHome, options: argparse.Namespace) -> Shown:
    number = options.task
    decision = task_publication.close_task(home, number, options.wait)
    text = decision.text(f"closed task {number}", f"whether task {number} is closed")
    return {"task": number, **decision.document()}, text


def _submit(home: CoordinatorHome, options: argparse.Namespace) -> Shown:
    chain_id = home.genesis().chain_id()
    try:
        packed = read_limited(options.file, ENVELOPE.bytes_max)
        envelope = ENVELOPE.unpack(packed)
        # The coordinator would drop what is signed for another chain, without a word to
        # whoever hands it in here.
        envelope.check(chain_id)
    except ProtocolError as error:
        raise ConfigError(str(error), file=str(options.file)) from error
    # Messages that never stand in a block are envelopes, too.
    if envelope.kind not in TRANSACTIONS:
        detail = f"kind {envelope.kind} is no transaction"
        raise ConfigError(detail, file=str(options.file))
    # By a file: the coordinator listens on no port for its operator.
    command_inbox.drop_transaction(home.inbox, envelope, chain_id)
    identity, kind = envelope.identity(chain_id), MessageKind(envelope.kind)
    decision = await_decision(home, identity, options.wait)
    said = f"{kind.name.lower()} {identity.hex()}"
    decision.require(f"not done: {said}")
    document = {"id": identity.hex(), "kind": kind.name.lower(), **decision.document()}
    return document, decision.text(said, said)


def _task(text: str) -> int:
    number = int(text)
    if not 0 <= number < TASKS_MAX:
        raise argparse.ArgumentTypeError(f"a task is 0 to {TASKS_MAX - 1}")
    return number

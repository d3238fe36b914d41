"""The operator's verbs about boards and tasks."""

import argparse
from dataclasses import asdict, replace
from pathlib import Path

from starling.broker.broker_settings import board_host, is_loopback
from starling.broker.runtime.broker_home import BrokerHome
from starling.coordinator.cli.chain_decision import (
    ChainDecision,
    add_wait,
    await_decision,
    boards_enrolled,
    held_out_loss,
    known_board,
)
from starling.coordinator.cli.credits_and_governance import submit
from starling.coordinator.config import BrokerEndpointSettings
from starling.coordinator.publication.privacy_statement import promise
from starling.coordinator.publication.task_settings import TaskSettings, publication
from starling.coordinator.runtime import command_inbox
from starling.coordinator.runtime.evaluation.evaluator import pinned_root
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.storage.receipt_reader import checkpoint
from starling.coordinator.runtime.verb_types import AddVerb, Shown
from starling.durable.files import read_limited, write_atomic
from starling.protocol.chain.enrolment import (
    DOCUMENT_BYTES_MAX,
    Admission,
    request_from_json,
)
from starling.protocol.errors import (
    ConfigError,
    OperationError,
    ProtocolError,
    Reason,
)
from starling.protocol.ids import DeviceId, TaskId, device_from_name, device_name
from starling.protocol.learning.progress_guard import RESUME, Resume
from starling.protocol.learning.task import TASK
from starling.protocol.model.training_bundle import (
    CONTENT_FILES,
    FILE_BYTES_MAX,
    MANIFEST,
    pack_bundle,
)
from starling.protocol.schema.toml_settings import load_settings
from starling.protocol.wire.envelope import MessageKind
from starling.protocol.wire.message_bodies import REGISTER, REVOKE, Register, Revoke


def add_verbs(add: AddVerb) -> None:
    """Adds `admit`, `revoke`, `publish` and `resume-task`."""
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
    again.add_argument("task", type=int, help="its number")
    add_wait(again)


def _admit(home: CoordinatorHome, options: argparse.Namespace) -> Shown:
    config, genesis = home.config(), home.genesis()
    try:
        request = request_from_json(read_limited(options.request, DOCUMENT_BYTES_MAX))
    except ProtocolError as error:
        raise ConfigError(str(error), file=str(options.request)) from error
    name = device_name(request.device)
    broker = BrokerHome(Path(config.broker.home))
    host = _board_host(config.broker, broker)
    certificate = broker.authority().issue(name, request.tls_public_key)
    admission = Admission(
        request.device,
        genesis,
        host,
        config.broker.port,
        read_limited(home.tls_files().authority, DOCUMENT_BYTES_MAX).decode(),
        certificate.decode(),
        checkpoint(home.state, genesis),
    )
    body = REGISTER.pack(Register(request.public_key))
    identity = submit(home, MessageKind.REGISTER, body)
    decision = await_decision(home, identity, options.wait)
    known = _admitted_before(home, request.device, decision)
    if known is None:
        decision.require(f"{name} is not admitted")
    write_atomic(options.out, admission.to_json().encode())
    place = f"{host}:{config.broker.port}"
    document = {
        "device": name,
        "admission": str(options.out),
        "broker": place,
        **decision.document(),
    }
    text = known or decision.text(f"admitted {name}", f"whether {name} is admitted")
    return document, f"{text}\nit connects to {place}; give it {options.out}"


def _admitted_before(
    home: CoordinatorHome, device: DeviceId, decision: ChainDecision
) -> str | None:
    """Text for a board that needs no other admission; None for any other."""
    if decision.reason != Reason.ALREADY_KNOWN:
        return None
    board = known_board(home, device)
    if board is None or board.revoked:
        return None
    name = device_name(device)
    return f"{name} was admitted before, at height {board.registered}"


def _board_host(settings: BrokerEndpointSettings, broker: BrokerHome) -> str:
    """The address that boards are told.

    Raises:
      ConfigError: If it would lead each board to itself, and nobody said that all of
        them are on this machine.
    """
    if settings.board_host:
        return settings.board_host
    asked = broker.require_settings()
    host = board_host(asked) or settings.host
    if is_loopback(host) and not is_loopback(asked.bind) and host not in asked.hosts:
        raise ConfigError(
            f"a board elsewhere cannot reach {host}; name the broker as boards know "
            f"it: starling broker init --home {broker.path} --host NAME; or, for a "
            "fleet on this machine alone, --bind 127.0.0.1",
            key="broker.board_host",
        )
    return host


def _revoke(home: CoordinatorHome, options: argparse.Namespace) -> Shown:
    try:
        device = device_from_name(options.device)
    except ProtocolError as error:
        raise ConfigError(str(error), key="device") from error
    identity = submit(home, MessageKind.REVOKE, REVOKE.pack(Revoke(device)))
    decision = await_decision(home, identity, options.wait)
    document = {"device": options.device, **decision.document()}
    if decision.reason == Reason.ALREADY_KNOWN:
        return document, f"{options.device} was revoked before"
    if decision.reason == Reason.NOT_ENROLLED:
        raise OperationError(f"not revoked: the chain knows no board {options.device}")
    decision.require(f"{options.device} is not revoked")
    name = options.device
    return document, decision.text(f"revoked {name}", f"whether {name} is revoked")


def _publish(home: CoordinatorHome, options: argparse.Namespace) -> Shown:
    text = read_limited(options.task, DOCUMENT_BYTES_MAX).decode(errors="replace")
    settings = load_settings(TaskSettings, text, str(options.task))
    settings = _with_roots(settings, options.root)
    bundle = _read_bundle(options.bundle)
    made = publication(settings, bundle, str(options.task))
    warning = _compared(settings.buffer, boards_enrolled(home), force=options.force)
    command_inbox.drop_blob(home.inbox, made.bundle)
    command_inbox.drop_model(home.inbox, made.model)
    identity = submit(home, MessageKind.TASK, TASK.pack(made.spec))
    decision = await_decision(home, identity, options.wait)
    name = repr(made.spec.name)
    decision.require(f"{name} is not published")
    privacy, promised = made.spec.privacy, promise(made.spec)
    document = {
        "name": made.spec.name,
        "dimension": made.spec.dimension,
        "bundle": made.spec.bundle.hex(),
        "sigma": privacy.sigma_micro / 10**6,
        "norm_max": made.spec.aggregation.norm_max / 2**24,
        "privacy": asdict(promised),
        **decision.document(),
    }
    said = decision.text(f"published {name}", f"whether {name} is published")
    lines = (said, *([f"warning: {warning}"] if warning else []), *promised.lines())
    return document, "\n".join(lines)


def _with_roots(settings: TaskSettings, files: list[Path]) -> TaskSettings:
    pinned = [pinned_root(file, "--root").hex() for file in files]
    roots = " ".join([settings.scores.roots, *pinned]).strip()
    return replace(settings, scores=replace(settings.scores, roots=roots))


def _resume_task(home: CoordinatorHome, options: argparse.Namespace) -> Shown:
    number = options.task
    known = held_out_loss(home, number)
    if known is None:
        raise OperationError(f"no quorum stated a held-out loss of task {number} yet")
    body = RESUME.pack(Resume(TaskId(number), known.newest))
    identity = submit(home, MessageKind.RESUME, body)
    decision = await_decision(home, identity, options.wait)
    document = {"task": number, "version": known.newest, **decision.document()}
    decision.require(f"task {number} is not resumed")
    done = f"task {number} goes on from version {known.newest}"
    return document, decision.text(done, f"whether task {number} goes on")


def _compared(buffer: int, boards: int, *, force: bool) -> str:
    """Warning to the publisher of a task that wants more updates than there are boards.

    Args:
      buffer: K, updates that make a version.
      boards: That may take part today; each gives one update for a version.
      force: Whether to publish whatever is the case.

    Returns:
      A warning; empty if all is well.

    Raises:
      ConfigError: If so few boards would wait for ever.
    """
    counted = f"buffer = {buffer}, and {boards} boards are admitted"
    if not boards:
        return f"{counted} yet"
    if boards < (buffer + 1) // 2 and not force:
        # Half a buffer is enough once the task's patience is over.
        raise ConfigError(
            f"{counted}: each gives one update for a version and half a buffer is the "
            f"least, so that no version would ever be made; take buffer = "
            f"{max(1, boards // 2)}, admit boards first, or add --force",
            key="buffer",
        )
    if boards < buffer:
        return f"{counted}: each version waits until the task's patience is over"
    return ""


def _read_bundle(folder: Path) -> bytes:
    try:
        files = {
            name: read_limited(folder / name, FILE_BYTES_MAX)
            for name in (*CONTENT_FILES, MANIFEST)
        }
        return pack_bundle(files)
    except ProtocolError as error:
        raise ConfigError(str(error), file=str(folder)) from error

"""Tasks that we vouch for: those whose bundle is here and holds what boards may run.

A TASK waits for a block only once its bundle was examined, and a proposed block that
holds one is heard by the ledger only then, like one whose vectors are missing. So no
honest validator votes for a task whose graphs boards refuse. What a quorum decided
without us stands. The examination depends on the bundle alone, so that all validators
agree on it.
"""

from dataclasses import replace

from starling.coordinator.chain.execution.state_machine import apply
from starling.coordinator.chain.gossip_messages import FrameSubject, frame
from starling.coordinator.chain.node import node
from starling.coordinator.chain.state import operator_records
from starling.coordinator.commit import block_commit
from starling.coordinator.commit.transaction_submission import advance, submit
from starling.coordinator.downloads import piece_download, request_scheduler
from starling.coordinator.peers.transaction_quota import source_of, teller
from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.coordinator.step.effects import ExamineBundle
from starling.coordinator.step.events import BundleExamined
from starling.coordinator.step.pending_proposal import DeferredProposal
from starling.coordinator.step.state import BundleState, WaitingTask
from starling.coordinator.wire.frames import DIRECT_BYTES_MAX
from starling.engine.opened_bundle import open_packed
from starling.protocol.dataclass_replace import evolve
from starling.protocol.errors import LimitError, ProtocolError, Reason
from starling.protocol.ids import DeviceId, Digest
from starling.protocol.learning.task import TASK, TaskSpec
from starling.protocol.wire.envelope import ENVELOPE, Envelope

BUNDLES_MAX = 64
"""Of which we remember whether they are sound, or wait to hear it."""
HEAD_START_S = 0.5
HEAD_START = 1.25
"""Of the time that a bundle takes at the pace of `piece_download`, which others get to
have it before we propose its task."""
TASKS_WAITING_MAX = 16
"""For one bundle."""
KEY = b"a task that a proposed block holds: "
"""Begins what stands for a task where other keys are of `CoordinatorState.held`, and is
longer than those."""


def examined(bundle: Digest, content: bytes | None) -> BundleExamined:
    """Answers `ExamineBundle`: what boards would say of a bundle.

    Args:
      bundle: Its digest.
      content: The packed bundle; None if it is not here.
    """
    if content is None:
        return BundleExamined(bundle, absent=True)
    try:
        opened = open_packed(content)
    except ProtocolError as error:
        return BundleExamined(bundle, fault=str(error) or "refused")
    except Exception as error:  # noqa: BLE001 - one bundle that nobody thought of would end all coordinators at once
        return BundleExamined(bundle, fault=f"cannot be read ({type(error).__name__})")
    return BundleExamined(
        bundle, dimension=opened.manifest.dimension, size=len(content)
    )


def submit_task(step: CoordinatorStep, envelope: Envelope) -> None:
    """Takes a TASK of an operator of ours, whose signature was checked."""
    _take(step, WaitingTask(envelope))


def task_announced(step: CoordinatorStep, who: DeviceId, envelope: Envelope) -> bool:
    """Takes a TASK that another coordinator tells us of.

    Returns:
      Whether it is a new one; the ledger hears it once its bundle is sound.

    Raises:
      ProtocolError: If it is malformed, or the chain does not take it.
    """
    envelope.check(step.settings.gate.chain_id)
    tip = step.state.ledger.tip
    # The context of the next block; whose it is does not matter to a TASK.
    context = tip.context(0, tip.time_ms(tip.certificate))
    _, result = apply(tip.tree, context, envelope)
    if result.code == Reason.ALREADY_KNOWN:
        return False
    if result.code:
        raise ProtocolError(result.detail, Reason(result.code))
    _take(step, WaitingTask(envelope, source_of(who, step.broker)))
    return True


def missing_bundle(
    step: CoordinatorStep, envelope: Envelope
) -> tuple[tuple[bytes, Digest], ...]:
    """Bundle that a block with a TASK waits for; empty if it is sound.

    Nothing that no operator signed is looked for: the ledger refuses its block.
    """
    # Signature included: else a liar's proposal could have bundles of its choice
    # fetched.
    if not _is_operators(step, envelope):
        return ()
    spec = TASK.unpack(envelope.body)
    key = (KEY + envelope.body, spec.bundle)
    if is_sound(step, *key):
        return ()
    _look(step, spec)
    return (key,)


def _is_operators(step: CoordinatorStep, envelope: Envelope) -> bool:
    is_known = operator_records.is_operator(step.state.ledger.tree, envelope.sender)
    return is_known and step.is_genuine(envelope)


def is_sound(step: CoordinatorStep, key: bytes, bundle: Digest) -> bool:
    """True if the bundle of a task, `KEY` and its packed spec, was found sound."""
    known = step.state.bundles.get(bundle)
    if known is None or known.fault is None:
        # None means not examined yet, and the empty string sound.
        return False
    return not _fault(TASK.unpack(key[len(KEY) :]), known)


def bundle_arrived(step: CoordinatorStep, digest: Digest) -> None:
    """Another coordinator gave us a whole; it may be a bundle in question."""
    known = step.state.bundles.get(digest)
    if known is not None and known.fault is None:
        step.emit(ExamineBundle(digest))


def sizes(step: CoordinatorStep) -> list[int]:
    """Lengths of the bundles that we still have to get."""
    return [known.size for known in step.state.bundles.values() if known.fault is None]


def bundle_examined(step: CoordinatorStep, event: BundleExamined) -> None:
    """A bundle was examined: its tasks may go on, or are refused."""
    known = step.state.bundles.get(event.bundle)
    # Examined already, or forgotten: a repeated answer changes nothing.
    if known is None or known.fault is not None:
        return
    # One that is alone has nobody to get it from, and refuses it at once.
    if event.absent and not step.state.ledger.alone:
        _request(step, event.bundle, known)
        return
    fault = "its bundle is not here" if event.absent else event.fault
    found = replace(
        known, fault=fault, waiting=(), size=event.size, dimension=event.dimension
    )
    step.state = evolve(step.state, bundles={**step.state.bundles, event.bundle: found})
    if fault:
        step.report(f"bundle {event.bundle.hex()[:16]} is refused: {fault}")
    for each in known.waiting:
        _let_go(step, each, found)


def _request(step: CoordinatorStep, bundle: Digest, known: BundleState) -> None:
    """Asks for a bundle on the word of whoever needs it, if anybody still does."""
    keys = request_scheduler.blob_keys([bundle])
    if known.waiting:
        # Who tells of a task has its bundle.
        told = (teller(one.source) for one in known.waiting if one.source)
        request_scheduler.request_blob(step, keys, first=next(told, None))
    for who, parked in sorted(step.state.parked.items()):
        if bundle in bundles_of(parked):
            request_scheduler.request_blob(step, keys, first=who, source=who)


def parked_too(step: CoordinatorStep, who: DeviceId, parked: DeferredProposal) -> None:
    """Notes that a proposal waits for bundles, of which some are asked for already."""
    keys = [
        key
        for key in request_scheduler.blob_keys(bundles_of(parked))
        if key in step.state.wanted
    ]
    request_scheduler.request_blob(step, keys, source=who)


def bundles_of(parked: DeferredProposal) -> list[Digest]:
    """The bundles that a proposal waits for."""
    return [bundle for key, bundle in parked.missing if key.startswith(KEY)]


def _take(step: CoordinatorStep, waiting: WaitingTask) -> None:
    spec = TASK.unpack(waiting.envelope.body)
    known = _look(step, spec)
    if known.fault is not None:
        _let_go(step, waiting, known)
        return
    # Told again, it waits already.
    if waiting in known.waiting:
        return
    if len(known.waiting) >= TASKS_WAITING_MAX:
        raise LimitError("too many tasks wait for a bundle", Reason.BUSY)
    known = replace(known, waiting=(*known.waiting, waiting))
    step.state = evolve(step.state, bundles={**step.state.bundles, spec.bundle: known})
    # A proposal alone may have named it so far, and is soon forgotten.
    asked = [
        key
        for key in request_scheduler.blob_keys([spec.bundle])
        if key in step.state.wanted
    ]
    request_scheduler.request_blob(step, asked)


def _look(step: CoordinatorStep, spec: TaskSpec) -> BundleState:
    """Known state of a bundle; requests its examination where there is none."""
    known = step.state.bundles.get(spec.bundle)
    wanted = not step.state.wanted.keys().isdisjoint(
        request_scheduler.blob_keys([spec.bundle])
    )
    # Being fetched: its arrival starts the examination.
    if known is not None and (known.fault is not None or wanted):
        return known
    if known is None:
        _make_room(step)
        known = BundleState(spec.bundle_bytes)
        step.state = evolve(
            step.state, bundles={**step.state.bundles, spec.bundle: known}
        )
    step.emit(ExamineBundle(spec.bundle))
    return known


def _make_room(step: CoordinatorStep) -> None:
    """Forgets the oldest bundle for which no task waits.

    Raises:
      LimitError: If tasks wait for all of them.
    """
    if len(step.state.bundles) < BUNDLES_MAX:
        return
    idle = [digest for digest, each in step.state.bundles.items() if not each.waiting]
    if not idle:
        raise LimitError("too many bundles are awaited", Reason.BUSY)
    step.state = evolve(
        step.state,
        bundles={at: one for at, one in step.state.bundles.items() if at != idle[0]},
    )


def _let_go(step: CoordinatorStep, waiting: WaitingTask, known: BundleState) -> None:
    spec = TASK.unpack(waiting.envelope.body)
    fault = _fault(spec, known)
    if fault:
        identity = waiting.envelope.identity(step.settings.gate.chain_id)
        detail = f"task {spec.name!r}: {fault}"
        block_commit.transaction_refused(step, identity, Reason.MALFORMED, detail)
    elif waiting.source:
        subject = FrameSubject.TRANSACTION
        advance(step, node.PeerMessage(subject, waiting.envelope, waiting.source))
    else:
        _submit_own(step, waiting.envelope, known.size)


def _submit_own(step: CoordinatorStep, envelope: Envelope, size: int) -> None:
    """Tells the others of a task, and proposes it once they had the time to get it.

    A block that names it before would wait at all of them until they pass us over.
    """
    # Short enough to come with the first answer: others have it in time.
    if step.state.ledger.alone or size <= DIRECT_BYTES_MAX:
        submit(step, envelope)
        return
    told = frame(FrameSubject.TRANSACTION, ENVELOPE.pack(envelope))
    step.emit(node.SendGossip(told))
    from_s = step.now_s + HEAD_START_S + HEAD_START * size / piece_download.BYTES_PER_S
    step.state = evolve(
        step.state, tasks_held=(*step.state.tasks_held, (from_s, envelope))
    )


def submit_held(step: CoordinatorStep) -> None:
    """Proposes the tasks whose time has come."""
    due = [each for from_s, each in step.state.tasks_held if from_s <= step.now_s]
    if due:
        step.state = evolve(
            step.state,
            tasks_held=tuple(
                (from_s, each)
                for from_s, each in step.state.tasks_held
                if from_s > step.now_s
            ),
        )
    # After the list is replaced, as submitting takes steps of its own.
    for envelope in due:
        submit(step, envelope)


def _fault(spec: TaskSpec, known: BundleState) -> str:
    """Reason why boards would not run a task, given that its bundle was examined."""
    if known.fault:
        return known.fault
    if (spec.dimension, spec.bundle_bytes) != (known.dimension, known.size):
        return f"its bundle has {known.dimension} parameters in {known.size} bytes"
    return ""

"""A task enters the chain only with a bundle that boards would run."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import cast

import numpy as np
import pytest

from starling.coordinator.availability.bundle_examination import (
    BUNDLES_MAX,
    TASKS_WAITING_MAX,
    examined,
)
from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.gossip_messages import FrameSubject
from starling.coordinator.chain.state import task_records, transaction_codec
from starling.coordinator.step.effects import (
    ExamineBundle,
    LogLine,
    RecordRefusal,
    RemoveInboxFile,
)
from starling.coordinator.step.events import (
    BundleExamined,
    PeerFrameArrived,
    TransactionArrived,
)
from starling.engine.onnx_graph import ConstantTensor, ElementType, GraphNode
from starling.engine.onnx_reader import read_graph
from starling.engine.onnx_writer import write_graph
from starling.engine.opened_bundle import GRAPHS
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.errors import Reason
from starling.protocol.ids import Digest, H
from starling.protocol.learning.task import TASK, TaskSpec
from starling.protocol.model.training_bundle import (
    EVALUATE,
    MANIFEST,
    THETA,
    unpack_bundle,
)
from starling.protocol.schema.msgpack_codec import encode
from starling.protocol.wire.envelope import ENVELOPE, Envelope, MessageKind, sign
from starling.protocol.wire.message_bodies import REGISTER, Register
from tests.unit.coordinator.fixtures.council_genesis import CHAIN_ID as COUNCIL_CHAIN
from tests.unit.coordinator.fixtures.council_genesis import COUNT
from tests.unit.coordinator.fixtures.four_coordinators import FourCoordinators
from tests.unit.coordinator.fixtures.single_coordinator import (
    CHAIN_ID,
    OPERATOR,
    SingleCoordinator,
    spec,
)
from tests.unit.engine.bundle_edits import (
    repacked,
    with_external_constant,
    with_hidden_operator,
)

STRANGER = SigningKey(b"q" * 32)


def published(task: TaskSpec, counter: int = 1) -> Envelope:
    return sign(OPERATOR, CHAIN_ID, MessageKind.TASK, counter, TASK.pack(task))


def arrived(task: TaskSpec, counter: int = 1) -> TransactionArrived:
    return TransactionArrived(f"{counter}.tx", ENVELOPE.pack(published(task, counter)))


def test_examined_bundle_that_boards_run_is_sound() -> None:
    packed = repacked({})

    found = examined(H(packed), packed)

    assert found == BundleExamined(H(packed), dimension=36, size=len(packed))


def with_sizes_beyond_text() -> bytes:
    """An `Expand` to so many values that Python refuses to write out how many."""
    graph = read_graph(unpack_bundle(repacked({}))[EVALUATE])
    sizes = np.full(300, 1 << 62, "<i8").tobytes()
    constant = ConstantTensor("sizes", ElementType.INT64, (300,), sizes)
    node = GraphNode("Expand", "", ("theta", "sizes"), ("large",), {})
    changed = replace(
        graph, tensors=(*graph.tensors, constant), nodes=(*graph.nodes, node)
    )
    return repacked({EVALUATE: write_graph(changed)})


def with_unprintable_field() -> bytes:
    files = unpack_bundle(repacked({}))
    manifest = json.loads(files[MANIFEST]) | {"\ud800\n": 1}
    files[MANIFEST] = json.dumps(manifest).encode()
    return encode([[name, files[name]] for name in sorted(files)])


HOSTILE: dict[str, Callable[[], bytes]] = {
    "sizes beyond text": with_sizes_beyond_text,
    "unprintable field": with_unprintable_field,
    "no bundle": lambda: b"garbage",
    "no theta": lambda: repacked({THETA: b"PK"}),
    "file of ours": lambda: with_external_constant(EVALUATE, "keys/signing"),
    **{
        f"hidden operator in {name}": partial(with_hidden_operator, name, "Bernoulli")
        for name in GRAPHS
    },
    **{f"garbage for {name}": partial(repacked, {name: b"a"}) for name in GRAPHS},
}


@pytest.mark.parametrize("case", HOSTILE)
def test_examined_bundle_that_boards_refuse_has_a_fault(case: str) -> None:
    packed = HOSTILE[case]()

    found = examined(H(packed), packed)

    assert found.fault
    assert found.fault.isprintable()
    assert not found.absent


def test_examining_ends_in_a_fault_whatever_is_raised() -> None:
    # Not bytes at all stands for what the checks do not foresee.
    found = examined(H(b"b"), cast("bytes", object()))

    assert found.fault == "cannot be read (TypeError)"


def test_task_waits_for_the_examination_and_enters_a_block_then() -> None:
    world = SingleCoordinator(answers=False)

    effects = world.send(arrived(world.task))
    world.tick()
    before = task_records.task_count(world.state.ledger.tree)
    world.send(
        BundleExamined(
            world.task.bundle,
            dimension=world.task.dimension,
            size=world.task.bundle_bytes,
        )
    )
    world.tick()

    assert ExamineBundle(world.task.bundle) in effects
    assert before == 0
    assert task_records.task_count(world.state.ledger.tree) == 1


FAULTS: dict[str, Callable[[TaskSpec], BundleExamined]] = {
    "refused": lambda task: BundleExamined(task.bundle, fault="gradient.onnx: refused"),
    "absent": lambda task: BundleExamined(task.bundle, absent=True),
    "of another dimension": lambda task: BundleExamined(
        task.bundle, dimension=task.dimension + 1, size=task.bundle_bytes
    ),
    "of another length": lambda task: BundleExamined(
        task.bundle, dimension=task.dimension, size=task.bundle_bytes + 1
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_task_whose_bundle_does_not_pass_is_refused_counted_and_named(
    case: str,
) -> None:
    world = SingleCoordinator(answers=False)
    world.send(arrived(world.task))

    effects = world.send(FAULTS[case](world.task))
    world.tick()

    (refused,) = [each for each in effects if isinstance(each, RecordRefusal)]
    assert refused.reason == Reason.MALFORMED
    assert world.task.name in refused.detail
    (removed,) = [each for each in effects if isinstance(each, RemoveInboxFile)]
    assert (removed.name, removed.reason) == ("1.tx", Reason.MALFORMED)
    assert removed.detail == refused.detail
    assert task_records.task_count(world.state.ledger.tree) == 0
    # The same task again is known to be one without looking again.
    again = world.send(arrived(world.task, 2))
    assert [each for each in again if isinstance(each, RecordRefusal)]
    assert not [each for each in again if isinstance(each, ExamineBundle)]


def test_bundle_that_is_refused_is_reported() -> None:
    world = SingleCoordinator(answers=False)
    world.send(arrived(world.task))

    effects = world.send(BundleExamined(world.task.bundle, fault="infer.onnx: refused"))

    assert any(
        isinstance(each, LogLine) and "infer.onnx" in each.text for each in effects
    )
    (refused,) = [each for each in effects if isinstance(each, RecordRefusal)]
    assert "infer.onnx" in refused.detail


def test_answers_that_nobody_asked_for_change_nothing() -> None:
    world = SingleCoordinator(answers=False)

    world.send(BundleExamined(Digest(H(b"other")), dimension=1, size=1))

    assert not world.state.bundles


def test_tasks_that_wait_are_bounded() -> None:
    world = SingleCoordinator(answers=False)
    for number in range(1, TASKS_WAITING_MAX + 1):
        world.send(arrived(world.task, number))

    effects = world.send(arrived(world.task, TASKS_WAITING_MAX + 1))

    assert [each.reason for each in effects if isinstance(each, RecordRefusal)] == [
        Reason.BUSY
    ]


def test_bundles_that_are_remembered_are_bounded() -> None:
    world = SingleCoordinator(answers=False)
    for number in range(1, BUNDLES_MAX + 3):
        task = replace(world.task, bundle=H(number.to_bytes(4)))
        world.send(arrived(task, number))
        world.send(BundleExamined(task.bundle, fault="refused"))

    assert len(world.state.bundles) == BUNDLES_MAX


@pytest.fixture
def fresh() -> FourCoordinators:
    return FourCoordinators()


def operate(council: FourCoordinators, through: int) -> None:
    with council.members[through].store.transaction():
        council.members[through].store.put_blob(b"bundle")
    council.operate(MessageKind.TASK, TASK.pack(council.task), through)


def tasks(council: FourCoordinators) -> list[int]:
    return [task_records.task_count(m.state.ledger.tree) for m in council.members]


def refusing(bundle: Digest, content: bytes | None) -> BundleExamined:
    if content is None:
        return BundleExamined(bundle, absent=True)
    return BundleExamined(bundle, fault="gradient.onnx: refused")


@pytest.mark.parametrize("through", range(COUNT))
def test_council_gets_the_bundle_before_it_takes_the_task(
    fresh: FourCoordinators, through: int
) -> None:
    operate(fresh, through)
    fresh.run(5.0)

    assert tasks(fresh) == [1] * COUNT
    assert all(m.store.blob(fresh.task.bundle) == b"bundle" for m in fresh.members)


def test_council_of_which_one_lets_a_refused_bundle_pass_takes_no_task(
    fresh: FourCoordinators,
) -> None:
    for member in fresh.members[1:]:
        member.examine = refusing

    operate(fresh, 0)
    # Until each of them has led at a heartbeat: one alone begins no height.
    fresh.run(300.0)

    assert min(fresh.heights()) > COUNT
    assert tasks(fresh) == [0] * COUNT
    for member in fresh.members[1:]:
        assert "MALFORMED" in member.refusals()


def test_council_without_the_bundle_takes_no_task_and_goes_on(
    fresh: FourCoordinators,
) -> None:
    fresh.operate(MessageKind.TASK, TASK.pack(fresh.task), 0)
    fresh.run(5.0)
    heights = fresh.heights()

    fresh.operate(MessageKind.REGISTER, REGISTER.pack(Register(STRANGER.public)))
    fresh.run(5.0)

    assert tasks(fresh) == [0] * COUNT
    assert min(fresh.heights()) > max(heights)


def test_council_task_of_nobody_makes_nobody_look_for_a_bundle(
    fresh: FourCoordinators,
) -> None:
    envelope = sign(STRANGER, COUNCIL_CHAIN, MessageKind.TASK, 1, TASK.pack(spec()))
    frame = gossip_messages.frame(
        FrameSubject.TRANSACTION, transaction_codec.pack(envelope)
    )

    sender = fresh.members[1].settings.ledger.key.identity
    fresh.members[0].step(PeerFrameArrived(sender, frame), fresh.now_s)

    assert not fresh.members[0].state.bundles
    assert not fresh.members[0].state.wanted

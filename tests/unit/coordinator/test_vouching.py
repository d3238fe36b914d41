"""A task enters the chain only with a bundle that boards would run."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import cast

import numpy as np
import pytest

from coordinator.effects import Examine, Refuse, RemoveInbox, Report
from coordinator.events import Examined, PeerArrived, TransactionArrived
from coordinator.gossip import FRAME, Frame, Subject
from coordinator.ledger import transactions, views, wire
from coordinator.vouching import BUNDLES_MAX, TASKS_WAITING_MAX, examined
from engine.bundle import GRAPHS
from engine.graph import Node, Tensor, Type
from engine.reading import read_graph
from engine.writing import write_graph
from protocol.bundle import EVALUATE, MANIFEST, THETA, unpack_bundle
from protocol.codec import encode
from protocol.envelope import ENVELOPE, Envelope, Kind, sign
from protocol.errors import Reason
from protocol.ids import Digest, H
from protocol.keys import SigningKey
from protocol.messages import REGISTER, Register
from protocol.task import TASK, TaskSpec
from tests.unit.coordinator.council import CHAIN_ID as COUNCIL_CHAIN
from tests.unit.coordinator.council import COUNT, Council
from tests.unit.coordinator.world import CHAIN_ID, OPERATOR, World, spec
from tests.unit.engine.bundles import (
    repacked,
    with_external_constant,
    with_hidden_operator,
)

STRANGER = SigningKey(b"q" * 32)


def published(task: TaskSpec, counter: int = 1) -> Envelope:
    return sign(OPERATOR, CHAIN_ID, Kind.TASK, counter, TASK.pack(task))


def arrived(task: TaskSpec, counter: int = 1) -> TransactionArrived:
    return TransactionArrived(f"{counter}.tx", ENVELOPE.pack(published(task, counter)))


def test_examined_bundle_that_boards_run_is_sound() -> None:
    packed = repacked({})

    found = examined(H(packed), packed)

    assert found == Examined(H(packed), dimension=36, size=len(packed))


def with_sizes_beyond_text() -> bytes:
    """An `Expand` to so many values that Python refuses to write out how many."""
    graph = read_graph(unpack_bundle(repacked({}))[EVALUATE])
    sizes = np.full(300, 1 << 62, "<i8").tobytes()
    constant = Tensor("sizes", Type.INT64, (300,), sizes)
    node = Node("Expand", "", ("theta", "sizes"), ("large",), {})
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
    world = World(answers=False)

    effects = world.send(arrived(world.task))
    world.tick()
    before = views.task_count(world.state.ledger.tree)
    world.send(
        Examined(
            world.task.bundle,
            dimension=world.task.dimension,
            size=world.task.bundle_bytes,
        )
    )
    world.tick()

    assert Examine(world.task.bundle) in effects
    assert before == 0
    assert views.task_count(world.state.ledger.tree) == 1


FAULTS: dict[str, Callable[[TaskSpec], Examined]] = {
    "refused": lambda task: Examined(task.bundle, fault="gradient.onnx: refused"),
    "absent": lambda task: Examined(task.bundle, absent=True),
    "of another dimension": lambda task: Examined(
        task.bundle, dimension=task.dimension + 1, size=task.bundle_bytes
    ),
    "of another length": lambda task: Examined(
        task.bundle, dimension=task.dimension, size=task.bundle_bytes + 1
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_task_whose_bundle_does_not_pass_is_refused_counted_and_named(
    case: str,
) -> None:
    world = World(answers=False)
    world.send(arrived(world.task))

    effects = world.send(FAULTS[case](world.task))
    world.tick()

    (refused,) = [each for each in effects if isinstance(each, Refuse)]
    assert refused.reason == Reason.MALFORMED
    assert world.task.name in refused.detail
    assert RemoveInbox("1.tx") in effects
    assert views.task_count(world.state.ledger.tree) == 0
    # The same task again is known to be one without looking again.
    again = world.send(arrived(world.task, 2))
    assert [each for each in again if isinstance(each, Refuse)]
    assert not [each for each in again if isinstance(each, Examine)]


def test_bundle_that_is_refused_is_reported() -> None:
    world = World(answers=False)
    world.send(arrived(world.task))

    effects = world.send(Examined(world.task.bundle, fault="infer.onnx: refused"))

    assert any(
        isinstance(each, Report) and "infer.onnx" in each.text for each in effects
    )
    (refused,) = [each for each in effects if isinstance(each, Refuse)]
    assert "infer.onnx" in refused.detail


def test_answers_that_nobody_asked_for_change_nothing() -> None:
    world = World(answers=False)

    world.send(Examined(Digest(H(b"other")), dimension=1, size=1))

    assert not world.state.bundles


def test_tasks_that_wait_are_bounded() -> None:
    world = World(answers=False)
    for number in range(1, TASKS_WAITING_MAX + 1):
        world.send(arrived(world.task, number))

    effects = world.send(arrived(world.task, TASKS_WAITING_MAX + 1))

    assert [each.reason for each in effects if isinstance(each, Refuse)] == [
        Reason.BUSY
    ]


def test_bundles_that_are_remembered_are_bounded() -> None:
    world = World(answers=False)
    for number in range(1, BUNDLES_MAX + 3):
        task = replace(world.task, bundle=H(number.to_bytes(4)))
        world.send(arrived(task, number))
        world.send(Examined(task.bundle, fault="refused"))

    assert len(world.state.bundles) == BUNDLES_MAX


@pytest.fixture
def fresh() -> Iterator[Council]:
    made = Council()
    yield made
    made.close()


def operate(council: Council, through: int) -> None:
    with council.members[through].store.transaction():
        council.members[through].store.put_blob(b"bundle")
    council.operate(Kind.TASK, TASK.pack(council.task), through)


def tasks(council: Council) -> list[int]:
    return [views.task_count(m.state.ledger.tree) for m in council.members]


def refusing(bundle: Digest, content: bytes | None) -> Examined:
    if content is None:
        return Examined(bundle, absent=True)
    return Examined(bundle, fault="gradient.onnx: refused")


@pytest.mark.parametrize("through", range(COUNT))
def test_council_gets_the_bundle_before_it_takes_the_task(
    fresh: Council, through: int
) -> None:
    operate(fresh, through)
    fresh.run(5.0)

    assert tasks(fresh) == [1] * COUNT
    assert all(m.store.blob(fresh.task.bundle) == b"bundle" for m in fresh.members)


def test_council_of_which_one_lets_a_refused_bundle_pass_takes_no_task(
    fresh: Council,
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


def test_council_without_the_bundle_takes_no_task_and_goes_on(fresh: Council) -> None:
    fresh.operate(Kind.TASK, TASK.pack(fresh.task), 0)
    fresh.run(5.0)
    heights = fresh.heights()

    fresh.operate(Kind.REGISTER, REGISTER.pack(Register(STRANGER.public)))
    fresh.run(5.0)

    assert tasks(fresh) == [0] * COUNT
    assert min(fresh.heights()) > max(heights)


def test_council_task_of_nobody_makes_nobody_look_for_a_bundle(fresh: Council) -> None:
    envelope = sign(STRANGER, COUNCIL_CHAIN, Kind.TASK, 1, TASK.pack(spec()))
    message = wire.Message(wire.Topic.TRANSACTION, transactions.pack(envelope))
    frame = FRAME.pack(Frame(Subject.LEDGER, wire.MESSAGE.pack(message)))

    sender = fresh.members[1].settings.ledger.key.identity
    fresh.members[0].step(PeerArrived(sender, frame), fresh.now_s)

    assert not fresh.members[0].state.bundles
    assert not fresh.members[0].state.wanted

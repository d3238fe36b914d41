"""Hostile input at both cores: refused with its reason, counted, and no harm done."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from starling.broker.link_events import MqttMessage
from starling.coordinator.chain.state import board_records
from starling.coordinator.update import admission_checks
from starling.protocol.chain.evidence import Offence
from starling.protocol.crypto.keys import OpeningKey, SigningKey
from starling.protocol.errors import InvalidUpdate, Reason
from starling.protocol.ids import DeviceId, Digest, H, TaskId, Version, device_name
from starling.protocol.privacy.gaussian_dp import CHARGE_MAX
from starling.protocol.wire.chunks import CHUNK, Chunk
from starling.protocol.wire.envelope import ENVELOPE, Envelope, MessageKind, sign
from starling.protocol.wire.message_bodies import (
    CHUNK_REQUEST,
    LEASE,
    UPLOAD,
    ChunkRequest,
    Contribution,
)
from tests.sim.simulator.byzantine_board import ByzantineBoard
from tests.sim.simulator.fleet_world import CHAIN, TOPICS, FleetWorld, Plan
from tests.sim.simulator.message_forger import DAMAGES, LIES
from tests.sim.simulator.virtual_time import CALM

PLAN = Plan(boards=4, buffer=2)
VILLAIN = SigningKey(b"v" * 32)
STRANGER = SigningKey(b"x" * 32)
FUZZED = 1500


def world_with_villain(*, enrolled: bool = True) -> tuple[FleetWorld, ByzantineBoard]:
    world = FleetWorld(3, PLAN)
    assert world.reach(0, 30.0)
    return world, ByzantineBoard(world, VILLAIN, enrolled=enrolled)


def packed(upload: object) -> Chunk:
    whole = UPLOAD.pack(upload)  # type: ignore[arg-type]  # an Upload
    return Chunk(H(whole), len(whole), 0, whole)


Act = Callable[[FleetWorld, ByzantineBoard], None]


def with_upload(**changes: Any) -> Act:  # noqa: ANN401 - fields of a contribution
    """An upload that is wrong in what it signs."""

    def act(world: FleetWorld, villain: ByzantineBoard) -> None:
        lease = villain.lease(world.head)
        villain.upload(villain.make(lease, change=lambda it: replace(it, **changes)))

    return act


def with_values(*values: float) -> Act:
    """An upload that is wrong in what it holds."""

    def act(world: FleetWorld, villain: ByzantineBoard) -> None:
        villain.upload(villain.make(villain.lease(world.head), values))

    return act


def sealed_to_another(world: FleetWorld, villain: ByzantineBoard) -> None:
    recipient = OpeningKey(b"e" * 32).public
    lease = villain.lease(world.head)
    villain.upload(villain.make(lease, recipient=recipient))


def signed_by_a_stranger(world: FleetWorld, villain: ByzantineBoard) -> None:
    upload = villain.make(villain.lease(world.head))
    update = sign(STRANGER, CHAIN, MessageKind.UPDATE, 1, upload.update.body)
    villain.upload(replace(upload, update=update))


def with_a_broken_signature(world: FleetWorld, villain: ByzantineBoard) -> None:
    upload = villain.make(villain.lease(world.head))
    update = replace(upload.update, signature=bytes(64))
    villain.upload(replace(upload, update=update))


def with_a_lease_of_its_own(world: FleetWorld, villain: ByzantineBoard) -> None:
    lease = villain.lease(world.head)
    forged = villain.sign(MessageKind.LEASE, lease.body)
    villain.upload(villain.make(forged))


def with_a_lease_for_another_version(
    world: FleetWorld, villain: ByzantineBoard
) -> None:
    lease = villain.lease(world.head)
    version = Version(LEASE.unpack(lease.body).version + 1)
    villain.upload(villain.make(lease, change=lambda it: replace(it, version=version)))


def two_updates_of_one_version(world: FleetWorld, villain: ByzantineBoard) -> None:
    lease = villain.lease(world.head)
    villain.upload(villain.make(lease))
    villain.wait(lambda envelope: envelope.kind == MessageKind.ACCEPTED)
    villain.upload(villain.make(lease, values=(0.5, 0.0, 0.0, 0.0)))


def announces_too_much(world: FleetWorld, villain: ByzantineBoard) -> None:
    villain.push(CHUNK.pack(Chunk(Digest(bytes(32)), 1 << 20, 0, bytes(1 << 16))))


def chunk_with_other_data(world: FleetWorld, villain: ByzantineBoard) -> None:
    chunk = packed(villain.make(villain.lease(world.head)))
    villain.push(CHUNK.pack(replace(chunk, data=bytes(chunk.size))))


def truncated_chunk(world: FleetWorld, villain: ByzantineBoard) -> None:
    villain.push(CHUNK.pack(packed(villain.make(villain.lease(world.head))))[:-7])


def says_the_same_again(world: FleetWorld, villain: ByzantineBoard) -> None:
    check_in = ENVELOPE.pack(villain.check_in(world.head))
    villain.say(check_in)
    villain.say(check_in)


def says(make: Callable[[FleetWorld, ByzantineBoard], bytes]) -> Act:
    """A message on its topic for signed messages."""
    return lambda world, villain: villain.say(make(world, villain))


def request(villain: ByzantineBoard, digest: bytes, count: int = 1) -> bytes:
    body = CHUNK_REQUEST.pack(ChunkRequest(Digest(digest), tuple(range(count))))
    return ENVELOPE.pack(villain.sign(MessageKind.CHUNK_REQUEST, body))


def asks_too_fast(world: FleetWorld, villain: ByzantineBoard) -> None:
    state = world.coordinator.state
    assert state is not None
    for _ in range(10):
        villain.say(request(villain, state.tasks[TaskId(0)].spec.bundle, 16))


NAN, INFINITE = float("nan"), float("inf")
ACTS: dict[str, tuple[Act, Reason]] = {
    "noise-up": (lambda _, villain: villain.push(b"\x93noise"), Reason.MALFORMED),
    "noise-said": (says(lambda *_: b"\x96noise"), Reason.MALFORMED),
    "truncated-chunk": (truncated_chunk, Reason.MALFORMED),
    "other-data": (chunk_with_other_data, Reason.MALFORMED),
    "oversize": (announces_too_much, Reason.TOO_LARGE),
    "nan": (with_values(NAN, 0.0, 0.0, 0.0), Reason.NON_FINITE),
    "infinite": (with_values(INFINITE, 0.0, 0.0, 0.0), Reason.NON_FINITE),
    "over-norm": (with_values(9000.0, 0.0, 0.0, 0.0), Reason.NORM_EXCEEDED),
    "out-of-range": (with_values(1e9, 0.0, 0.0, 0.0), Reason.NORM_EXCEEDED),
    "short": (with_values(0.5, 0.5), Reason.SHAPE_MISMATCH),
    "other-codec": (with_upload(codec=1), Reason.SHAPE_MISMATCH),
    "other-mechanism": (with_upload(mechanism=0), Reason.POLICY_MISMATCH),
    "cheap": (with_upload(charge=1), Reason.POLICY_MISMATCH),
    "dear": (with_upload(charge=CHARGE_MAX + 1), Reason.BUDGET_EXCEEDED),
    "other-pledge": (with_upload(pledge=17), Reason.POLICY_MISMATCH),
    "other-blob": (with_upload(blob=bytes(32)), Reason.COMMITMENT_MISMATCH),
    "other-commitment": (
        with_upload(commitment=bytes(32)),
        Reason.COMMITMENT_MISMATCH,
    ),
    "sealed-to-another": (sealed_to_another, Reason.NOT_SEALED_TO_ME),
    "stranger's": (signed_by_a_stranger, Reason.NOT_AUTHORISED),
    "broken-signature": (with_a_broken_signature, Reason.BAD_SIGNATURE),
    "own-lease": (with_a_lease_of_its_own, Reason.NO_LEASE),
    "other-lease": (with_a_lease_for_another_version, Reason.NO_LEASE),
    "equivocation": (two_updates_of_one_version, Reason.EQUIVOCATION),
    "replay": (says_the_same_again, Reason.REPLAYED),
    "unknown-task": (
        says(lambda world, v: ENVELOPE.pack(v.check_in(world.head, task=9))),
        Reason.UNKNOWN_TASK,
    ),
    "future": (
        says(lambda world, v: ENVELOPE.pack(v.check_in(world.head + 9))),
        Reason.BUSY,
    ),
    "unknown-kind": (
        says(lambda _, v: ENVELOPE.pack(v.sign(MessageKind.ATTEST, b""))),
        Reason.UNKNOWN_KIND,
    ),
    "unknown-whole": (says(lambda _, v: request(v, bytes(32))), Reason.NOT_HERE),
    "too-fast": (asks_too_fast, Reason.BUSY),
}


UNSIGNED = frozenset(
    {
        "noise-up",
        "noise-said",
        "truncated-chunk",
        "other-data",
        "oversize",
        "stranger's",
        "broken-signature",
    }
)
"""What anybody with a certificate of the broker can send: it is not answered."""


@pytest.mark.parametrize("name", ACTS)
def test_hostile_board_is_counted_and_told_why_if_it_signed(name: str) -> None:
    act, reason = ACTS[name]
    world, villain = world_with_villain()

    def counted() -> bool:
        return bool(world.coordinator.refused.get((VILLAIN.identity, reason.name)))

    act(world, villain)
    assert world.time.run(world.time.now_s + 30.0, counted)
    if name not in UNSIGNED:
        villain.wait(lambda _: reason in villain.reasons())

    assert world.reach(world.head + 2, 30.0)
    assert (reason in villain.reasons()) == (name not in UNSIGNED)


@pytest.mark.parametrize("in_chain", [False, True], ids=["waiting", "in-chain"])
def test_board_with_two_updates_of_one_version_is_convicted(in_chain: bool) -> None:
    world, villain = world_with_villain()
    lease = villain.lease(world.head)
    villain.upload(villain.make(lease))
    villain.wait(
        lambda it: it.kind == (MessageKind.FINAL if in_chain else MessageKind.ACCEPTED)
    )

    villain.upload(villain.make(lease, values=(0.5, 0.0, 0.0, 0.0)))

    def convicted() -> bool:
        return board_records.fault(world.coordinator.store, VILLAIN.public) is not None

    assert world.time.run(world.time.now_s + 30.0, convicted)
    fault = board_records.fault(world.coordinator.store, VILLAIN.public)
    assert fault is not None
    assert fault.offence == Offence.DEVICE_DOUBLE


def test_board_whose_lease_counts_no_more_asks_for_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As if the grantor of each board's first lease had left the validators.
    world = FleetWorld(3, PLAN)
    seen: dict[DeviceId, int] = {}
    check = admission_checks._check_lease

    def check_lease(
        gate: admission_checks.AdmissionContext,
        contribution: Contribution,
        lease: Envelope,
        standing: admission_checks.SenderRecord,
    ) -> None:
        number = LEASE.unpack(lease.body).number
        if seen.setdefault(standing.device, number) == number:
            raise InvalidUpdate("a lease of a former coordinator", Reason.NO_LEASE)
        check(gate, contribution, lease, standing)

    monkeypatch.setattr(admission_checks, "_check_lease", check_lease)

    assert world.reach(3, 60.0)
    accepted = list(world.law.accepted)
    assert world.settle(60.0)
    world.law.at_the_end(world.coordinator, world.boards, accepted)
    assert len(seen) == PLAN.boards


def test_stranger_is_counted_and_told_nothing() -> None:
    world, villain = world_with_villain(enrolled=False)

    villain.say(ENVELOPE.pack(villain.check_in(world.head)))
    world.time.run(5.0, lambda: False)

    assert villain.reasons() == []
    refused = {reason for (device, reason) in world.coordinator.refused if device}
    assert "NOT_ENROLLED" in refused


def test_stale_check_in_is_told_so() -> None:
    world, villain = world_with_villain()
    assert world.reach(PLAN.staleness_max + 1, 120.0)

    villain.say(ENVELOPE.pack(villain.check_in(0)))
    villain.wait(lambda envelope: envelope.kind == MessageKind.REFUSED)

    assert villain.reasons() == [Reason.STALE]


def test_coordinator_under_a_flood_keeps_its_pace() -> None:
    alone = FleetWorld(3, PLAN)
    alone.time.run(40.0, lambda: False)
    world, villain = world_with_villain()

    def flood() -> None:
        villain.push(world.time.rng.randbytes(100))
        villain.say(world.time.rng.randbytes(100))
        world.time.after(0.05, flood)

    flood()
    world.time.run(40.0, lambda: False)

    assert villain.reasons() == []
    assert world.coordinator.ignored[VILLAIN.identity] > 500
    assert set(world.coordinator.ignored) == {VILLAIN.identity}
    assert world.head > 0.8 * alone.head


def test_coordinator_fed_anything_takes_nothing_and_never_raises() -> None:
    world = FleetWorld(5, replace(PLAN, weather=CALM))
    assert world.reach(2, 60.0)
    rng, coordinator = world.time.rng, world.coordinator
    said = [m for m in world.broker.forger.seen if m.topic.split("/")[3] == "d"]
    assert {m.topic.rsplit("/", 1)[1] for m in said} >= {"up", "say", "state"}
    before = sum(coordinator.refused.values())

    for _ in range(FUZZED):
        message = rng.choice(said)
        leaf = message.topic.rsplit("/", 1)[1]
        damage = rng.choice((*DAMAGES, LIES.get(leaf, DAMAGES[0])))
        name = device_name(rng.choice((VILLAIN.identity, rng.randbytes(16))))
        topic = rng.choice(
            (message.topic, TOPICS.up(name), TOPICS.say(name), f"{TOPICS.up(name)}/x")
        )
        coordinator.arrived(MqttMessage(topic, damage(message.payload, rng)), (0, 0))
        # Slow enough that what is fed is looked at, and not dropped unread.
        world.time.run(world.time.now_s + 0.01, lambda: False)
    world.time.run(world.time.now_s + 1.0, lambda: False)

    assert sum(coordinator.refused.values()) > before + 0.8 * FUZZED
    assert world.reach(world.head + 2, 30.0)
    accepted = list(world.law.accepted)
    assert world.settle(60.0)
    world.law.at_the_end(coordinator, world.boards, accepted)


def test_agent_fed_anything_believes_nothing_and_never_raises() -> None:
    world = FleetWorld(5, replace(PLAN, weather=CALM))
    assert world.reach(2, 60.0)
    rng, board = world.time.rng, world.boards[0]
    assert board.state is not None
    device = board.settings.device
    topics = (
        TOPICS.down(device),
        TOPICS.model(device),
        TOPICS.manifest(0),
        TOPICS.coordinator_state(device),
    )
    trusted, ledger = board.state.trusted, board.state.ledger

    for _ in range(FUZZED):
        damage = rng.choice(DAMAGES)
        payload = damage(rng.choice(world.broker.forger.seen).payload, rng)
        board.arrived(MqttMessage(rng.choice(topics), payload), (0, 0))

    assert board.state.trusted.validators == trusted.validators
    assert board.state.ledger == ledger
    assert world.reach(world.head + 2, 30.0)

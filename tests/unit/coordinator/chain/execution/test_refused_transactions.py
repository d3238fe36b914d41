"""Transactions that the chain refuses, by name and without a trace."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from starling.coordinator.chain.execution.state_machine import (
    apply,
    execute,
)
from starling.protocol.errors import Reason
from starling.protocol.ids import H
from starling.protocol.learning.task import (
    Q15,
    PrivacyPolicy,
    Strategy,
    TaskSpec,
    TrainingMode,
    TrainingPolicy,
)
from starling.protocol.privacy.gaussian_dp import CHARGE_MAX, charge_from_sigma
from starling.protocol.wire.envelope import Envelope, MessageKind
from tests.unit.coordinator.fixtures.small_chain import SmallChain, opened
from tests.unit.coordinator.fixtures.small_genesis import STRANGER, board_key
from tests.unit.coordinator.fixtures.small_task import PRIVATE_SPEC, SIGMA_MICRO, SPEC


def test_execute_leaves_refused_transactions_out() -> None:
    world = opened()
    good, twin = world.update(0), world.update(0)
    execution = execute(world.tree, world.context, [good, twin])
    assert execution.accepted == (good,)
    assert [result.code for result in execution.results] == [0, Reason.EQUIVOCATION]


def _again(world: SmallChain) -> Envelope:
    envelope = world.update(0)
    world.must(envelope)
    return envelope


def _attested_twice(world: SmallChain, digest: bytes) -> Envelope:
    world.must(*(world.update(number) for number in range(4)))
    world.must(world.attest(1, H(b"a"), 0))
    return world.attest(1, H(digest), 0)


def _task_again(world: SmallChain) -> Envelope:
    envelope = world.publish()
    world.must(envelope)
    return envelope


def _old_base(world: SmallChain) -> Envelope:
    for base in range(3):
        world.advance(base)
    return world.update(5, 0)


def _with(
    world: SmallChain, act: Envelope, then: Callable[[SmallChain], Envelope]
) -> Envelope:
    world.must(act)
    return then(world)


REFUSALS: list[tuple[str, Callable[[SmallChain], Envelope], Reason]] = [
    (
        "register-by-stranger",
        lambda w: w.register(9, STRANGER),
        Reason.NOT_AUTHORISED,
    ),
    ("register-twice", lambda w: w.register(0), Reason.ALREADY_KNOWN),
    (
        "register-revoked",
        lambda w: _with(w, w.revoke(0), lambda x: x.register(0)),
        Reason.NOT_AUTHORISED,
    ),
    ("revoke-by-stranger", lambda w: w.revoke(0, STRANGER), Reason.NOT_AUTHORISED),
    ("revoke-unknown", lambda w: w.revoke(99), Reason.NOT_ENROLLED),
    (
        "revoke-twice",
        lambda w: _with(w, w.revoke(0), lambda x: x.revoke(0)),
        Reason.ALREADY_KNOWN,
    ),
    ("task-by-stranger", lambda w: w.publish(STRANGER), Reason.NOT_AUTHORISED),
    ("task-by-board", lambda w: w.publish(board_key(0)), Reason.NOT_AUTHORISED),
    ("task-again", _task_again, Reason.ALREADY_KNOWN),
    ("update-unregistered", lambda w: w.update(99), Reason.NOT_ENROLLED),
    (
        "update-revoked",
        lambda w: _with(w, w.revoke(0), lambda x: x.update(0)),
        Reason.NOT_ENROLLED,
    ),
    ("update-unknown-task", lambda w: w.update(0, task=1), Reason.UNKNOWN_TASK),
    ("update-future-base", lambda w: w.update(0, 1), Reason.MALFORMED),
    ("update-too-stale", _old_base, Reason.STALE),
    ("update-codec", lambda w: w.update(0, codec=0), Reason.SHAPE_MISMATCH),
    ("update-pledge", lambda w: w.update(0, pledge=17), Reason.POLICY_MISMATCH),
    ("update-mechanism", lambda w: w.update(0, mechanism=1), Reason.POLICY_MISMATCH),
    ("update-free-charge", lambda w: w.update(0, charge=5), Reason.POLICY_MISMATCH),
    ("update-again", _again, Reason.ALREADY_KNOWN),
    (
        "update-other-of-same-base",
        lambda w: _with(w, w.update(0), lambda x: x.update(0, pledge=32)),
        Reason.EQUIVOCATION,
    ),
    ("attest-no-job", lambda w: w.attest(1), Reason.STALE),
    ("attest-unknown-task", lambda w: w.attest(1, task=3), Reason.UNKNOWN_TASK),
    ("attest-again", lambda w: _attested_twice(w, b"a"), Reason.ALREADY_KNOWN),
    ("attest-otherwise", lambda w: _attested_twice(w, b"b"), Reason.EQUIVOCATION),
    (
        "attest-by-board",
        lambda w: w.sign(board_key(0), MessageKind.ATTEST, w.attest(1).body),
        Reason.NOT_AUTHORISED,
    ),
    (
        "empty-body",
        lambda w: w.sign(board_key(0), MessageKind.UPDATE, b""),
        Reason.MALFORMED,
    ),
    (
        "trailing-byte",
        lambda w: w.sign(board_key(0), MessageKind.UPDATE, w.update(0).body + b"\x00"),
        Reason.MALFORMED,
    ),
    (
        "no-transaction",
        lambda w: w.sign(board_key(0), MessageKind.CHECK_IN, b""),
        Reason.UNKNOWN_KIND,
    ),
    (
        "unknown-kind",
        lambda w: replace(w.update(0), kind=250),
        Reason.UNKNOWN_KIND,
    ),
]


@pytest.mark.parametrize(
    ("make", "reason"),
    [pytest.param(make, reason, id=name) for name, make, reason in REFUSALS],
)
def test_apply_refused_changes_nothing_and_names_why(
    make: Callable[[SmallChain], Envelope], reason: Reason
) -> None:
    world = opened(validators=4)
    envelope = make(world)
    before = world.tree.root()
    changes, result = apply(world.tree, world.context, envelope)
    assert (changes, result.code) == ({}, reason)
    assert result.detail
    assert world.tree.root() == before


@pytest.mark.parametrize(
    ("charge", "reason"),
    [
        pytest.param(charge_from_sigma(SIGMA_MICRO), 0, id="exact"),
        pytest.param(charge_from_sigma(SIGMA_MICRO) + 1, 0, id="more"),
        pytest.param(
            charge_from_sigma(SIGMA_MICRO) - 1, Reason.POLICY_MISMATCH, id="less"
        ),
        pytest.param(CHARGE_MAX + 1, Reason.BUDGET_EXCEEDED, id="beyond-all-bounds"),
    ],
)
def test_update_charge_must_cover_the_noise(charge: int, reason: int) -> None:
    world = opened(spec=PRIVATE_SPEC)
    result = world.do(world.update(0, mechanism=1, charge=charge))
    assert result.code == reason


@pytest.mark.parametrize("sigma_micro", [1, 1 << 40])
def test_task_with_impossible_noise_is_refused(sigma_micro: int) -> None:
    world = SmallChain(
        spec=replace(SPEC, privacy=PrivacyPolicy(1, 1, sigma_micro, 1, 1, 1))
    )
    assert world.do(world.publish()).code == Reason.POLICY_MISMATCH


STEPS = replace(
    PRIVATE_SPEC,
    training=TrainingPolicy(TrainingMode.LOCAL, 1, 1, 1),
    privacy=PrivacyPolicy(2, 1, SIGMA_MICRO, 1, 1, 15, 100_000, 10, 1234),
)


@pytest.mark.parametrize(
    ("charge", "reason"),
    [(1234, 0), (1235, 0), (1233, Reason.POLICY_MISMATCH)],
    ids=["exact", "more", "less"],
)
def test_update_charge_must_cover_what_the_task_states(
    charge: int, reason: int
) -> None:
    world = opened(spec=STEPS)
    result = world.do(world.update(0, mechanism=2, charge=charge))
    assert result.code == reason


@pytest.mark.parametrize(
    "spec",
    [
        replace(STEPS, privacy=replace(STEPS.privacy, charge=0)),
        replace(STEPS, privacy=replace(STEPS.privacy, mechanism=99)),
        replace(STEPS, privacy=replace(STEPS.privacy, mechanism=3)),
        replace(STEPS, training=replace(STEPS.training, mode=TrainingMode.GRADIENT)),
    ],
    ids=["no charge", "unknown mechanism", "steps of another", "mode"],
)
def test_task_whose_privacy_is_none_is_refused(spec: TaskSpec) -> None:
    world = SmallChain(spec=spec)
    assert world.do(world.publish()).code == Reason.POLICY_MISMATCH


@pytest.mark.parametrize("codec", [6, 255])
def test_task_of_an_unknown_codec_is_refused(codec: int) -> None:
    # No coordinator could open what its boards would send.
    world = SmallChain(spec=replace(SPEC, codec=codec))
    assert world.do(world.publish()).code == Reason.POLICY_MISMATCH


def test_task_whose_strategy_does_not_fit_is_refused() -> None:
    averaged = replace(
        SPEC.aggregation, strategy=Strategy.FEDAVG, staleness_q15=(Q15, 1)
    )
    world = SmallChain(spec=replace(SPEC, aggregation=averaged))
    assert world.do(world.publish()).code == Reason.POLICY_MISMATCH

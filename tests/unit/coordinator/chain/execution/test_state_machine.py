"""Rules of the chain: what each transaction does to the state."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from starling.coordinator.chain.execution.state_machine import (
    apply,
    execute,
    genesis_tree,
)
from starling.coordinator.chain.state import (
    board_records,
    operator_records,
    task_records,
    validator_records,
)
from starling.coordinator.chain.state.overlay import JobCut, TaskOpened, VersionFinal
from starling.coordinator.chain.state.validator_records import MismatchRecord
from starling.coordinator.chain.tasks import version_cut
from starling.protocol.chain.board_statement import BoardRecord
from starling.protocol.chain.light_client import version_key
from starling.protocol.errors import Reason
from starling.protocol.ids import H, TaskId, Version
from starling.protocol.learning.task import (
    Q15,
    version_digest,
)
from starling.protocol.privacy.gaussian_dp import charge_from_sigma
from tests.unit.coordinator.fixtures.small_chain import SmallChain, opened
from tests.unit.coordinator.fixtures.small_genesis import (
    OPERATOR,
    STRANGER,
    board_id,
    board_key,
)
from tests.unit.coordinator.fixtures.small_task import PRIVATE_SPEC, SIGMA_MICRO, SPEC
from tests.unit.coordinator.fixtures.state_invariants import check_invariants
from tests.unit.coordinator.fixtures.state_views import pending


def test_register_by_operator_admits_the_board() -> None:
    world = SmallChain()
    world.must(world.register(0))
    board = board_records.board(world.tree, board_id(0))
    assert board == BoardRecord(board_key(0).public, OPERATOR.identity, 1, 0, 0, 0)
    assert board_records.board_count(world.tree) == 1


def test_revoke_keeps_the_record_and_excludes_the_board() -> None:
    world = opened()
    world.height = 7
    world.must(world.revoke(0))
    board = board_records.board(world.tree, board_id(0))
    assert board is not None
    assert board.revoked == 7


def test_task_makes_version_0_final() -> None:
    world = SmallChain()
    envelope = world.publish()
    _, result = apply(world.tree, world.context, envelope)
    world.must(envelope)
    assert task_records.task(world.tree, 0) == SPEC
    assert task_records.head(world.tree, 0) == 0
    assert world.tree.get(version_key(0, 0)) == version_digest(SPEC.initial)
    assert task_records.published(world.tree, result.identity) == 0


def test_update_waits_in_the_order_of_the_chain() -> None:
    world = opened()
    world.must(world.update(2), world.update(0), world.update(1))
    order = [entry.board for entry in pending(world.tree, 0)]
    assert order == [board_id(2), board_id(0), board_id(1)]
    assert task_records.open_job(world.tree, 0) is None


def test_update_adds_its_charge_to_the_board() -> None:
    world = opened(spec=PRIVATE_SPEC)
    charge = charge_from_sigma(SIGMA_MICRO)
    world.must(world.update(0, mechanism=1, charge=charge))
    board = board_records.board(world.tree, board_id(0))
    assert board is not None
    assert (board.updates, board.charge) == (1, charge)


def test_full_buffer_is_cut_with_weights_by_staleness() -> None:
    world = opened()
    world.advance(0)
    world.must(world.update(5, 0), *(world.update(i, 1) for i in range(3)))
    job = task_records.open_job(world.tree, 0)
    assert job is not None
    assert job.version == 2
    weights = [member.weight_q15 for member in job.members]
    assert weights == [Q15 // 2, Q15, Q15, Q15]
    assert job.members[0].board == board_id(5)


def test_updates_beyond_the_buffer_wait_for_the_next_job() -> None:
    world = opened()
    world.must(*(world.update(number) for number in range(8)))
    assert len(pending(world.tree, 0)) == 4
    world.must(world.attest(1))
    job = task_records.open_job(world.tree, 0)
    assert job is not None
    assert job.version == 2
    assert {member.weight_q15 for member in job.members} == {Q15 // 2}
    check_invariants(world.tree)


def test_half_buffer_is_cut_once_patience_ends() -> None:
    world = opened()
    world.must(world.update(0), world.update(1))
    for _ in range(SPEC.aggregation.patience):
        assert task_records.open_job(world.tree, 0) is None
        world.end_block()
    world.end_block()
    job = task_records.open_job(world.tree, 0)
    assert job is not None
    assert len(job.members) == 2


def test_less_than_half_a_buffer_waits_for_ever() -> None:
    world = opened()
    world.must(world.update(0))
    for _ in range(10):
        world.end_block()
    assert task_records.open_job(world.tree, 0) is None


def test_attest_quorum_of_equal_digests_makes_it_final() -> None:
    world = opened(validators=4)
    world.must(*(world.update(number) for number in range(4)))
    right, wrong = H(b"right"), H(b"wrong")
    world.must(world.attest(1, right, 0), world.attest(1, wrong, 1))
    world.must(world.attest(1, right, 2))
    assert task_records.head(world.tree, 0) == 0
    world.must(world.attest(1, right, 3))
    assert task_records.head(world.tree, 0) == 1
    assert task_records.version(world.tree, 0, 1) == right
    assert task_records.open_job(world.tree, 0) is None


def _dissent(world: SmallChain, validator: int) -> MismatchRecord | None:
    return validator_records.dissent(world.tree, 0, world.validators[validator].public)


def test_attest_outvoted_validator_is_noted_by_name() -> None:
    world = opened(validators=4)
    world.must(*(world.update(number) for number in range(4)))
    right, wrong = H(b"right"), H(b"wrong")
    world.must(world.attest(1, wrong, 1))
    world.must(*(world.attest(1, right, validator) for validator in (0, 2, 3)))
    assert _dissent(world, 1) == MismatchRecord(1, Version(1), wrong)
    assert [_dissent(world, validator) for validator in (0, 2, 3)] == [None] * 3


def test_attest_after_the_quorum_is_noted_if_it_differs() -> None:
    world = opened(validators=4)
    world.advance(0)
    assert world.do(world.attest(1, validator=3)).code == Reason.STALE
    world.must(world.attest(1, H(b"wrong"), 3))
    assert _dissent(world, 3) == MismatchRecord(1, Version(1), H(b"wrong"))
    again = world.do(world.attest(1, H(b"wrong again"), 3))
    assert again.code == Reason.ALREADY_KNOWN
    world.advance(1)
    world.must(world.attest(2, H(b"wrong"), 3))
    assert _dissent(world, 3) == MismatchRecord(2, Version(2), H(b"wrong"))


def test_new_head_drops_what_it_makes_too_stale() -> None:
    world = opened()
    world.advance(0)
    world.advance(1)
    # Waits behind a full job, at the largest staleness that counts.
    world.must(*(world.update(i, 2) for i in range(4)), world.update(5, 0))
    world.must(world.attest(3))
    assert pending(world.tree, 0) == []
    check_invariants(world.tree)


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_digest_of_a_version_goes_some_versions_after_its_last_use_as_a_base(
    kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(version_cut, "DISSENT_VERSIONS", kept)
    world = opened()
    staleness_max = SPEC.aggregation.staleness_max
    for base in range(staleness_max + kept):
        world.advance(base)
        assert world.tree.get(version_key(0, 0)) is not None
    world.advance(staleness_max + kept)
    assert world.tree.get(version_key(0, 0)) is None
    assert world.tree.get(version_key(0, 1)) is not None
    check_invariants(world.tree)


def test_dissent_far_later_than_a_base_is_named() -> None:
    world = opened(validators=4)
    for base in range(SPEC.aggregation.staleness_max + 3):
        world.advance(base)
    world.must(world.attest(1, H(b"wrong"), 3))
    assert _dissent(world, 3) == MismatchRecord(1, Version(1), H(b"wrong"))
    assert world.do(world.attest(1, validator=2)).code == Reason.STALE


def test_history_forgets_bases_that_are_too_old() -> None:
    world = opened()
    for base in range(6):
        world.advance(base)
    signed = board_records.history(world.tree, 0, board_id(0))
    assert [entry.base for entry in signed] == [3, 4, 5]


def test_execute_tells_what_happened() -> None:
    world = SmallChain()
    updates = [world.update(i) for i in range(4)]
    admitted = [world.register(i) for i in range(4)]
    block = [world.publish(), *admitted, *updates, world.attest(1)]
    happenings = execute(world.tree, world.context, block).happenings
    assert happenings[0] == TaskOpened(TaskId(0))
    assert happenings[-2] == JobCut(TaskId(0), Version(1))
    digest = H(b"version 1")
    assert happenings[-1] == VersionFinal(TaskId(0), Version(1), digest)


@st.composite
def plays(draw: st.DrawFn) -> list[tuple[str, int, int]]:
    """Moves as (what, who, version)."""
    what = st.sampled_from(["update", "update", "update", "attest", "end", "revoke"])
    move = st.tuples(what, st.integers(0, 7), st.integers(0, 4))
    return draw(st.lists(move, max_size=60))


def _play(moves: list[tuple[str, int, int]]) -> SmallChain:
    world = opened()
    for what, who, version in moves:
        if what == "update":
            world.do(world.update(who, version))
        elif what == "attest":
            world.do(world.attest(version))
        elif what == "revoke" and who == 7:
            world.do(world.revoke(who))
        else:
            world.end_block()
    return world


@given(plays())
@settings(max_examples=60, deadline=None)
def test_any_play_keeps_the_invariants(moves: list[tuple[str, int, int]]) -> None:
    check_invariants(_play(moves).tree)


@given(plays())
@settings(max_examples=20, deadline=None)
def test_replay_of_a_play_gives_the_same_root(
    moves: list[tuple[str, int, int]],
) -> None:
    assert _play(moves).tree.root() == _play(moves).tree.root()


_ROOT_SCRIPT = """
from dataclasses import replace
from starling.protocol.chain.credit_policy import CreditPolicy
from tests.unit.coordinator.chain.governance.test_slashing import double_vote
from tests.unit.coordinator.fixtures.small_chain import opened
from tests.unit.coordinator.fixtures.small_genesis import STRANGER, board_id, key
from tests.unit.coordinator.fixtures.small_task import SPEC
economy = CreditPolicy(10**6, 10**4, 100, 100)
world = opened(validators=4, spec=replace(SPEC, pool=99), economy=economy)
world.must(world.fund(10**3), world.transfer(board_id(2), 7))
for base in range(3):
    world.must(*(world.update(i, base) for i in (3, 1, 7, 5)))
    world.must(*(world.attest(base + 1, validator=v) for v in (2, 0, 3)))
    world.must(*(world.score(base + 1, (v, 3, -v, 9), v) for v in (3, 1, 0)))
world.must(world.rotate(2, key(77)), world.double_update(6), double_vote(world))
world.must(world.operator(STRANGER))
world.must(world.parameter(1, 9, 50))
world.must(world.upgrade(2, 90))
world.must(world.leave(world.validators[3]))
world.end_block()
print(world.tree.root().hex())
"""


def test_state_root_does_not_depend_on_the_hash_seed() -> None:
    roots = set()
    for seed in ("0", "1", "77"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": "src"}
        done = subprocess.run(
            [sys.executable, "-c", _ROOT_SCRIPT],
            cwd=Path(__file__).parents[5],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        roots.add(done.stdout)
    assert len(roots) == 1


def test_genesis_state_names_the_operators() -> None:
    tree = genesis_tree(SmallChain().genesis)
    assert operator_records.OPERATORS.get(tree, OPERATOR.public) == b""
    assert operator_records.OPERATORS.get(tree, STRANGER.public) is None

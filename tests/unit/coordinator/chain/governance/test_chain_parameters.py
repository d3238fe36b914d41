"""Parameters and rules change at a height, for everybody at once."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from starling.coordinator.chain.execution import block_builder
from starling.coordinator.chain.execution.state_machine import execute
from starling.coordinator.chain.governance.chain_parameters import (
    DELAY_BLOCKS,
    JAIL_BLOCKS,
    UPGRADE_DELAY_BLOCKS,
    parameter,
    rules_version,
)
from starling.coordinator.chain.mempool import Mempool
from starling.protocol.chain.blocks import Block
from starling.protocol.chain.governance import ChainParameter
from starling.protocol.crypto import merkle
from starling.protocol.errors import ConfigError, InvalidBlock, Reason
from starling.protocol.wire.envelope import ENVELOPE, Envelope
from tests.unit.coordinator.fixtures.single_validator import SingleValidator
from tests.unit.coordinator.fixtures.small_chain import SmallChain, opened


def value(world: SmallChain, wanted: ChainParameter, height: int) -> int:
    return parameter(world.tree, world.genesis, wanted, height)


@pytest.mark.parametrize(
    ("wanted", "first"),
    [
        (ChainParameter.HEARTBEAT_S, 60),
        (ChainParameter.TRANSACTIONS_MAX, 1000),
        (ChainParameter.JAIL_BLOCKS, JAIL_BLOCKS),
        (ChainParameter.SCORE_BLOCKS, 100),
    ],
)
def test_parameter_changes_at_its_height(wanted: ChainParameter, first: int) -> None:
    world = SmallChain(4)
    begins = world.height + DELAY_BLOCKS
    world.must(world.parameter(wanted, 7, begins))
    assert value(world, wanted, begins - 1) == first
    assert value(world, wanted, begins) == 7
    world.height = begins
    world.must(world.parameter(wanted, 9, begins + 5))
    assert value(world, wanted, begins + 4) == 7
    assert value(world, wanted, begins + 5) == 9


def _on_its_way(world: SmallChain) -> Envelope:
    world.must(world.parameter(1, 7, world.height + 50))
    return world.parameter(1, 8, world.height + 60)


def _upgrade_on_its_way(world: SmallChain) -> Envelope:
    world.must(world.upgrade(2, world.height + 50))
    return world.upgrade(3, world.height + 60)


AHEAD = 1 + DELAY_BLOCKS
REFUSALS: list[tuple[str, Callable[[SmallChain], Envelope], Reason]] = [
    ("unknown", lambda w: w.parameter(99, 1, AHEAD), Reason.POLICY_MISMATCH),
    ("too-low", lambda w: w.parameter(1, 0, AHEAD), Reason.POLICY_MISMATCH),
    ("too-high", lambda w: w.parameter(2, 1001, AHEAD), Reason.POLICY_MISMATCH),
    ("too-near", lambda w: w.parameter(1, 5, AHEAD - 1), Reason.POLICY_MISMATCH),
    ("too-far", lambda w: w.parameter(1, 5, 1 << 40), Reason.POLICY_MISMATCH),
    ("on-its-way", _on_its_way, Reason.BUSY),
    (
        "by-too-few",
        lambda w: w.parameter(1, 5, AHEAD, voters=(0, 1)),
        Reason.NOT_AUTHORISED,
    ),
    ("same-rules", lambda w: w.upgrade(1, 100), Reason.POLICY_MISMATCH),
    ("rules-left-out", lambda w: w.upgrade(3, 100), Reason.POLICY_MISMATCH),
    (
        "rules-too-near",
        lambda w: w.upgrade(2, UPGRADE_DELAY_BLOCKS),
        Reason.POLICY_MISMATCH,
    ),
    ("rules-too-far", lambda w: w.upgrade(2, 1 << 40), Reason.POLICY_MISMATCH),
    ("rules-on-their-way", _upgrade_on_its_way, Reason.BUSY),
    (
        "rules-by-too-few",
        lambda w: w.upgrade(2, 100, voters=(0, 1)),
        Reason.NOT_AUTHORISED,
    ),
]


@pytest.mark.parametrize(
    ("make", "reason"),
    [pytest.param(make, reason, id=name) for name, make, reason in REFUSALS],
)
def test_change_refused_changes_nothing(
    make: Callable[[SmallChain], Envelope], reason: Reason
) -> None:
    world = SmallChain(4)
    envelope = make(world)
    before = world.tree.root()
    assert world.do(envelope).code == reason
    assert world.tree.root() == before


def test_block_of_more_transactions_than_allowed_is_invalid() -> None:
    world = SmallChain()
    running = SingleValidator(world.genesis, world.validators[0])
    running.submit(world.parameter(ChainParameter.TRANSACTIONS_MAX, 2, 3))
    running.tick(0.0)
    running.submit(world.register(0), now_s=1.0)
    running.tick(1.0)
    envelopes = [world.register(number) for number in range(1, 4)]
    running.submit(*envelopes, now_s=2.0)
    tip = running.state.tip
    running.tick(2.0)
    assert [len(stored.block.transactions) for stored in running.blocks()] == [1, 1, 2]

    packed = tuple(ENVELOPE.pack(envelope) for envelope in envelopes)
    header = replace(running.blocks()[-1].block.header, tx_root=merkle.root(packed))
    with pytest.raises(InvalidBlock, match="3 transactions, 2 allowed"):
        block_builder.check(tip, Block(header, packed), Mempool())


def test_heartbeat_that_was_changed_is_kept() -> None:
    world = SmallChain()
    running = SingleValidator(world.genesis, world.validators[0])
    running.submit(world.parameter(ChainParameter.HEARTBEAT_S, 5, 3))
    running.tick(0.0)
    assert running.state.heartbeat_at_s == world.genesis.heartbeat_s
    running.tick(60.0)
    assert running.state.height == 2
    assert running.state.heartbeat_at_s == 65.0


def test_release_that_does_not_know_the_rules_stops_before_them() -> None:
    world = opened(validators=4)
    begins = world.height + UPGRADE_DELAY_BLOCKS
    world.must(world.upgrade(2, begins))
    assert rules_version(world.tree, begins - 1) == 1
    assert rules_version(world.tree, begins) == 2
    world.height = begins - 1
    world.tree = execute(world.tree, world.context, ()).tree
    world.height = begins
    with pytest.raises(ConfigError, match=f"from height {begins} .* version 2"):
        execute(world.tree, world.context, ())

"""What a coordinator's disk holds if the power goes inside one batch."""

from collections.abc import Sequence

import pytest

from starling.coordinator.chain.node.node import JournalVote
from starling.coordinator.loop.storage.persistence import Persistence
from starling.coordinator.step.effects import DropUpload, Effect, StoreUpload
from starling.protocol.ids import H
from starling.protocol.wire.envelope import MessageKind, sign
from tests.sim.simulator.coordinator_node import CrashingStore
from tests.sim.simulator.fleet_world import CHAIN, GENESIS, KEY
from tests.sim.simulator.invariants import Invariants
from tests.sim.simulator.virtual_time import PowerCut

UPDATE = sign(KEY, CHAIN, MessageKind.UPDATE, 1, b"body")
IDENTITY = UPDATE.identity(CHAIN)
STORE = StoreUpload(IDENTITY, UPDATE, b"blob")
DROP = DropUpload(IDENTITY)
VOTE = JournalVote(b"entry", 1)


class NoPower:
    """A vote journal that the power never reaches."""

    entries = ()

    def append(self, votes: Sequence[JournalVote], height: int) -> None:
        raise PowerCut


@pytest.mark.parametrize(
    ("before", "batch"),
    [
        pytest.param((), (STORE, VOTE), id="stored-before-the-vote"),
        pytest.param((STORE,), (DROP, VOTE), id="dropped-after-the-vote"),
    ],
)
def test_power_cut_at_the_vote_leaves_the_upload(
    before: tuple[Effect, ...], batch: tuple[Effect, ...]
) -> None:
    store = CrashingStore.under(GENESIS, Invariants(CHAIN))
    persistence = Persistence(store, NoPower(), 0, 20)
    persistence.commit(before, 0)

    with pytest.raises(PowerCut):
        persistence.commit(batch, 0)

    assert store.upload(IDENTITY) is not None


def test_power_cut_at_a_vote_that_is_written_first_loses_the_upload() -> None:
    store = CrashingStore.under(GENESIS, Invariants(CHAIN))
    persistence = Persistence(store, NoPower(), 0, 20)

    with pytest.raises(PowerCut):
        persistence.commit((VOTE, STORE), 0)

    assert store.upload(IDENTITY) is None


@pytest.mark.parametrize(
    ("batch", "kept"),
    [
        pytest.param((DROP,), False, id="dropped"),
        pytest.param((DROP, STORE), True, id="admitted-again"),
        pytest.param((STORE, DROP), False, id="refused-at-once"),
    ],
)
def test_upload_dropped_and_stored_in_one_batch_ends_as_the_last_one_said(
    batch: tuple[Effect, ...], kept: bool
) -> None:
    store = CrashingStore.under(GENESIS, Invariants(CHAIN))
    persistence = Persistence(store, NoPower(), 0, 20)
    persistence.commit((STORE,), 0)

    persistence.commit(batch, 0)

    assert (store.upload(IDENTITY) is not None) == kept
    assert store.upload(H(b"another")) is None

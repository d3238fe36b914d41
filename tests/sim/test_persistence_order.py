"""What a coordinator's disk holds if the power goes inside one batch."""

from collections.abc import Sequence

import pytest

from coordinator.effects import DropUpload, Effect, StoreUpload
from coordinator.ledger.node import JournalVote
from coordinator.rim.persistence import Persistence
from protocol.envelope import Kind, sign
from protocol.ids import H
from tests.sim.law import Law
from tests.sim.office import Chest
from tests.sim.timeline import PowerCut
from tests.sim.world import CHAIN, GENESIS, KEY

UPDATE = sign(KEY, CHAIN, Kind.UPDATE, 1, b"body")
IDENTITY = UPDATE.identity(CHAIN)
STORE = StoreUpload(IDENTITY, UPDATE, b"blob")
DROP = DropUpload(IDENTITY)
VOTE = JournalVote(b"entry", 1)


class NoPower:
    """A vote journal that the power never reaches."""

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
    store = Chest(GENESIS, Law(CHAIN))
    persistence = Persistence(store, NoPower(), 0, 20)
    persistence.commit(before, 0)

    with pytest.raises(PowerCut):
        persistence.commit(batch, 0)

    assert store.upload(IDENTITY) is not None


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
    store = Chest(GENESIS, Law(CHAIN))
    persistence = Persistence(store, NoPower(), 0, 20)
    persistence.commit((STORE,), 0)

    persistence.commit(batch, 0)

    assert (store.upload(IDENTITY) is not None) == kept
    assert store.upload(H(b"another")) is None

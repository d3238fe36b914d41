"""Blobs are looked for in every coordinator's store, dead or alive."""

import pytest

from starling.protocol.ids import Digest, H
from tests.unit.fleet.virtual.idle_fleet import fleet_of


def test_blob_is_found_wherever_it_is() -> None:
    fleet = fleet_of(2)
    last = fleet.coordinators[1]
    with last.store.transaction():
        last.store.put_blob(b"whole")
    last.kill()

    assert fleet.blobs[H(b"whole")] == b"whole"
    with pytest.raises(KeyError):
        fleet.blobs[Digest(bytes(32))]

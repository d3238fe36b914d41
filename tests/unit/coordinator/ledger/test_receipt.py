"""A receipt is believed from the genesis alone, and only as it was made."""

from dataclasses import replace

import pytest

from coordinator.ledger.receipt import RECEIPT, Entry, Receipt
from protocol import merkle
from protocol.envelope import ENVELOPE
from protocol.errors import DecodeError, ProtocolError
from protocol.light import Final, version_key
from tests.unit.coordinator.ledger.validator import Running
from tests.unit.coordinator.ledger.world import World


def receipts() -> tuple[World, dict[str, Receipt]]:
    """One of a transaction and one of a version."""
    world = World()
    running = Running(world.genesis, world.validators[0])
    running.submit(world.publish(), world.register(0))
    running.tick(0.0)
    (stored,) = running.blocks()
    entries = stored.block.transactions
    header, certificate = stored.block.header, stored.certificate
    final = Final(
        ENVELOPE.unpack(entries[1]),
        header,
        certificate,
        1,
        len(entries),
        merkle.path(entries, 1),
    )
    proof = running.state.tree.prove(version_key(0, 0))
    return world, {
        "transaction": Receipt((), final, None),
        "version": Receipt((), None, Entry(header, certificate, proof)),
    }


NAMES = ("transaction", "version")


@pytest.mark.parametrize("name", NAMES)
def test_receipt_comes_back_and_is_believed(name: str) -> None:
    world, made = receipts()
    found = RECEIPT.unpack(RECEIPT.pack(made[name]))
    assert found == made[name]
    assert found.header.height == 1
    found.check(world.genesis)


@pytest.mark.parametrize("name", NAMES)
def test_receipt_of_another_genesis_is_refused(name: str) -> None:
    world, made = receipts()
    other = replace(world.genesis, created_ms=world.genesis.created_ms + 1)
    with pytest.raises(ProtocolError):
        made[name].check(other)


@pytest.mark.parametrize("name", NAMES)
def test_receipt_with_any_byte_changed_is_refused(name: str) -> None:
    world, made = receipts()
    packed = RECEIPT.pack(made[name])
    for offset in range(len(packed)):
        damaged = bytearray(packed)
        damaged[offset] ^= 1
        with pytest.raises(ProtocolError):
            RECEIPT.unpack(bytes(damaged)).check(world.genesis)


@pytest.mark.parametrize("name", NAMES)
def test_receipt_cut_anywhere_is_refused(name: str) -> None:
    _, made = receipts()
    packed = RECEIPT.pack(made[name])
    for length in range(len(packed)):
        with pytest.raises(ProtocolError):
            RECEIPT.unpack(packed[:length])


def test_receipt_of_both_or_neither_is_refused() -> None:
    _, made = receipts()
    with pytest.raises(DecodeError):
        replace(made["version"], final=made["transaction"].final)
    with pytest.raises(DecodeError):
        replace(made["version"], entry=None)

"""A receipt is believed from the genesis alone, and only as it was made."""

from dataclasses import replace

import pytest

from starling.coordinator.chain.verification.receipt import RECEIPT, Receipt, StateEntry
from starling.protocol.chain.genesis import ValidatorSet
from starling.protocol.chain.light_client import (
    FinalityProof,
    ValidatorSetGap,
    ValidatorSetTransition,
    payments_key,
    scores_key,
    version_key,
)
from starling.protocol.chain.payments import PAYMENTS, Payment, Payments
from starling.protocol.chain.update_scores import SCORES, Scores, UpdateScore
from starling.protocol.crypto import merkle
from starling.protocol.crypto.state_tree import StateTree
from starling.protocol.errors import DecodeError, ProtocolError
from starling.protocol.ids import DeviceId
from starling.protocol.learning.task import version_digest
from starling.protocol.wire.envelope import ENVELOPE
from tests.unit.coordinator.fixtures.single_validator import SingleValidator
from tests.unit.coordinator.fixtures.small_chain import SmallChain
from tests.vectors import protocol_samples as samples


def receipts() -> tuple[SmallChain, dict[str, Receipt]]:
    """One of a transaction and one of a version."""
    world = SmallChain()
    running = SingleValidator(world.genesis, world.validators[0])
    running.submit(world.publish(), world.register(0))
    running.tick(0.0)
    (stored,) = running.blocks()
    entries = stored.block.transactions
    header, certificate = stored.block.header, stored.certificate
    final = FinalityProof(
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
        "version": Receipt((), None, StateEntry(header, certificate, proof)),
    }


def test_receipt_leads_through_hundreds_of_changes() -> None:
    shorter = ValidatorSet(samples.VALIDATORS.members[:3])
    sets = [samples.VALIDATORS, shorter]
    handovers = []
    for height in range(1, 301):
        before, after = sets[height % 2 - 1], sets[height % 2]
        header = replace(
            samples.HEADER,
            height=height,
            validators=before.digest(),
            next_validators=after.digest(),
        )
        handovers.append(ValidatorSetTransition(header, samples.certify(header), after))
    key = version_key(0, 0)
    tree = StateTree().update({key: b"digest"})
    last = replace(samples.HEADER, height=301, state_root=tree.root())
    entry = StateEntry(last, samples.certify(last), tree.prove(key))
    receipt = Receipt(tuple(handovers), None, entry)
    RECEIPT.unpack(RECEIPT.pack(receipt)).check(samples.GENESIS)
    missing = replace(receipt, handovers=receipt.handovers[1:])
    with pytest.raises(ValidatorSetGap):
        missing.check(samples.GENESIS)


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


@pytest.mark.parametrize(
    ("key", "value", "most"),
    [
        (version_key(0, 3), version_digest(samples.MODEL), 900),
        (
            scores_key(0, 3),
            SCORES.pack(Scores(3, (UpdateScore(900_000, 900_000),) * 10)),
            1_000,
        ),
        (
            payments_key(0, 3, 0),
            PAYMENTS.pack(Payments((Payment(DeviceId(bytes(16)), 33_333),) * 10)),
            1_120,
        ),
    ],
    ids=["version", "scores", "payments"],
)
def test_receipt_of_four_coordinators_is_about_a_kilobyte(
    key: bytes, value: bytes, most: int
) -> None:
    """In a state of 1,000 boards, of a version of ten updates."""
    boards = {b"board/%d" % number: bytes(100) for number in range(1_000)}
    tree = StateTree().update({key: value, **boards})
    header = replace(samples.HEADER, state_root=tree.root())
    shown = StateEntry(header, samples.certify(header), tree.prove(key))
    receipt = Receipt((), None, shown)
    receipt.check(samples.GENESIS)
    assert len(RECEIPT.pack(receipt)) <= most

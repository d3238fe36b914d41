"""What boards hold is found on every chain, or said to be wrong."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from starling.fleet.report.receipt_audit import (
    AcknowledgedUpdate,
    ReceiptAudit,
    compare,
    forks,
)
from starling.protocol.chain.light_client import FINAL, FinalityProof, pin
from starling.protocol.ids import BlockHash, Digest, H
from starling.protocol.wire.envelope import ENVELOPE, Envelope, MessageKind, sign
from tests.unit.agent.fake_coordinator import BOARD, CHAIN, GENESIS, STRANGER, final

NAMES = ("coordinator", "coordinator-2", "coordinator-3", "coordinator-4")
WAITING = H(b"an update that waits")


def update(number: int) -> Envelope:
    return sign(BOARD, CHAIN, MessageKind.UPDATE, number, b"body %d" % number)


def proof_of(number: int) -> FinalityProof:
    return FINAL.unpack(ENVELOPE.unpack(final(update(number))).body)


PROOF = proof_of(1)
IDENTITY = update(1).identity(CHAIN)


@dataclass(frozen=True)
class Shelf:
    """A chain of dictionaries."""

    name: str
    height: int = 12
    first_body: int = 1
    blocks: dict[int, BlockHash] = field(
        default_factory=lambda: (
            {height: BlockHash(H(b"%d" % height)) for height in range(1, 13)}
            | {PROOF.header.height: PROOF.header.block_id()}
        )
    )
    places: dict[Digest, tuple[int, int]] = field(
        default_factory=lambda: {IDENTITY: (PROOF.header.height, 0)}
    )
    waiting: frozenset[Digest] = frozenset({WAITING})

    def place(self, transaction: Digest) -> tuple[int, int] | None:
        return self.places.get(transaction)

    def block_id(self, height: int) -> BlockHash | None:
        return self.blocks.get(height)

    def waits(self, transaction: Digest) -> bool:
        return transaction in self.waiting


def looked_up(
    change: Callable[[Shelf], Shelf] = lambda shelf: shelf,
    proof: bytes | None = None,
    *acknowledged: AcknowledgedUpdate,
) -> ReceiptAudit:
    """The comparison, with the last of four chains changed."""
    chains = [Shelf(name) for name in NAMES]
    chains[-1] = change(chains[-1])
    proofs = {"board 000, 0-1": FINAL.pack(PROOF) if proof is None else proof}
    return compare(proofs, acknowledged, chains, pin(GENESIS))


def test_compare_proof_on_every_chain_verifies() -> None:
    found = looked_up()
    assert found.hold
    assert found.text == "1 of 1 verify on 4 chains"


@pytest.mark.parametrize(
    "change",
    [
        lambda shelf: replace(shelf, places={}),
        lambda shelf: replace(shelf, places={IDENTITY: (PROOF.header.height, 1)}),
        lambda shelf: replace(shelf, places={IDENTITY: (3, 0)}),
        lambda shelf: replace(
            shelf, blocks=shelf.blocks | {PROOF.header.height: BlockHash(H(b"other"))}
        ),
    ],
    ids=["missing", "other index", "other height", "other block"],
)
def test_compare_proof_that_one_chain_lacks_is_wrong(
    change: Callable[[Shelf], Shelf],
) -> None:
    found = looked_up(change)
    assert not found.hold
    assert found.verified == 0
    assert "not on the chain of coordinator-4" in found.text


def pruned(shelf: Shelf) -> Shelf:
    """Of old blocks it has the headers alone."""
    return replace(shelf, first_body=12, places={})


def adopted(shelf: Shelf) -> Shelf:
    """Began from a snapshot, without the headers before it."""
    return replace(pruned(shelf), blocks={12: shelf.blocks[12]})


def test_compare_proof_is_checked_by_a_header_that_outlived_its_block() -> None:
    assert looked_up(pruned).text == "1 of 1 verify on 4 chains"

    other = {PROOF.header.height: BlockHash(H(b"other"))}
    found = looked_up(lambda shelf: replace(pruned(shelf), blocks=shelf.blocks | other))
    assert "not on the chain of coordinator-4" in found.text


def test_compare_proof_of_a_block_that_a_chain_dropped_is_not_checkable() -> None:
    found = looked_up(adopted)
    assert found.hold
    assert (found.verified, found.unchecked) == (0, 1)
    assert "1 not checkable, of blocks that were dropped" in found.text


def test_compare_lost_header_of_a_block_that_is_kept_is_wrong() -> None:
    found = looked_up(lambda shelf: replace(shelf, blocks={}))
    assert "not on the chain of coordinator-4" in found.text


def test_compare_acknowledged_update_is_not_lost_where_all_dropped_blocks() -> None:
    lost = AcknowledgedUpdate(H(b"lost"), 9, 5)
    chains = [pruned(Shelf(name)) for name in NAMES]

    found = compare({}, [lost], chains, pin(GENESIS))
    assert found.hold
    assert found.unchecked == 1

    # One that has all blocks would have it.
    found = compare({}, [lost], [*chains, Shelf("whole")], pin(GENESIS))
    assert "acknowledged and lost" in found.text


def test_compare_chain_that_ends_before_is_named_and_not_blamed() -> None:
    found = looked_up(lambda shelf: replace(shelf, height=PROOF.header.height - 1))
    assert found.hold
    assert found.short == ("coordinator-4",)
    assert "ends before the last of them: coordinator-4" in found.text


@pytest.mark.parametrize(
    "proof",
    [
        b"torn",
        FINAL.pack(replace(PROOF, index=1)),
        FINAL.pack(FINAL.unpack(ENVELOPE.unpack(final(update(1), STRANGER)).body)),
        FINAL.pack(replace(PROOF, transaction=update(2))),
    ],
    ids=["torn", "path", "certificate", "transaction"],
)
def test_compare_proof_that_proves_nothing_is_wrong(proof: bytes) -> None:
    found = looked_up(proof=proof)
    assert not found.hold
    assert found.wrong[0].startswith("board 000, 0-1: ")


@pytest.mark.parametrize(
    ("acknowledged", "text"),
    [
        (AcknowledgedUpdate(IDENTITY, 9, 5), "2 of 2 verify on 4 chains"),
        (
            AcknowledgedUpdate(WAITING, 9, 5),
            "1 of 2 verify on 4 chains; 1 acknowledged and waiting for a block",
        ),
        (
            AcknowledgedUpdate(H(b"unknown"), 4, 5),
            "1 of 2 verify on 4 chains; 1 acknowledged and too old by now",
        ),
    ],
    ids=["in a block", "waiting", "stale"],
)
def test_compare_acknowledged_update_is_accounted_for(
    acknowledged: AcknowledgedUpdate, text: str
) -> None:
    found = looked_up(lambda shelf: shelf, None, acknowledged)
    assert found.hold
    assert found.text == text


def test_compare_acknowledged_update_that_nobody_has_is_wrong() -> None:
    found = looked_up(lambda shelf: shelf, None, AcknowledgedUpdate(H(b"lost"), 9, 5))
    assert not found.hold
    assert "acknowledged and lost" in found.text


@pytest.mark.parametrize("height", [1, 2, 7, 12])
def test_forks_names_the_first_height_that_differs(height: int) -> None:
    blocks = Shelf("x").blocks
    other = {at: BlockHash(H(b"fork %d" % at)) for at in range(height, 13)}
    chains = [Shelf("one"), Shelf("two", blocks=blocks | other)]
    assert forks(chains) == (height,)


def test_forks_of_a_prefix_are_none() -> None:
    assert forks([Shelf("long"), Shelf("short", height=5), Shelf("new", 0)]) == ()
    assert forks([Shelf("long"), Shelf("short", height=5)]) == ()


def test_forks_are_not_where_a_chain_dropped_its_headers() -> None:
    late = adopted(Shelf("late"))
    assert forks([Shelf("long"), late, Shelf("short", height=5)]) == ()
    assert forks([Shelf("long"), late]) == ()
    other = replace(late, blocks={12: BlockHash(H(b"fork"))})
    assert forks([Shelf("long"), other]) == (12,)

"""Entries of the state are proven with the genesis alone, in less than a kilobyte."""

from dataclasses import replace

import pytest

from protocol.entry import ENTRY, Entry
from protocol.errors import ProofError, ProtocolError, SignatureError
from protocol.ids import DeviceId
from protocol.light import payments_key, pin, scores_key, version_key
from protocol.messages import PPM
from protocol.payment import PAGE, PAYMENTS, Payment, Payments
from protocol.score import SCORES, Scores
from protocol.statetree import StateTree
from protocol.task import version_digest
from tests.vectors import protocol_samples as samples
from tests.vectors.protocol_samples import HEADER, MODEL, certify

UPDATES = 10
BOARDS = 1_000
RECEIPT_BYTES = 900
PAID = tuple(Payment(DeviceId(bytes([at]) * 16), 33_333) for at in range(UPDATES))
SCORED = Scores(112, 3, tuple(at * PPM // UPDATES for at in range(UPDATES)))
TREE = StateTree().update(
    {
        version_key(0, 3): version_digest(MODEL),
        scores_key(0, 3): SCORES.pack(SCORED),
        payments_key(0, 3, 0): PAYMENTS.pack(Payments(PAID)),
        **{b"board/%d" % at: bytes(100) for at in range(BOARDS)},
    }
)
STATED = replace(HEADER, state_root=TREE.root())
PINNED = pin(samples.GENESIS)


def entry(key: bytes) -> Entry:
    made = Entry(STATED, certify(STATED), TREE.prove(key))
    return ENTRY.unpack(ENTRY.pack(made))


def test_version_scores_and_payments_are_proven() -> None:
    version = entry(version_key(0, 3))
    assert version.check(PINNED).height == STATED.height
    assert version.version(0, 3) == version_digest(MODEL)
    assert entry(scores_key(0, 3)).scores(0, 3) == SCORED
    assert entry(payments_key(0, 3, 0)).payment(0, 3, 9) == PAID[9]


@pytest.mark.parametrize(
    ("key", "extra"),
    [
        (version_key(0, 3), 0),
        (scores_key(0, 3), 5 * UPDATES),
        (payments_key(0, 3, 0), 24 * UPDATES),
    ],
    ids=["version", "scores", "payments"],
)
def test_proof_of_four_coordinators_is_less_than_a_kilobyte(
    key: bytes, extra: int
) -> None:
    """Beside the value itself, with a state of 1,000 boards."""
    assert len(ENTRY.pack(entry(key))) <= RECEIPT_BYTES + extra


def test_entry_of_something_else_is_refused() -> None:
    proof = entry(version_key(0, 3))
    with pytest.raises(ProofError, match="not of"):
        proof.scores(0, 3)
    with pytest.raises(ProofError, match="not of"):
        proof.version(0, 4)
    with pytest.raises(ProofError, match="not of"):
        entry(payments_key(0, 3, 0)).payment(0, 3, PAGE)
    with pytest.raises(ProofError, match="no update 10"):
        entry(payments_key(0, 3, 0)).payment(0, 3, UPDATES)


FORGED = {
    "value": lambda one: replace(one, proof=replace(one.proof, value=bytes(32))),
    "key": lambda one: replace(one, proof=replace(one.proof, key=version_key(0, 4))),
    "root": lambda one: replace(one, header=HEADER, certificate=certify(HEADER)),
    "certificate": lambda one: replace(one, certificate=certify(STATED, voters=(0,))),
    "path": lambda one: replace(one, proof=replace(one.proof, path=())),
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_forged_entry_is_refused(forge: object) -> None:
    made = forge(entry(version_key(0, 3)))  # type: ignore[operator]  # of the table
    with pytest.raises((ProofError, SignatureError, ProtocolError)):
        made.check(PINNED)


def test_entry_leads_through_a_change_of_the_validators() -> None:
    later = replace(STATED, height=12, validators=samples.CHANGED.digest())
    later = replace(later, next_validators=samples.CHANGED.digest())
    proof = TREE.prove(version_key(0, 3))
    with pytest.raises(ProofError, match="not trusted"):
        Entry(later, certify(later), proof).check(PINNED)
    made = Entry(later, certify(later), proof, (samples.HANDOVER,))
    assert made.check(PINNED).validators == samples.CHANGED

"""The light client believes what is proven, and nothing that only looks like it."""

from dataclasses import replace

import pytest

from starling.protocol.chain.blocks import Certificate, Header
from starling.protocol.chain.genesis import FaultModel, Validator, ValidatorSet
from starling.protocol.chain.light_client import (
    FINAL,
    MANIFEST,
    TRUSTED,
    CertifiedHeader,
    FinalityProof,
    ForkError,
    ModelManifest,
    TrustedState,
    ValidatorSetGap,
    ValidatorSetTransition,
    pin,
    task_key,
    version_key,
)
from starling.protocol.chain.task_end import closure_key
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.crypto.state_tree import StateTree
from starling.protocol.errors import ProofError, ProtocolError, Reason, SignatureError
from starling.protocol.ids import (
    BlockHash,
    ChainId,
    Digest,
    H,
    SealingKey,
    TaskId,
    Version,
)
from starling.protocol.learning.task import TASK, version_digest
from starling.protocol.wire.envelope import MessageKind, sign
from starling.protocol.wire.message_bodies import CONTRIBUTION
from tests.vectors import protocol_samples as samples
from tests.vectors.protocol_samples import CERTIFICATE, CHAIN_ID, HEADER, STATE, certify
from tests.vectors.protocol_samples import FINAL as PROOF
from tests.vectors.protocol_samples import MANIFEST as SHOWN

PINNED = pin(samples.GENESIS)
LATER_KEYS = tuple(
    sorted(
        (SigningKey(bytes([150 + i]) * 32) for i in range(4)),
        key=lambda key: key.public,
    )
)
LATER = ValidatorSet(
    tuple(Validator(key.public, SealingKey(bytes(32)), "later") for key in LATER_KEYS)
)
STRANGERS = tuple(SigningKey(bytes([200 + i]) * 32) for i in range(4))


def test_trusted_after_a_certified_header_has_its_height() -> None:
    after = PINNED.accept(HEADER, CERTIFICATE)

    last = CertifiedHeader(HEADER, CERTIFICATE)
    assert after == replace(PINNED, height=12, last=last)


def test_trusted_survives_being_written_down() -> None:
    read = TRUSTED.unpack(TRUSTED.pack(PINNED))

    assert read == PINNED
    assert read.accept(HEADER, CERTIFICATE).height == 12


def test_trusted_of_the_crash_model_survives_being_written_down() -> None:
    three = ValidatorSet(samples.VALIDATORS.members[:3])
    genesis = replace(samples.GENESIS, fault_model=FaultModel.CRASH, validators=three)
    header = replace(
        HEADER,
        chain_id=genesis.chain_id(),
        validators=three.digest(),
        next_validators=three.digest(),
    )

    read = TRUSTED.unpack(TRUSTED.pack(pin(genesis)))

    assert read.accept(header, certify(header, voters=(0, 2))).height == 12


def test_older_header_is_believed_and_lowers_nothing() -> None:
    older = replace(HEADER, height=5)
    after = PINNED.accept(HEADER, CERTIFICATE)

    assert after.accept(older, certify(older)) == after


@pytest.mark.parametrize("height", [5, 12], ids=["older", "second"])
def test_header_that_is_not_newer_needs_its_certificate_too(height: int) -> None:
    after = PINNED.accept(HEADER, CERTIFICATE)
    other = replace(HEADER, height=height, state_root=Digest(bytes(32)))
    few = certify(other, voters=(0, 1))
    forged = replace(certify(other), signatures=certify(HEADER).signatures)
    for certificate in (few, forged):
        with pytest.raises((ProofError, SignatureError)):
            after.accept(other, certificate)


def changing(height: int, before: ValidatorSet, after: ValidatorSet) -> Header:
    return replace(
        HEADER,
        height=height,
        validators=before.digest(),
        next_validators=after.digest(),
    )


def test_changed_validator_set_is_followed_when_shown() -> None:
    change = changing(13, samples.VALIDATORS, LATER)
    beyond = changing(14, LATER, LATER)

    after = PINNED.accept(change, certify(change), LATER)

    assert after.validators == LATER
    assert after.accept(beyond, certify(beyond, LATER_KEYS)).height == 14


@pytest.mark.parametrize(
    "following", [None, samples.VALIDATORS, ValidatorSet(LATER.members[:3])]
)
def test_changed_validator_set_not_shown_refuses(
    following: ValidatorSet | None,
) -> None:
    change = changing(13, samples.VALIDATORS, LATER)

    with pytest.raises(ProofError, match="show the new one"):
        PINNED.accept(change, certify(change), following)


def test_replaced_validators_certify_nothing_more() -> None:
    change = changing(13, samples.VALIDATORS, LATER)
    after = PINNED.accept(change, certify(change), LATER)
    forged = replace(HEADER, height=14)

    with pytest.raises(ProofError, match="not trusted"):
        after.accept(forged, certify(forged))


def test_validators_of_a_later_set_certify_nothing() -> None:
    early = changing(13, LATER, LATER)

    with pytest.raises(ProofError, match="not trusted"):
        PINNED.accept(early, certify(early, LATER_KEYS))


def test_old_change_shown_again_does_not_bring_back_the_set_it_led_to() -> None:
    # The first set resigns, comes back, and then its old resignation is replayed.
    first = changing(13, samples.VALIDATORS, LATER)
    back = changing(20, LATER, samples.VALIDATORS)
    trusted = PINNED.accept(first, certify(first), LATER).accept(
        back, certify(back, LATER_KEYS), samples.VALIDATORS
    )

    replayed = trusted.accept(first, certify(first), LATER)

    assert replayed.validators == samples.VALIDATORS
    assert replayed.height == 20


ANOTHER = replace(HEADER, height=13)
UNPROVEN = {
    "another chain": (replace(HEADER, chain_id=ChainId(bytes(32))), CERTIFICATE),
    "certificate of another header": (ANOTHER, CERTIFICATE),
    "header of another certificate": (HEADER, certify(ANOTHER)),
    "certificate with the height changed": (
        HEADER,
        replace(certify(ANOTHER), height=12),
    ),
    "certificate with the block changed": (
        HEADER,
        replace(certify(ANOTHER), height=12, block_id=HEADER.block_id()),
    ),
    "too few votes": (HEADER, certify(HEADER, voters=(0, 1))),
    "foreign votes": (HEADER, certify(HEADER, STRANGERS)),
    "state root altered": (replace(HEADER, state_root=Digest(bytes(32))), CERTIFICATE),
}


@pytest.mark.parametrize(("header", "certificate"), UNPROVEN.values(), ids=UNPROVEN)
def test_header_without_its_proof_refuses(
    header: Header, certificate: Certificate
) -> None:
    with pytest.raises((ProofError, SignatureError)):
        PINNED.accept(header, certificate)


def test_header_of_another_chain_says_so() -> None:
    foreign = replace(HEADER, chain_id=ChainId(bytes(32)))

    with pytest.raises(ProofError) as caught:
        PINNED.accept(foreign, certify(foreign))

    assert caught.value.reason is Reason.WRONG_CHAIN


def test_manifest_proves_version_and_task() -> None:
    after, spec = MANIFEST.unpack(MANIFEST.pack(SHOWN)).check(PINNED)

    assert after.height == 12
    assert spec == samples.SPEC


CLOSED = STATE.update({closure_key(0): b"at some height", closure_key(1): b"too"})
CLOSED_HEADER = replace(HEADER, state_root=CLOSED.root())


def at_its_end(key: bytes) -> ModelManifest:
    """The manifest of task 0 under a state in which it is closed."""
    return replace(
        SHOWN,
        header=CLOSED_HEADER,
        certificate=certify(CLOSED_HEADER),
        version_proof=CLOSED.prove(version_key(0, 3)),
        task_proof=CLOSED.prove(task_key(0)),
        end=CLOSED.prove(key),
    )


def test_manifest_proves_that_its_task_is_over() -> None:
    manifest = MANIFEST.unpack(MANIFEST.pack(at_its_end(closure_key(0))))

    manifest.check(PINNED)

    assert manifest.is_over
    assert not SHOWN.is_over


@pytest.mark.parametrize("key", [closure_key(1), task_key(0)])
def test_manifest_with_the_end_of_something_else_is_not_over(key: bytes) -> None:
    with pytest.raises(ProofError, match="not of an end"):
        _ = at_its_end(key).is_over


NEWER = STATE.update({b"board/1": b"changed"})
OTHER_MODEL = replace(samples.MODEL, theta=Digest(bytes(32)))
FORGED_STATE = StateTree().update(
    {
        version_key(0, 3): version_digest(OTHER_MODEL),
        task_key(0): TASK.pack(samples.SPEC),
    }
)
FORGED = {
    "another task": replace(SHOWN, task=TaskId(1)),
    "another version": replace(SHOWN, version=Version(4)),
    "another model": replace(SHOWN, model=OTHER_MODEL),
    "proofs swapped": replace(
        SHOWN, version_proof=SHOWN.task_proof, task_proof=SHOWN.version_proof
    ),
    "proof of a newer state": replace(
        SHOWN, version_proof=NEWER.prove(version_key(0, 3))
    ),
    "task's proof of a newer state": replace(
        SHOWN, task_proof=NEWER.prove(task_key(0))
    ),
    "proof of an invented state": replace(
        SHOWN, model=OTHER_MODEL, version_proof=FORGED_STATE.prove(version_key(0, 3))
    ),
    "header of an invented state": replace(
        SHOWN,
        model=OTHER_MODEL,
        header=replace(HEADER, state_root=FORGED_STATE.root()),
        version_proof=FORGED_STATE.prove(version_key(0, 3)),
        task_proof=FORGED_STATE.prove(task_key(0)),
    ),
    "an end that is not in the state": replace(SHOWN, end=CLOSED.prove(closure_key(0))),
    "value replaced": replace(
        SHOWN,
        model=OTHER_MODEL,
        version_proof=replace(SHOWN.version_proof, value=version_digest(OTHER_MODEL)),
    ),
    "spec replaced": replace(
        SHOWN,
        task_proof=replace(
            SHOWN.task_proof, value=TASK.pack(replace(samples.SPEC, name="easier"))
        ),
    ),
}


@pytest.mark.parametrize("manifest", FORGED.values(), ids=FORGED)
def test_manifest_that_proves_something_else_refuses(manifest: ModelManifest) -> None:
    with pytest.raises(ProofError):
        manifest.check(PINNED)


def test_manifest_with_any_byte_flipped_refuses() -> None:
    packed = bytearray(MANIFEST.pack(SHOWN))
    believed = []

    for place in range(len(packed)):
        packed[place] ^= 0x01
        if believes(bytes(packed)):
            believed.append(place)
        packed[place] ^= 0x01

    assert believed == []


def believes(packed: bytes) -> bool:
    try:
        MANIFEST.unpack(packed).check(PINNED)
    except ProtocolError:
        return False
    return True


def test_final_proves_the_transaction() -> None:
    assert FINAL.unpack(FINAL.pack(PROOF)).check(PINNED).height == 12


OTHER_UPDATE = sign(
    samples.BOARD,
    CHAIN_ID,
    MessageKind.UPDATE,
    5,
    CONTRIBUTION.pack(samples.CONTRIBUTION),
)
UNFINISHED = {
    "another transaction": replace(PROOF, transaction=OTHER_UPDATE),
    "signature altered": replace(
        PROOF, transaction=replace(samples.UPDATE, signature=bytes(64))
    ),
    "another place": replace(PROOF, index=1),
    "place beyond": replace(PROOF, index=100),
    "another size": replace(PROOF, size=1000),
    "path cut": replace(PROOF, path=PROOF.path[1:]),
    "no path": replace(PROOF, path=()),
    "path altered": replace(PROOF, path=(H(b""), *PROOF.path[1:])),
    "another header": replace(PROOF, header=replace(HEADER, tx_root=H(b""))),
    "another parent": replace(PROOF, header=replace(HEADER, parent=BlockHash(H(b"")))),
    "few votes": replace(PROOF, certificate=certify(HEADER, voters=(0,))),
}


@pytest.mark.parametrize("final", UNFINISHED.values(), ids=UNFINISHED)
def test_final_that_proves_something_else_refuses(final: FinalityProof) -> None:
    with pytest.raises((ProofError, SignatureError)):
        final.check(PINNED)


def test_pin_starts_below_the_first_block() -> None:
    assert pin(samples.GENESIS) == TrustedState(
        CHAIN_ID, FaultModel.BYZANTINE, 0, samples.VALIDATORS
    )


CHANGE = changing(13, samples.VALIDATORS, LATER)
HANDOVER = ValidatorSetTransition(CHANGE, certify(CHANGE), LATER)
BEYOND = changing(14, LATER, LATER)
MOVED = PINNED.follow([HANDOVER])


def test_handover_leads_to_the_next_set_and_is_skipped_later() -> None:
    assert MOVED.validators == LATER
    assert MOVED.follow([HANDOVER]) is MOVED
    assert MOVED.accept(BEYOND, certify(BEYOND, LATER_KEYS)).height == 14
    assert TRUSTED.unpack(TRUSTED.pack(MOVED)) == MOVED


def test_handover_shown_again_as_a_header_is_believed() -> None:
    assert MOVED.accept(CHANGE, HANDOVER.certificate) is MOVED


@pytest.mark.parametrize(
    "handover",
    [
        replace(HANDOVER, following=samples.VALIDATORS),
        replace(HANDOVER, certificate=certify(CHANGE, STRANGERS)),
        replace(HANDOVER, certificate=certify(CHANGE, voters=(0, 1))),
        ValidatorSetTransition(BEYOND, certify(BEYOND, LATER_KEYS), LATER),
    ],
    ids=["other-set", "strangers", "too-few", "unknown-set"],
)
def test_handover_that_proves_nothing_is_refused(
    handover: ValidatorSetTransition,
) -> None:
    with pytest.raises((ProofError, SignatureError)):
        PINNED.follow([handover])


def test_handovers_that_begin_too_late_are_named_as_a_gap() -> None:
    back = changing(14, LATER, samples.VALIDATORS)
    late = ValidatorSetTransition(back, certify(back, LATER_KEYS), samples.VALIDATORS)
    assert PINNED.follow([HANDOVER, late]).height == 14
    with pytest.raises(ValidatorSetGap) as caught:
        PINNED.follow([late])
    assert (caught.value.height, caught.value.shown) == (0, 14)


def test_handover_of_another_chain_is_no_gap() -> None:
    header = replace(CHANGE, chain_id=ChainId(bytes(32)), validators=LATER.digest())
    with pytest.raises(ProofError) as caught:
        PINNED.follow([ValidatorSetTransition(header, certify(header), LATER)])
    assert caught.value.reason is Reason.WRONG_CHAIN


def test_manifest_leads_through_handovers() -> None:
    header = replace(HEADER, height=14, validators=LATER.digest())
    header = replace(header, next_validators=LATER.digest())
    shown = replace(SHOWN, header=header, certificate=certify(header, LATER_KEYS))
    with pytest.raises(ProofError, match="not trusted"):
        shown.check(PINNED)

    after, _ = replace(shown, handovers=(HANDOVER,)).check(PINNED)

    assert (after.height, after.validators) == (14, LATER)


def test_final_under_the_set_before_is_believed_for_its_heights_only() -> None:
    assert PROOF.check(MOVED) is MOVED
    late = replace(HEADER, height=14)
    with pytest.raises(ProofError, match="not trusted"):
        replace(PROOF, header=late, certificate=certify(late)).check(MOVED)
    with pytest.raises(ProofError, match="not trusted"):
        SHOWN.check(MOVED)
    forged = replace(PROOF, certificate=certify(HEADER, STRANGERS))
    with pytest.raises(SignatureError):
        forged.check(MOVED)


RIVAL = replace(HEADER, time_ms=HEADER.time_ms + 1)
RIVAL_CHANGE = replace(CHANGE, time_ms=CHANGE.time_ms + 1)


@pytest.mark.parametrize(
    ("known", "rival"),
    [(PINNED.accept(HEADER, CERTIFICATE), RIVAL), (MOVED, RIVAL_CHANGE)],
    ids=["same-set", "last-of-its-set"],
)
def test_second_certified_header_of_a_height_is_a_fork(
    known: TrustedState, rival: Header
) -> None:
    with pytest.raises(ForkError, match="two certified blocks at height") as found:
        known.accept(rival, certify(rival), LATER)
    assert found.value.first == known.last
    assert found.value.second == CertifiedHeader(rival, certify(rival))


def test_uncertified_second_header_is_no_fork() -> None:
    known = PINNED.accept(HEADER, CERTIFICATE)
    with pytest.raises(ProofError) as found:
        known.accept(RIVAL, certify(RIVAL, voters=(0, 1)))
    assert not isinstance(found.value, ForkError)

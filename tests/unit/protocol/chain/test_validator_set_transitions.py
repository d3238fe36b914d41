"""The light client follows changes of the validators when they are shown."""

from dataclasses import replace

import pytest

from starling.protocol.chain.genesis import ValidatorSet
from starling.protocol.chain.light_client import (
    TRUSTED,
    ValidatorSetGap,
    ValidatorSetTransition,
)
from starling.protocol.errors import ProofError, Reason, SignatureError
from starling.protocol.ids import ChainId
from tests.unit.protocol.chain.later_validators import (
    BEYOND,
    CHANGE,
    HANDOVER,
    LATER,
    LATER_KEYS,
    MOVED,
    PINNED,
    STRANGERS,
    changing,
)
from tests.vectors import protocol_samples as samples
from tests.vectors.protocol_samples import HEADER, certify


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

"""Validators that replace those of the samples, and what a client believes then."""

from dataclasses import replace

from starling.protocol.chain.blocks import Header
from starling.protocol.chain.genesis import Validator, ValidatorSet
from starling.protocol.chain.light_client import ValidatorSetTransition, pin
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.ids import SealingKey
from tests.vectors import protocol_samples as samples
from tests.vectors.protocol_samples import HEADER, certify

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


def changing(height: int, before: ValidatorSet, after: ValidatorSet) -> Header:
    return replace(
        HEADER,
        height=height,
        validators=before.digest(),
        next_validators=after.digest(),
    )


CHANGE = changing(13, samples.VALIDATORS, LATER)
HANDOVER = ValidatorSetTransition(CHANGE, certify(CHANGE), LATER)
BEYOND = changing(14, LATER, LATER)
MOVED = PINNED.follow([HANDOVER])

"""Records of validators in the chain's state: their sets, absences and mismatches."""

from typing import Annotated

from starling.coordinator.chain.state.generational_cache import CachedCodec
from starling.coordinator.chain.state.state_table import (
    StateReader,
    Table,
    alone,
    by_identity,
    by_number,
    by_task_and_identity,
)
from starling.protocol.chain.genesis import Genesis, ValidatorSet
from starling.protocol.ids import Digest, Version
from starling.protocol.schema.msgpack_codec import (
    Flag,
    Structure,
    Uint,
    structure,
    uint,
)


class AbsenceRecord(Structure, frozen=True):
    """Absence of a validator: it missed its turn, and made no block since.

    Attributes:
      misses: How often, up to a bound.
      height: Of the last time.
      away: 1 while it is passed over, 0 once it said that it is back.
    """

    misses: Annotated[int, uint(255, 1)]
    height: Uint
    away: Flag


ABSENCE = structure(AbsenceRecord, 32)


class MismatchRecord(Structure, frozen=True):
    """Attestations of a validator that differ from the final versions of a task.

    Attributes:
      count: How many.
      version: The latest of them.
      digest: What it attested for that one.
    """

    count: Uint
    version: Version
    digest: Digest


DISSENT = structure(MismatchRecord, 64)


class Epoch(Structure, frozen=True):
    """A validator set that followed the genesis's.

    Attributes:
      height: The first height that it decides.
      validators: The set.
    """

    height: Uint
    validators: ValidatorSet


EPOCH = structure(Epoch, 8192)


class Epochs(Structure, frozen=True):
    """Epochs with records: from `first` to the one before `following`.

    Epoch 0 is the genesis's set; both are 0 while it is the only one.
    """

    first: Uint
    following: Uint


EPOCHS = structure(Epochs, 32)


_NO_EPOCHS = Epochs(0, 0)


ABSENCES = Table(b"absence/", by_identity, ABSENCE)
"""By public key: validators that missed their turn to propose."""
MISMATCHES = Table(b"dissent/", by_task_and_identity, DISSENT)
"""By task and public key: validators that were outvoted on its versions."""
EPOCH_SPAN = Table(b"epochs", alone, EPOCHS)
"""Which validator sets are kept."""
VALIDATOR_SETS = Table(b"epoch/", by_number, CachedCodec(EPOCH, 64))
"""By number: validator sets that followed the genesis's, with their first heights."""


def absence(tree: StateReader, public: bytes) -> AbsenceRecord | None:
    """Absence of a validator; None if it made a block since its last turn."""
    return ABSENCES.get(tree, public)


def validators(tree: StateReader, genesis: Genesis, height: int) -> ValidatorSet:
    """Validator set that decides a height.

    Args:
      tree: A state after the block before that one, or after the one before that: a
        header also names the next height's validators. Any later one knows those of
        the last heights too, as long as evidence of them is taken.
      genesis: What the chain started from.
      height: Which height.
    """
    known = epochs(tree)
    # From the newest: mostly the present set is asked for.
    for number in range(known.following - 1, known.first - 1, -1):
        found = epoch(tree, number)
        if found is not None and found.height <= height:
            return found.validators
    return genesis.validators


def epochs(tree: StateReader) -> Epochs:
    """Epochs with records."""
    return EPOCH_SPAN.get(tree) or _NO_EPOCHS


def epoch(tree: StateReader, number: int) -> Epoch | None:
    """A validator set that followed the genesis's."""
    return VALIDATOR_SETS.get(tree, number)


def dissent(tree: StateReader, number: int, public: bytes) -> MismatchRecord | None:
    """Record of a validator that was outvoted on a task's versions; None for none."""
    return MISMATCHES.get(tree, number, public)

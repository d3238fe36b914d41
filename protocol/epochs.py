"""From one validator set to the next, for whoever was away in between.

The last header that a set certifies names the next set by its hash. So those headers,
with their certificates and the sets that they name, lead from the genesis to the set of
today, and nothing else of the chain is needed.

Source: Diem's epoch-ending ledger infos.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from protocol.chain import (
    CERTIFICATE,
    HEADER,
    VALIDATOR_SET,
    Certificate,
    Header,
    ValidatorSet,
)
from protocol.codec import structure
from protocol.light import Trusted

EPOCHS_MAX = 256
"""Changes of the set that one message or proof shows."""


@dataclass(frozen=True)
class EpochEnd:
    """The last header that a validator set certifies.

    Attributes:
      header: It names the next set.
      certificate: Of the set that ends.
      following: The next set.
    """

    header: Header
    certificate: Certificate
    following: ValidatorSet


EPOCH_END = structure(
    EpochEnd, 16 * 1024, HEADER.schema, CERTIFICATE.schema, VALIDATOR_SET.schema
)


def follow(trusted: Trusted, ends: Iterable[EpochEnd]) -> Trusted:
    """Trusts the set that the last of these names.

    Args:
      trusted: What is trusted before.
      ends: Rising; those that are known already change nothing.

    Raises:
      ProofError, SignatureError: If one does not follow from what was before.
    """
    for end in ends:
        if end.header.height > trusted.height:
            trusted = trusted.accept(end.header, end.certificate, end.following)
    return trusted

"""That something stands in the chain's state: a version, scores, payments, anything.

The value comes with its Merkle path to the state root of a certified header, and with
the changes of the validators up to it. Checking it needs the genesis and nothing else.
"""

from dataclasses import dataclass

from protocol.chain import CERTIFICATE, HEADER, Certificate, Header
from protocol.codec import many, structure
from protocol.errors import ProofError
from protocol.ids import Digest
from protocol.light import (
    HANDOVER,
    HANDOVERS_MAX,
    Handover,
    Trusted,
    payments_key,
    scores_key,
    version_key,
)
from protocol.payment import PAGE, PAYMENTS, Payment
from protocol.score import SCORES, Scores
from protocol.statetree import STATE_PROOF, StateProof


@dataclass(frozen=True)
class Entry:
    """One entry of the state with everything that proves it.

    Attributes:
      header: A certified header.
      certificate: Its certificate.
      proof: The entry under the header's state root.
      handovers: The last changes of the validator set up to the header, rising.
    """

    header: Header
    certificate: Certificate
    proof: StateProof
    handovers: tuple[Handover, ...] = ()

    def check(self, trusted: Trusted) -> Trusted:
        """Believes that the entry stands in the state after the header's block.

        Returns:
          What is trusted from now on.

        Raises:
          ProofError, SignatureError: If it is not proven.
        """
        after = trusted.follow(self.handovers)
        after = after.accept(self.header, self.certificate)
        if self.proof.root() != self.header.state_root:
            raise ProofError("the entry does not lead to the header's state root")
        return after

    def version(self, task: int, version: int) -> Digest:
        """The digest of a final version that the entry is of.

        Raises:
          ProofError: If it is of anything else.
        """
        self._require(version_key(task, version))
        return Digest(self.proof.value)

    def scores(self, task: int, version: int) -> Scores:
        """The scores of a version's updates that the entry is of.

        Raises:
          ProofError, DecodeError: If it is of anything else.
        """
        self._require(scores_key(task, version))
        return SCORES.unpack(self.proof.value)

    def payment(self, task: int, version: int, place: int) -> Payment:
        """What the update at a place of a version earned, from 0.

        Raises:
          ProofError, DecodeError: If the entry is of anything else.
        """
        self._require(payments_key(task, version, place // PAGE))
        made = PAYMENTS.unpack(self.proof.value).made
        if place % PAGE >= len(made):
            raise ProofError(f"the version has no update {place}")
        return made[place % PAGE]

    def _require(self, key: bytes) -> None:
        if self.proof.key != key:
            raise ProofError(f"the proof is of {self.proof.key!r}, not of {key!r}")


ENTRY = structure(
    Entry,
    (HANDOVERS_MAX + 2) * HANDOVER.bytes_max,
    HEADER.schema,
    CERTIFICATE.schema,
    STATE_PROOF.schema,
    many(HANDOVER.schema, HANDOVERS_MAX),
)

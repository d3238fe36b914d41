"""A proof of finality proves one transaction, under the validators of its height."""

from dataclasses import replace

import pytest

from starling.protocol.chain.light_client import FINAL, FinalityProof
from starling.protocol.errors import ProofError, SignatureError
from starling.protocol.ids import BlockHash, H
from starling.protocol.wire.envelope import MessageKind, sign
from starling.protocol.wire.message_bodies import CONTRIBUTION
from tests.unit.protocol.chain.later_validators import MOVED, PINNED, STRANGERS
from tests.vectors import protocol_samples as samples
from tests.vectors.protocol_samples import CHAIN_ID, HEADER, certify
from tests.vectors.protocol_samples import FINAL as PROOF
from tests.vectors.protocol_samples import MANIFEST as SHOWN


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

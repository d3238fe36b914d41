"""Certificates of two blocks of one height name who lied, and nobody else."""

import pytest

from starling.coordinator.chain.safety.accountability import culprits
from starling.protocol.chain.blocks import Certificate
from starling.protocol.ids import SIGNATURE_BYTES, BlockHash, H

A, B = BlockHash(H(b"A")), BlockHash(H(b"B"))


def certificate(
    number: int, block_id: BlockHash, voters: tuple[int, ...], relied: int = -1
) -> Certificate:
    """With `relied` the round that prevotes rely on."""
    return Certificate(
        1,
        number,
        block_id,
        sum(1 << voter for voter in voters),
        (bytes(SIGNATURE_BYTES),) * len(voters),
        (relied + 1,) * len(voters),
    )


EARLY = certificate(1, A, (0, 1, 2))
LATE = certificate(4, B, (0, 1, 3))

CASES = [
    pytest.param([], set(), id="without-prevotes-nobody-is-named"),
    pytest.param([certificate(4, B, (0, 1, 3))], {0, 1}, id="amnesia"),
    pytest.param(
        [certificate(3, B, (0, 2, 3)), certificate(4, B, (0, 1, 3), 3)],
        {0, 2},
        id="earliest-prevotes-accuse",
    ),
    pytest.param(
        [certificate(3, B, (0, 2, 3)), certificate(4, B, (0, 1, 3))],
        {0, 2},
        id="who-moved-its-lock-on-good-grounds-is-not-accused",
    ),
    pytest.param(
        [
            certificate(1, A, (0, 1, 2)),
            certificate(1, B, (1, 2, 3)),
            certificate(4, B, (0, 1, 3), 1),
        ],
        {1, 2},
        id="prevotes-for-both-in-one-round",
    ),
    pytest.param([certificate(4, B, (0, 1, 3), 2)], set(), id="links-are-missing"),
    pytest.param([certificate(0, B, (0, 1, 3))], set(), id="before-it-was-decided"),
    pytest.param([certificate(3, A, (0, 1, 3))], set(), id="for-the-same-block"),
]


@pytest.mark.parametrize(("polkas", "expected"), CASES)
def test_culprits_of_two_rounds(polkas: list[Certificate], expected: set[int]) -> None:
    assert culprits(EARLY, LATE, polkas) == expected
    assert culprits(LATE, EARLY, polkas[::-1]) == expected


def test_culprits_of_one_round_signed_both() -> None:
    other = certificate(1, B, (1, 2, 3))
    assert culprits(EARLY, other, []) == {1, 2}


def test_prevotes_for_different_reasons_accuse_nobody() -> None:
    mixed = Certificate(1, 4, B, 0b1011, (bytes(SIGNATURE_BYTES),) * 3, (0, 0, 3))
    assert culprits(EARLY, LATE, [mixed]) == set()

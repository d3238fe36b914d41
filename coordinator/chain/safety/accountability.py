"""Accountability: the validators that signed two certified blocks of one height.

That takes more than f liars. Deviation D2 lets certificates name at least f + 1 of them
as long as they are fewer than the quorum: `n` validators, `q` the quorum, `f` how many
may lie.

Source: Accountable Tendermint (malachite, specs/consensus/accountable-tm), with the one
change that only the earliest conflicting prevotes accuse. A validator that moved its
lock on good grounds votes for the new block in later rounds too, and would be accused
by those prevotes although it followed every rule.
"""

from collections.abc import Iterable

from starling.protocol.chain.blocks import Certificate


def culprits(
    first: Certificate, second: Certificate, polkas: Iterable[Certificate]
) -> frozenset[int]:
    """The validators that provably lied; at least f + 1 if the prevotes are complete.

    Args:
      first: A quorum of precommits for one block.
      second: A quorum of precommits for another block of the same height.
      polkas: The quorums of prevotes that correct validators saw at this height.

    Returns:
      Indices of validators; empty if prevotes are missing that would tell.
    """
    assert first.height == second.height
    assert first.block_id != second.block_id
    if first.round == second.round:
        return _both(first, second)
    early = min(first, second, key=lambda certificate: certificate.round)
    # Mixed prevotes say of nobody on which round it relied.
    complete = [polka for polka in polkas if len(set(polka.extras)) == 1]
    against = [
        polka
        for polka in complete
        if polka.round >= early.round and polka.block_id != early.block_id
    ]
    if not against:
        return frozenset()
    lowest = min(polka.round for polka in against)
    named: frozenset[int] = frozenset()
    for polka in against:
        if polka.round != lowest:
            continue
        if lowest == early.round:
            named |= _voted_twice(early, polka, complete)
        elif polka.extras[0] - 1 < early.round:
            # They had locked the other block and relied on nothing that frees them.
            named |= _both(early, polka)
    return named


def _both(first: Certificate, second: Certificate) -> frozenset[int]:
    return frozenset(first.members()) & frozenset(second.members())


def _voted_twice(
    early: Certificate, polka: Certificate, complete: list[Certificate]
) -> frozenset[int]:
    """Prevotes for two blocks of the round in which one of them was certified."""
    named: frozenset[int] = frozenset()
    for other in complete:
        if (other.round, other.block_id) == (early.round, early.block_id):
            named |= _both(other, polka)
    return named

"""Blocks, validators, and the faults that are named."""

from starling.console.chain_facts import (
    BlockFacts,
    ChainFacts,
    RegisteredBoard,
    TransactionFacts,
)
from starling.console.pages.chain import block_page, chain_page
from tests.unit.console.status_documents import HOSTILE, document, frame

BOARD = "b" * 26
SENT = (
    TransactionFacts("update", "aa" * 32, BOARD),
    TransactionFacts("update", "bb" * 32, BOARD),
    TransactionFacts("attest", "cc" * 32, "north"),
)
BLOCK = BlockFacts(17, "dd" * 32, 0, "north", ("north", "south", "east"), 1, SENT)
PRUNED = BlockFacts(16, "ee" * 32, 0, "south", ("north",), 0, None)
CHAIN = ChainFacts(
    "meadow",
    "ff" * 32,
    (BLOCK, PRUNED),
    ("north", "south", "east", "west"),
    {BOARD: RegisteredBoard(BOARD, 1, 0, 2, 0, 0)},
)


def test_last_blocks_and_validators_are_listed() -> None:
    page = chain_page(frame(), CHAIN)

    assert '<a href="/chain/17">17</a>' in page
    assert "1 attest, 2 update" in page
    signed = 'data-head="signed the last block"'
    assert f">west</td><td {signed}>no</td>" in page
    assert f">north</td><td {signed}>yes</td>" in page


def test_faults_are_named() -> None:
    made = document()
    consensus = made["consensus"]
    consensus["convicted"] = {"west": "equivocation"}
    consensus["outvoted"] = {"south": 2}
    consensus["missing"] = [{"name": "east", "silent_s": 90.0}]
    consensus["fork"] = {"height": 3, "liars": ["west"]}
    made["stall"] |= {"stalled": True, "why": ["no quorum"]}

    page = chain_page(frame(made), CHAIN)

    for text in (
        "convicted: equivocation",
        "attested another model 2 times",
        "silent for 90 s",
        "forked at height 3; both sides: west",
        "stands still: no quorum",
    ):
        assert text in page, text


def test_block_leads_to_its_boards_and_says_if_it_is_pruned() -> None:
    page = block_page(frame(), CHAIN, BLOCK)

    assert page.count(f'href="/boards/{BOARD}"') == 2
    assert ">north</td>" in page
    assert "no longer kept here" in block_page(frame(), CHAIN, PRUNED)


def test_hostile_names_are_text() -> None:
    sent = (TransactionFacts(HOSTILE, HOSTILE, HOSTILE),)
    block = BlockFacts(1, HOSTILE, 0, HOSTILE, (HOSTILE,), 0, sent)
    chain = ChainFacts(HOSTILE, HOSTILE, (block,), (HOSTILE,))
    made = document()
    made["consensus"]["convicted"] = {HOSTILE: HOSTILE}

    text = chain_page(frame(made), chain) + block_page(frame(made), chain, block)

    assert "<script>alert" not in text

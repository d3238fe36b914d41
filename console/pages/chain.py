"""Chain: its last blocks, who decides, and who was caught at what."""

from starling.console.chain_facts import BlockFacts, ChainFacts
from starling.console.markup import Html, element, table
from starling.console.pages.layout import (
    PageFrame,
    board_link,
    card,
    duration,
    figures,
    moment,
    page,
    trouble,
)
from starling.console.status_facts import StatusFacts


def chain_page(frame: PageFrame, chain: ChainFacts) -> Html:
    """The page of the chain."""
    parts = [] if frame.facts is None else [_now(frame.facts, chain)]
    if frame.facts is not None:
        parts.append(_validators(frame.facts, chain))
    rows: list[tuple[str | int | None, ...]] = [
        (
            element("a", f"{block.height:,}", href=f"/chain/{block.height}"),
            moment(block.time_ms),
            block.proposer,
            f"{len(block.signers)}",
            block.round,
            "-" if block.transactions is None else len(block.transactions),
            _kinds(block),
        )
        for block in chain.blocks
    ]
    heads = ("height", "time", "proposer", "signers", "round", "transactions", "kinds")
    parts.append(card("Last blocks", table(heads, rows, "Last blocks")))
    return page(frame, "/chain", "Chain", *parts)


def _kinds(block: BlockFacts) -> str:
    kinds = [sent.kind for sent in block.transactions or ()]
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds)))


def _now(facts: StatusFacts, chain: ChainFacts) -> Html:
    stall, consensus = facts.document["stall"], facts.consensus
    pairs: list[tuple[str, str | int]] = [
        ("chain", chain.chain_id[:16] or "-"),
        ("height", f"{facts.chain['height']:,}"),
        ("deciding", f"round {consensus['round']}, {consensus['step']}"),
        ("last block", f"{duration(facts.block_age_s)} ago"),
        ("fault model", str(consensus["fault_model"])),
        ("quorum", f"{consensus['quorum']} of {consensus['validators']}"),
        ("rounds beyond the first", f"{consensus['rounds']:,}"),
    ]
    parts = [figures(pairs)]
    if stall["stalled"]:
        parts.append(element("p", trouble("stands still: " + "; ".join(stall["why"]))))
    if consensus["fork"] is not None:
        liars = ", ".join(consensus["fork"]["liars"])
        text = f"forked at height {consensus['fork']['height']}; both sides: {liars}"
        parts.append(element("p", trouble(text)))
    return card("Now", *parts)


def _validators(facts: StatusFacts, chain: ChainFacts) -> Html:
    consensus = facts.consensus
    silent = {one["name"]: one["silent_s"] for one in consensus["missing"]}
    names = chain.validators or tuple(consensus["signed_by"])
    rows: list[tuple[str | int | None, ...]] = []
    for name in names:
        faults = []
        if name in consensus["convicted"]:
            faults.append(f"convicted: {consensus['convicted'][name]}")
        if name in consensus["outvoted"]:
            faults.append(f"attested another model {consensus['outvoted'][name]} times")
        if name in silent:
            faults.append(f"silent for {duration(silent[name])}")
        signed = "yes" if name in consensus["signed_by"] else "no"
        rows.append((name, signed, trouble("; ".join(faults)) if faults else "none"))
    heads = ("validator", "signed the last block", "faults named")
    return card("Validators", table(heads, rows, "Validators"))


def block_page(frame: PageFrame, chain: ChainFacts, block: BlockFacts) -> Html:
    """One block's page."""
    known: list[tuple[str, str | int]] = [
        ("hash", block.id),
        ("time", moment(block.time_ms)),
        ("proposer", block.proposer),
        ("round", block.round),
        ("signers", ", ".join(block.signers)),
    ]
    if block.transactions is None:
        listed = element("p", "Its transactions are no longer kept here.")
    else:
        rows: list[tuple[str | int | None, ...]] = [
            (
                sent.kind,
                board_link(sent.sender) if sent.sender in chain.boards else sent.sender,
                element("code", sent.id),
            )
            for sent in block.transactions
        ]
        listed = table(("kind", "sender", "transaction"), rows, "Transactions")
    return page(
        frame,
        "/chain",
        f"Block {block.height:,}",
        card("Header", figures(known)),
        card("Transactions", listed),
    )

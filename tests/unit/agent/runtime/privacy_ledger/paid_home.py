"""An agent's home whose ledger has paid, and what else knows of it."""

from pathlib import Path

import pytest

from starling.agent.privacy.ledger import PrivacyLedger
from starling.agent.runtime.privacy_ledger.ledger_integrity import (
    journal_file,
    open_ledger,
)
from starling.agent.runtime.storage.agent_home import AgentHome
from starling.agent.runtime.storage.spool import SpoolIndex
from starling.durable.journal import Journal
from starling.protocol.ids import H, TaskId, Version
from starling.protocol.wire.envelope import ENVELOPE, MessageKind, sign
from starling.protocol.wire.message_bodies import CONTRIBUTION, Contribution
from tests.unit.agent.fake_coordinator import BOARD, CAP, CHAIN, PRIVATE, final

RELEASES = 4
TASK = TaskId(0)


def begin(path: Path) -> AgentHome:
    home = AgentHome(path)
    home.begin({})
    return home


def opened(
    home: AgentHome, windows: int = 1, data: Path | None = None
) -> PrivacyLedger:
    """The ledger as a start of the agent finds it."""
    index = SpoolIndex(home.state / "index.json", pytest.fail)
    try:
        found = open_ledger(home, CAP, data or home.path / "data", windows, index)
    finally:
        index.close()
    found.journal.close()
    return found.ledger


def pay(home: AgentHome, releases: int = RELEASES) -> None:
    """Charges for so many base versions more."""
    ledger = opened(home)
    first = len(ledger.charges)
    journal, _ = Journal.open(journal_file(home))
    with journal:
        for base in range(first, first + releases):
            slot = (CHAIN, TASK, Version(base))
            ledger, _, entry = ledger.charge(slot, PRIVATE)
            journal.append(entry)


def payloads(home: AgentHome) -> list[bytes]:
    journal, found = Journal.open(journal_file(home))
    journal.close()
    return found


def ledger_of(home: AgentHome) -> PrivacyLedger:
    return PrivacyLedger.load(CAP, payloads(home))


def prove(home: AgentHome, base: int, charge: int = 7) -> Path:
    """A proof that an update for a base version is final."""
    body = Contribution(TASK, Version(base), 0, 16, 1, charge, H(b""), H(b""))
    update = sign(BOARD, CHAIN, MessageKind.UPDATE, 1, CONTRIBUTION.pack(body))
    home.proofs.mkdir(exist_ok=True)
    path = home.proofs / f"0-{base}.proof"
    path.write_bytes(ENVELOPE.unpack(final(update)).body)
    return path


def let_go(home: AgentHome, count: int) -> None:
    index = SpoolIndex(home.state / "index.json", pytest.fail)
    for row in range(count):
        index._agent.upsert(
            {"name": "final", "count": row + 1}, lambda each: each["name"] == "final"
        )
    index.close()

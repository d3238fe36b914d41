"""The label journal of a home: opened, held against the ledger, carried elsewhere.

It lies in a folder of its own, which a trainer may read. A journal that is empty though
updates of drawn labels left this home has lost what was drawn: the labels would be
drawn, and paid for, again. What an old copy of the whole home has forgotten contradicts
nothing here; the chain knows of its updates, and each label then counts one draw more
(`agent.privacy.release_cost.label_losses`).
"""

from starling.agent.privacy.label_entries import BATCH
from starling.agent.privacy.ledger import PrivacyLedger
from starling.agent.runtime.privacy_ledger.ledger_integrity import base_of
from starling.agent.runtime.storage.agent_home import AgentHome
from starling.durable.files import make_folder
from starling.durable.journal import Journal
from starling.durable.journal_frames import DamagedJournal
from starling.protocol.errors import ConfigError, DecodeError, LimitError
from starling.protocol.learning.task import LABEL_RESPONSE


def open_label_journal(home: AgentHome, ledger: PrivacyLedger) -> Journal:
    """Opens a home's label journal, or begins one.

    Args:
      home: The agent's home.
      ledger: Its privacy ledger.

    Raises:
      ConfigError: If the journal is damaged or was emptied, or another process has it
        open.
      StorageError: If the disk refuses.
    """
    path = home.labels_file
    make_folder(path.parent)
    try:
        journal, payloads = Journal.open(path, strict=True)
    except DamagedJournal as error:
        raise _lost(home, str(error)) from error
    try:
        _check(home, ledger, payloads)
    except BaseException:
        journal.close()
        raise
    return journal


def _check(home: AgentHome, ledger: PrivacyLedger, payloads: list[bytes]) -> None:
    """Refuses a journal that is none, or that an update of this home contradicts."""
    path = home.labels_file
    for payload in payloads:
        try:
            # Frames have checksums: a payload that is sound and no batch is another
            # journal's.
            BATCH.unpack(payload)
        except (DecodeError, LimitError) as error:
            raise _lost(home, f"{path}: {error}") from error
    # A journal that lost its end only cannot be told from a shorter one; an empty one
    # can.
    if payloads or ledger.spent:
        return
    if witness := _update(home, ledger):
        raise _lost(home, f"{path}: is empty, and {witness} was made of its labels")


def carry_labels(source: AgentHome, home: AgentHome) -> int:
    """Adds what another home drew for a data set that moves to this one.

    Args:
      source: Whose journal is read; nothing in it changes.
      home: Whose journal grows.

    Returns:
      How many batches were added.

    Raises:
      ConfigError: If a journal is damaged, or open in another process.
      StorageError: If the disk refuses.
    """
    if not source.labels_file.exists():
        return 0
    # Opened, and so locked, until ours is written: no agent may draw from it meanwhile.
    theirs, payloads = _opened(source)
    with theirs:
        make_folder(home.labels_file.parent)
        ours, known = _opened(home)
        with ours:
            # A move that a power cut broke off may be repeated.
            moved = set(known)
            new = [payload for payload in payloads if payload not in moved]
            ours.append_many(new)
    return len(new)


def _opened(home: AgentHome) -> tuple[Journal, list[bytes]]:
    try:
        return Journal.open(home.labels_file, strict=True)
    except DamagedJournal as error:
        raise _lost(home, str(error)) from error


def _update(home: AgentHome, ledger: PrivacyLedger) -> str:
    """A file of an update that was made of drawn labels; empty if there is none."""
    drawn = {
        (task, base)
        for (_, task, base), charge in ledger.charges.items()
        if charge.mechanism == LABEL_RESPONSE
    }
    for folder in (home.spool, home.proofs):
        for path in sorted(folder.glob("*-*.*")):
            if base_of(path) in drawn:
                return str(path)
    return ""


def _lost(home: AgentHome, why: str) -> ConfigError:
    return ConfigError(
        f"{why}: drawn labels are lost, and must not be drawn again. Put the newest "
        "copy of the file back, or give the data set up: starling agent recount "
        f"--as-fully-spent --home {home.path}"
    )

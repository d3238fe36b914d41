"""Guard against double signing: one machine and one journal for each key.

A key that runs twice, or runs on without the journal of what it signed, signs two
things and is convicted for it. So a key is bound to the machine on which it first ran,
and a key that ran before but misses its journal only observes, until an operator says
from which height it may vote.
"""

from dataclasses import dataclass
from pathlib import Path

from starling.coordinator.chain.consensus.voting_permit import RESUMPTION, VotingPermit
from starling.coordinator.runtime.storage.vote_journal import VOTES_FILE
from starling.durable.files import (
    read_if_present,
    storage_errors,
    sync_folder,
    write_atomic,
)
from starling.protocol.errors import ConfigError, ProtocolError
from starling.protocol.ids import ChainId, PublicKey

MACHINE_FILE = Path("/etc/machine-id")
BINDING_FILE = "signing.machine"
"""Name of the file in `keys/` that says where the key runs."""
LOST_FILE = "votes.lost"
RESUMED_FILE = "votes.resumed"
_BYTES_MAX = 1024
_UNNAMED = b"unnamed"


def machine_name(file: Path = MACHINE_FILE) -> bytes:
    """The machine's own id; all machines without one have the same."""
    content = read_if_present(file, _BYTES_MAX)
    return (content or b"").strip() or _UNNAMED


@dataclass(frozen=True)
class VotingStart:
    """From which height a key may vote.

    Attributes:
      height: 0 if nothing forbids it, None for never.
      operator: Who gave leave after a loss; the chain must know it as an operator.
    """

    height: int | None
    operator: PublicKey | None = None


def votes_from(
    keys: Path, state: Path, chain_id: ChainId, validator: bytes, machine: bytes
) -> VotingStart:
    """Finds out from which height the key may vote; call it before opening the journal.

    Args:
      keys: Folder of the key.
      state: Folder of the journal.
      chain_id: Of the chain.
      validator: The key's public half.
      machine: `machine_name()`.

    Raises:
      ConfigError: If the key ran on another machine, or the operator's word is none.
      StorageError: If the disk refuses.
    """
    # Bound before there is a journal: a power cut in between costs an operator's word,
    # and never a second signature.
    ran_before = _bind(keys / BINDING_FILE, machine)
    lost, resumed = state / LOST_FILE, state / RESUMED_FILE
    if ran_before and not (state / VOTES_FILE).exists():
        # Remembered, since opening the journal makes an empty one; and an operator's
        # word from before this loss says nothing about it.
        with storage_errors(resumed):
            resumed.unlink(missing_ok=True)
            sync_folder(state)
        # After the old word is gone: a power cut in between must not leave both.
        write_atomic(lost, b"the journal of own votes was missing at a start\n")
    if not lost.exists():
        return VotingStart(0)
    return _resumed(resumed, chain_id, validator)


def voted_again(state: Path) -> None:
    """The journal holds votes that were cast by leave: the loss is over.

    From now on it is as good as any other, also after the operator who gave leave was
    taken out.

    Raises:
      StorageError: If the disk refuses.
    """
    for name in (LOST_FILE, RESUMED_FILE):
        with storage_errors(state / name):
            (state / name).unlink(missing_ok=True)
    sync_folder(state)


def write_resumption(state: Path, resumption: VotingPermit) -> None:
    """Keeps an operator's word; it counts from the next start on.

    Raises:
      ConfigError: If the journal was not lost: nothing forbids voting.
      StorageError: If the disk refuses.
    """
    if not (state / LOST_FILE).exists():
        raise ConfigError(
            "the journal of own votes is not missing; there is nothing to resume",
            file=str(state / VOTES_FILE),
        )
    write_atomic(state / RESUMED_FILE, RESUMPTION.pack(resumption))


def _bind(file: Path, machine: bytes) -> bool:
    bound = read_if_present(file, _BYTES_MAX)
    if bound is None:
        write_atomic(file, machine + b"\n")
        return False
    if bound.strip() != machine:
        raise ConfigError(
            "this key ran on another machine; one key on two machines signs two things "
            "and is convicted. If the other one is gone for good, delete this file",
            file=str(file),
        )
    return True


def _resumed(file: Path, chain_id: ChainId, validator: bytes) -> VotingStart:
    content = read_if_present(file, _BYTES_MAX)
    if content is None:
        return VotingStart(None)
    try:
        resumption = RESUMPTION.unpack(content)
        # Anybody may have put the file there: its signature counts, and that it is for
        # this key and chain.
        resumption.check(chain_id, validator)
    except ProtocolError as error:
        raise ConfigError(f"no operator's word: {error}", file=str(file)) from error
    return VotingStart(resumption.height, resumption.operator)

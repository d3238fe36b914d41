"""Destroying the keys of a coordinator that decides no more.

A quorum of retired keys can lead whoever slept since into another past: nothing on the
chain forbids it, since they once decided. So keys are destroyed when they are retired.
"""

import argparse

from starling.coordinator.chain.governance import credit_accounts, learners
from starling.coordinator.chain.state.state_table import StateReader
from starling.coordinator.runtime.home import RETIRED_FILE, CoordinatorHome
from starling.coordinator.runtime.storage.sqlite_schema import CHAIN_FILE
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.coordinator.runtime.storage.vote_journal import VOTES_FILE, VoteJournal
from starling.coordinator.runtime.verb_types import AddVerb, Shown
from starling.durable.files import destroy, write_atomic
from starling.protocol.chain.genesis import Genesis
from starling.protocol.errors import OperationError
from starling.protocol.ids import PublicKey, device_id

_SECRETS = ("sealing", "peer", "peer.key")


def add_verbs(add: AddVerb) -> None:
    """Adds `retire`."""
    verb = add(
        "retire",
        _retire,
        "destroy the signing and sealing keys of a coordinator that decides no more",
    )
    verb.add_argument(
        "--force",
        action="store_true",
        help="though the chain, as far as it is known here, still has it as a "
        "validator, or it has credits that only its key can move",
    )


def _retire(home: CoordinatorHome, options: argparse.Namespace) -> Shown:
    if (home.keys / RETIRED_FILE).exists() and not (home.keys / "signing").exists():
        return {"destroyed": []}, "its keys are destroyed"
    name, public = home.name, home.signing_key().public
    # Its lock says that no coordinator runs with these keys.
    VoteJournal(home.state / VOTES_FILE).close()
    if not options.force:
        _check_left(home, public)
    write_atomic(home.keys / RETIRED_FILE, f"{name} was retired here\n".encode())
    gone = []
    # The signing key last, so that the command can be repeated after a power cut.
    for file in (*_SECRETS, f"{name}.key", "signing"):
        if (home.keys / file).exists():
            destroy(home.keys / file)
            gone.append(file)
    text = (
        f"destroyed {', '.join(gone)} of {name}; destroy backups of them, too. Its "
        f"broker: starling broker expel {name}"
    )
    return {"id": name, "destroyed": gone}, text


def _check_left(home: CoordinatorHome, public: PublicKey) -> None:
    """Refuses while the key is still needed.

    Raises:
      OperationError: Saying what comes first.
    """
    path = home.state / CHAIN_FILE
    if not path.exists():
        raise OperationError("no chain here that says that it was removed; see --force")
    store = SqliteStore.read(path)
    with store.one_moment():
        tree, height = store.tip().tree, store.height()
    store.close()
    needed = still_needed(tree, home.genesis(), height + 1, public)
    if needed is not None:
        raise OperationError(f"at height {height} {needed}")


def still_needed(
    tree: StateReader, genesis: Genesis, height: int, public: PublicKey
) -> str | None:
    """Remaining use of a validator's key, for people; None without any.

    Args:
      tree: The state after the block before.
      genesis: What the chain started from.
      height: Of the block to come.
      public: The key.
    """
    if learners.is_member(tree, genesis, height, public):
        return (
            "it is a validator: first carry, and let it follow, "
            f"motion validator-remove {public.hex()}"
        )
    held = credit_accounts.account(tree, device_id(public))
    if held is not None and held.deposit:
        return f"it has a deposit of {held.deposit} credits: first release it"
    if held is not None and held.balance:
        return f"it has {held.balance} credits that only its key can transfer"
    return None

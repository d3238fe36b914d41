"""Facts that the console reads from a coordinator's chain file."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class TransactionFacts:
    """One transaction.

    Attributes:
      kind: A name of `MessageKind` in lower case, or its number.
      id: In hex.
      sender: Name of a validator, or the id of a board or operator.
    """

    kind: str
    id: str
    sender: str


@dataclass(frozen=True)
class BlockFacts:
    """One block.

    Attributes:
      height: From 1.
      id: Its hash, in hex.
      time_ms: Its header's time.
      proposer: Name.
      signers: Names in its certificate.
      round: In which it was decided.
      transactions: None if its body is no longer kept.
    """

    height: int
    id: str
    time_ms: int
    proposer: str
    signers: tuple[str, ...]
    round: int
    transactions: tuple[TransactionFacts, ...] | None


@dataclass(frozen=True)
class RegisteredBoard:
    """A board in the chain's registry.

    Attributes:
      id: Its device name.
      registered: Height.
      revoked: Height; 0 while it may take part.
      updates: On the chain.
      jailed: Last height of its latest jail; 0 without one.
      rotations: How often it changed its key.
    """

    id: str
    registered: int
    revoked: int
    updates: int
    jailed: int
    rotations: int


@dataclass(frozen=True)
class ChainFacts:
    """A chain's end and registry.

    Attributes:
      fleet: Its name.
      chain_id: In hex.
      blocks: The newest, newest first.
      validators: Names of the set that decides the next height.
      boards: By id.
      terms: Lines about a task's privacy, by the task's number.
      caps: Largest epsilon that a task may spend on a board, by its number; tasks
        without privacy have none.
    """

    fleet: str = ""
    chain_id: str = ""
    blocks: tuple[BlockFacts, ...] = ()
    validators: tuple[str, ...] = ()
    boards: Mapping[str, RegisteredBoard] = field(default_factory=dict)
    terms: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    caps: Mapping[int, float] = field(default_factory=dict)

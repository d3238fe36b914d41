"""A table of the chain's state: one kind of record under keys with one prefix.

The state is a map from bytes to bytes under one root (`protocol.crypto.state_tree`).
Each kind of record has one `Table`, which says its prefix, how the rest of the key is
made, and its codec; nothing else packs, unpacks or names a key of that kind.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, ParamSpec, Protocol, TypeVar

from starling.protocol.crypto.state_tree import StateProof, StateTree
from starling.protocol.schema.msgpack_codec import Codec, Uint

NUMBER_BYTES_MAX = 9
"""Of a packed number: a byte and eight."""

KeyT = ParamSpec("KeyT")
RecordT = TypeVar("RecordT")


class StateReader(Protocol):
    """A state to read from: a `StateTree`, or an overlay over one."""

    def get(self, key: bytes) -> bytes | None:
        """Value of a key, or None."""


class StateWriter(StateReader, Protocol):
    """A state to read from and to write to."""

    def put(self, key: bytes, value: bytes | None) -> None:
        """Write a key; None removes it."""


class RecordCodec(Protocol[RecordT]):
    """Bytes of a kind of record."""

    def pack(self, value: RecordT) -> bytes:
        """Canonical bytes of a record."""

    def unpack(self, packed: bytes) -> RecordT:
        """Record of these bytes."""


@dataclass(frozen=True)
class Table(Generic[KeyT, RecordT]):
    """One kind of record.

    Attributes:
      prefix: First bytes of its keys; no other table's keys begin with them.
      rest: The rest of a key, by what identifies a record.
      codec: Of its records.
    """

    prefix: bytes
    rest: Callable[KeyT, bytes]
    codec: RecordCodec[RecordT]

    def key(self, *of: KeyT.args, **named: KeyT.kwargs) -> bytes:
        """Key of a record in the state."""
        return self.prefix + self.rest(*of, **named)

    def get(
        self, tree: StateReader, *of: KeyT.args, **named: KeyT.kwargs
    ) -> RecordT | None:
        """Record under a key; None if there is none."""
        packed = tree.get(self.prefix + self.rest(*of, **named))
        return None if packed is None else self.codec.unpack(packed)

    def has(self, tree: StateReader, *of: KeyT.args, **named: KeyT.kwargs) -> bool:
        """True if there is a record under a key."""
        return tree.get(self.prefix + self.rest(*of, **named)) is not None

    def put(
        self,
        draft: StateWriter,
        record: RecordT,
        *of: KeyT.args,
        **named: KeyT.kwargs,
    ) -> None:
        """Write a record."""
        draft.put(self.prefix + self.rest(*of, **named), self.codec.pack(record))

    def drop(self, draft: StateWriter, *of: KeyT.args, **named: KeyT.kwargs) -> None:
        """Remove a record, if there is one."""
        draft.put(self.prefix + self.rest(*of, **named), None)

    def prove(
        self, tree: StateTree, *of: KeyT.args, **named: KeyT.kwargs
    ) -> StateProof:
        """Proof that the state has the record that it has.

        Raises:
          ProofError: If it has none.
        """
        return tree.prove(self.prefix + self.rest(*of, **named))


def alone() -> bytes:
    """Rest of the key of a table that has one record."""
    return b""


def by_identity(identity: bytes) -> bytes:
    """Rest of a key that is an identity, a public key or a hash."""
    return identity


def by_number(number: int) -> bytes:
    """Rest of a key that is a number."""
    return b"%d" % number


def by_task_and_number(task: int, number: int) -> bytes:
    """Rest of a key that is a task and a version or place in it."""
    return b"%d/%d" % (task, number)


def by_task_and_identity(task: int, identity: bytes) -> bytes:
    """Rest of a key that is a task and an identity."""
    return b"%d/" % task + identity


def by_task_version_and_page(task: int, version: int, page: int) -> bytes:
    """Rest of a key that is a version of a task and a page of its record."""
    return b"%d/%d/%d" % (task, version, page)


def by_task_version_and_identity(task: int, version: int, identity: bytes) -> bytes:
    """Rest of a key that is a version of a task and an identity."""
    return b"%d/%d/" % (task, version) + identity


class BytesCodec:
    """Codec of values that are bytes already."""

    def pack(self, value: bytes) -> bytes:
        """As they are."""
        return value

    def unpack(self, packed: bytes) -> bytes:
        """As they are."""
        return packed


BYTES = BytesCodec()
NUMBER = Codec[int](Uint, NUMBER_BYTES_MAX)
"""Of a counter."""


def count(tree: StateReader, table: Table[[], int]) -> int:
    """Number in a table of one counter; 0 if there is none."""
    return table.get(tree) or 0

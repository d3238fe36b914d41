"""Location of damage in a stored block, to the byte if one changed.

What is certified pins what is not: a certificate names the header's hash, a header the
transactions' root. So the changed byte is the one whose replacement makes the part
whole again; this is searched only after a fault, and takes seconds at most.
"""

from dataclasses import dataclass, fields

from starling.coordinator.chain.execution.block_builder import ChainHead
from starling.coordinator.chain.storage.block_rows import (
    BlockRow,
    changed_byte,
    item_at,
    item_starts,
    unpack_body,
)
from starling.protocol.chain.blocks import (
    CERTIFICATE,
    HEADER,
    Certificate,
    Header,
    check_certificate,
)
from starling.protocol.chain.genesis import FaultModel
from starling.protocol.crypto import merkle
from starling.protocol.errors import ProtocolError
from starling.protocol.ids import H
from starling.protocol.wire.envelope import ENVELOPE

_FRAMES_SEARCHED_MAX = 64


@dataclass(frozen=True)
class BlockDamage:
    """The first thing that is wrong with a chain.

    Attributes:
      height: Of the block.
      field: Which part of it, as `header.state_root` or `transactions[3]`.
      offset: In the block's stored row; of the changed byte if it was found, of the
        field's first byte otherwise.
      exact: Whether the changed byte was found.
      detail: What did not hold.
    """

    height: int
    field: str
    offset: int
    exact: bool
    detail: str


def locate(tip: ChainHead, row: BlockRow, detail: str) -> BlockDamage:
    """Finds out where a row that does not hold is damaged.

    Args:
      tip: The chain before it.
      row: The row.
      detail: What did not hold.
    """
    if row.height != tip.height + 1:
        return BlockDamage(row.height, "height", 0, False, detail)
    if not _certified(tip, row.header, row.certificate):
        # The header first: changed there, it names no block that the certificate knows.
        return _in_header(row, detail) or _in_certificate(tip, row, detail)
    header = HEADER.unpack(row.header)
    return _in_body(tip, row, header, detail) or _claim(row, detail)


def _certified(tip: ChainHead, header: bytes, packed: bytes) -> bool:
    try:
        certificate = CERTIFICATE.unpack(packed)
        if certificate.block_id != _block_id(header):
            return False
        if certificate.height != tip.height + 1:
            return False
        fault_model = FaultModel(tip.genesis.fault_model)
        validators = tip.roster.validators
        check_certificate(certificate, tip.chain_id, validators, fault_model)
    except ProtocolError:
        return False
    return True


def _block_id(header: bytes) -> bytes:
    # The tag of `Header.block_id`, here over bytes that may be no header any more.
    return H(b"\x02", header)


def _in_header(row: BlockRow, detail: str) -> BlockDamage | None:
    try:
        wanted = CERTIFICATE.unpack(row.certificate).block_id
    except ProtocolError:
        return None
    # No signature is needed for this search: the certificate names the hash.
    offset = changed_byte(row.header, lambda header: _block_id(header) == wanted)
    if offset is None:
        return None
    field = _field(Header, "header", row.header, offset)
    return BlockDamage(row.height, field, offset, True, detail)


def _in_certificate(tip: ChainHead, row: BlockRow, detail: str) -> BlockDamage:
    def is_original(candidate: bytes) -> bool:
        return _certified(tip, row.header, candidate)

    first = len(row.header) + len(row.body)
    offset = changed_byte(row.certificate, is_original)
    if offset is None:
        return BlockDamage(row.height, "certificate", first, False, detail)
    field = _field(Certificate, "certificate", row.certificate, offset)
    return BlockDamage(row.height, field, first + offset, True, detail)


def _field(cls: type[Header | Certificate], name: str, packed: bytes, at: int) -> str:
    index = item_at(packed, at)
    names = [field.name for field in fields(cls)]
    if index is None or index >= len(names):
        return name
    return f"{name}.{names[index]}"


def _in_body(
    tip: ChainHead, row: BlockRow, header: Header, detail: str
) -> BlockDamage | None:
    try:
        entries = unpack_body(row.body)
    except ProtocolError:
        return _in_frames(row, header, detail)
    if merkle.root(entries) == header.tx_root:
        return None
    # One entry spoils the root; if it was changed its signature fails as well.
    for index, entry in enumerate(entries):
        if not _signed(tip, entry):
            return _in_entry(row, header, entries, index, detail)
    return BlockDamage(row.height, "transactions", len(row.header), False, detail)


def _in_frames(row: BlockRow, header: Header, detail: str) -> BlockDamage:
    """The lengths between the transactions, of which one misleads the decoder."""

    def is_original(candidate: bytes) -> bool:
        try:
            return merkle.root(unpack_body(candidate)) == header.tx_root
        except ProtocolError:
            return False

    starts = item_starts(row.body) or [0]
    # A head has three bytes; the one that misleads is near where reading ended, or the
    # list's own.
    frames = {at + i for at in (0, *starts[-_FRAMES_SEARCHED_MAX:]) for i in range(3)}
    offset = changed_byte(
        row.body, is_original, sorted(at for at in frames if at < len(row.body))
    )
    at = starts[-1] if offset is None else offset
    field = _transaction(item_at(row.body, at))
    return BlockDamage(
        row.height, field, len(row.header) + at, offset is not None, detail
    )


def _in_entry(
    row: BlockRow, header: Header, entries: tuple[bytes, ...], index: int, detail: str
) -> BlockDamage:
    path, size = merkle.path(entries, index), len(entries)

    def is_original(candidate: bytes) -> bool:
        leaf = merkle.leaf_hash(candidate)
        return merkle.root_from_path(leaf, index, size, path) == header.tx_root

    # What follows an entry begins where it ends.
    end = item_starts(row.body)[index + 1]
    first = len(row.header) + end - len(entries[index])
    offset = changed_byte(entries[index], is_original)
    at = first + (offset or 0)
    return BlockDamage(row.height, _transaction(index), at, offset is not None, detail)


def _signed(tip: ChainHead, packed: bytes) -> bool:
    try:
        ENVELOPE.unpack(packed).check(tip.chain_id)
    except ProtocolError:
        return False
    return True


def _transaction(index: int | None) -> str:
    return "transactions" if index is None else f"transactions[{index}]"


def _claim(row: BlockRow, detail: str) -> BlockDamage:
    """A certified header that claims what does not hold: more than f lied."""
    starts = item_starts(row.header)
    for index, field in enumerate(fields(Header)):
        if detail.startswith(field.name):
            name = f"header.{field.name}"
            return BlockDamage(row.height, name, starts[index], False, detail)
    return BlockDamage(row.height, "header", 0, False, detail)

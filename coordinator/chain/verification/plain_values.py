"""Blocks, transactions and what they state, in plain values for people and files."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from starling.coordinator.chain.execution.transaction_table import TRANSACTIONS
from starling.coordinator.chain.storage.chain_store import StoredBlock
from starling.coordinator.chain.verification.receipt import Receipt
from starling.protocol.chain.genesis import Genesis
from starling.protocol.chain.payments import PAYMENTS
from starling.protocol.chain.update_scores import SCORES
from starling.protocol.ids import device_id, device_name
from starling.protocol.schema.msgpack_codec import Codec
from starling.protocol.wire.envelope import ENVELOPE, Envelope, MessageKind


def plain(value: object) -> Any:  # noqa: ANN401 - JSON
    """A structure as JSON can hold it: bytes in hex, fields by name."""
    if isinstance(value, bytes):
        return value.hex()
    if is_dataclass(value) and not isinstance(value, type):
        shown = [each for each in fields(value) if not each.name.startswith("_")]
        return {each.name: plain(getattr(value, each.name)) for each in shown}
    if isinstance(value, tuple):
        return [plain(each) for each in value]
    return value


def block(stored: StoredBlock) -> dict[str, Any]:
    """Header and certificate as plain values."""
    header, certificate = stored.block.header, stored.certificate
    return {
        "height": header.height,
        "block": header.block_id().hex(),
        "parent": header.parent.hex(),
        "time_ms": header.time_ms,
        "proposer": header.proposer,
        "round": certificate.round,
        "voters": list(certificate.members()),
        "validators": header.validators.hex(),
        "tx_root": header.tx_root.hex(),
        "state_root": header.state_root.hex(),
        "transactions": len(stored.block.transactions),
    }


def transactions(genesis: Genesis, stored: StoredBlock) -> Iterator[dict[str, Any]]:
    """Transactions of a block as plain values."""
    for place, packed in enumerate(stored.block.transactions):
        envelope = ENVELOPE.unpack(packed)
        yield {
            "height": stored.block.header.height,
            "place": place,
            **transaction(genesis, envelope),
            "counter": envelope.counter,
            "body": body(envelope),
        }


def transaction(genesis: Genesis, envelope: Envelope) -> dict[str, Any]:
    """Position, kind and sender of a transaction."""
    return {
        "id": envelope.identity(genesis.chain_id()).hex(),
        "kind": MessageKind(envelope.kind).name.lower(),
        "sender": device_name(device_id(envelope.sender)),
    }


def body(envelope: Envelope) -> Any:  # noqa: ANN401 - JSON
    """Signed body of a transaction, by the names of its fields."""
    return plain(TRANSACTIONS[envelope.kind].codec.unpack(envelope.body))


def scores(genesis: Genesis, stored: StoredBlock) -> Iterator[dict[str, Any]]:
    """Each score of each coordinator in a block."""
    for row in transactions(genesis, stored):
        if row["kind"] == MessageKind.SCORE.name.lower():
            for place, value in enumerate(row["body"]["values"]):
                yield {
                    "height": row["height"],
                    "sender": row["sender"],
                    "task": row["body"]["task"],
                    "version": row["body"]["version"],
                    "place": place,
                    "influence_ppm": value["influence"],
                    "agreement_ppm": value["agreement"],
                }


_VALUES: dict[str, Codec[Any]] = {"score": SCORES, "paid": PAYMENTS}
"""What stands under the keys that are proven, by the first part of the key."""


def receipt(genesis: Genesis, shown: Receipt) -> dict[str, Any]:
    """Contents of a checked receipt."""
    if shown.final is not None:
        return transaction(genesis, shown.final.transaction)
    assert shown.entry is not None
    key, value = shown.entry.proof.key, shown.entry.proof.value
    codec = _VALUES.get(key.decode(errors="replace").partition("/")[0])
    stated = plain(value if codec is None else codec.unpack(value))
    return {"key": key.decode(errors="replace"), "is": stated}

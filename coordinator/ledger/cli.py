"""`starling chain`: look at a chain and check it, offline."""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from coordinator.ledger.audit import Audit, audit
from coordinator.ledger.storage import StoredBlock
from coordinator.rim.schema import CHAIN_FILE
from coordinator.rim.signature_pool import SignaturePool
from coordinator.rim.store import SqliteStore
from durable.files import read_limited, write_atomic
from protocol import merkle
from protocol.chain import GENESIS, GENESIS_BYTES_MAX, FaultModel, Genesis
from protocol.envelope import ENVELOPE, Kind
from protocol.errors import (
    EXIT_DONE,
    EXIT_FAILED,
    ConfigError,
    OperationError,
    ProtocolError,
)
from protocol.ids import DIGEST_BYTES, device_id, device_name
from protocol.light import FINAL, Final, pin

_EXAMPLES = """examples:
  starling chain verify --home coordinator/
  starling chain show --home coordinator/ --tail 3
  starling chain prove --home coordinator/ --update ID --out update.proof
  starling chain check-proof update.proof --genesis coordinator/genesis

exit status: 0 done, 1 failed, 2 usage, 78 configuration
"""
_PROGRESS_S = 1.0
_ALONE_MAX = 20_000
"""Signatures that one process checks before another one has started."""


def main(argv: list[str]) -> int:
    """Runs `starling chain` with the words after it.

    Returns:
      The exit status.

    Raises:
      ConfigError, OperationError, ProtocolError, StorageError: Printed by the caller.
    """
    arguments = _parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = arguments.run
    return run(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="starling chain",
        description="Look at a coordinator's chain and check it, offline.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    printing = argparse.ArgumentParser(add_help=False)
    printing.add_argument(
        "--json", action="store_true", help="print one JSON document to standard output"
    )
    home = argparse.ArgumentParser(add_help=False)
    home.add_argument(
        "--home",
        metavar="DIR",
        default=os.environ.get("STARLING_HOME"),
        help="the coordinator's folder (default: $STARLING_HOME)",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    check = verbs.add_parser(
        "verify", parents=[home, printing], help="re-check everything from genesis"
    )
    check.set_defaults(run=_verify)
    show = verbs.add_parser("show", parents=[home, printing], help="show blocks")
    which = show.add_mutually_exclusive_group()
    which.add_argument("--height", type=int, help="this block only")
    which.add_argument("--tail", type=int, default=10, help="the last N (default: 10)")
    show.set_defaults(run=_show)
    _add_proof_verbs(verbs, home, printing)
    return parser


def _add_proof_verbs(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]",
    home: argparse.ArgumentParser,
    printing: argparse.ArgumentParser,
) -> None:
    prove = verbs.add_parser(
        "prove",
        parents=[home, printing],
        help="write the proof that an update is final",
    )
    prove.add_argument("--update", required=True, metavar="ID", help="its id, in hex")
    prove.add_argument("--out", required=True, type=Path, help="the proof to write")
    prove.set_defaults(run=_prove)
    receive = verbs.add_parser(
        "check-proof", parents=[printing], help="check a proof with the genesis alone"
    )
    receive.add_argument("proof", type=Path, help="what `prove` wrote")
    receive.add_argument(
        "--genesis", required=True, type=Path, help="the genesis that you trust"
    )
    receive.set_defaults(run=_check_proof)


def _open(arguments: argparse.Namespace) -> SqliteStore:
    if arguments.home is None:
        raise ConfigError("give --home DIR, or set STARLING_HOME", key="home")
    return SqliteStore.read(Path(arguments.home) / "state" / CHAIN_FILE)


def _print(arguments: argparse.Namespace, document: Any, lines: list[str]) -> None:  # noqa: ANN401 - JSON
    text = json.dumps(document) if arguments.json else "\n".join(lines)
    sys.stdout.write(text + "\n")


def _model(genesis: Genesis) -> str:
    return FaultModel(genesis.fault_model).name.lower()


def _verify(arguments: argparse.Namespace) -> int:
    store = _open(arguments)
    started_s = time.monotonic()
    with store.one_moment():
        progress = _progress(store.height())
        many = store.signatures() >= _ALONE_MAX
        with SignaturePool(store.genesis, None if many else 0) as pool:
            found = audit(store, progress, pool.ahead)
    store.close()
    wall_s = time.monotonic() - started_s
    document = _audit_document(store.genesis, found, wall_s)
    _print(arguments, document, _audit_lines(store.genesis, found, wall_s))
    return EXIT_DONE if found.fault is None else EXIT_FAILED


def _progress(last: int) -> Callable[[int], None]:
    """Says from time to time how far a walk up to the height `last` is."""
    started_s = shown_s = time.monotonic()

    def progress(height: int) -> None:
        nonlocal shown_s
        now_s = time.monotonic()
        if now_s - shown_s >= _PROGRESS_S:
            shown_s = now_s
            rate = height / (now_s - started_s)
            sys.stderr.write(
                f"height {height} of {last}, {rate:.0f} blocks per second\n"
            )

    return progress


def _audit_document(genesis: Genesis, found: Audit, wall_s: float) -> dict[str, Any]:
    fault = found.fault
    tip = found.tip
    return {
        "verified": fault is None,
        "chain": genesis.chain_id().hex(),
        "fault_model": _model(genesis),
        "height": tip.height,
        "tip": tip.parent().hex(),
        "state_root": tip.tree.root().hex(),
        "transactions": found.transactions,
        "bodies_from": found.bodies_from,
        "executed_from": found.executed_from,
        "wall_s": round(wall_s, 3),
        "fault": None
        if fault is None
        else {
            "height": fault.height,
            "field": fault.field,
            "offset": fault.offset,
            "exact": fault.exact,
            "detail": fault.detail,
        },
    }


def _audit_lines(genesis: Genesis, found: Audit, wall_s: float) -> list[str]:
    rate = found.tip.height / max(wall_s, 1e-9)
    lines = [
        f"height {found.tip.height}, {found.transactions} transactions, "
        f"fault model {_model(genesis)}, {wall_s:.1f} s ({rate:.0f} blocks per second)",
        f"tip {found.tip.parent().hex()}",
        f"state root {found.tip.tree.root().hex()}",
    ]
    if found.bodies_from > 1:
        lines.append(
            f"transactions are kept from height {found.bodies_from}; up to height "
            f"{found.executed_from - 1}, the oldest snapshot, headers and certificates "
            "were checked, from there on everything"
        )
    fault = found.fault
    if fault is None:
        return [*lines, "verified: every block holds"]
    place = "byte" if fault.exact else "at or after byte"
    return [
        *lines,
        f"FAULT at height {fault.height}, {fault.field}, {place} {fault.offset} of the "
        f"stored row: {fault.detail}",
    ]


def _show(arguments: argparse.Namespace) -> int:
    store = _open(arguments)
    last = store.height()
    if arguments.height is not None:
        heights = range(arguments.height, arguments.height + 1)
    else:
        first = max(store.first_body(), last - arguments.tail + 1)
        heights = range(first, last + 1)
    documents = []
    for height in heights:
        stored = store.block(height)
        if stored is None:
            raise OperationError(_absent(store, height))
        documents.append(_block_document(store, stored))
    store.close()
    shown = documents[0] if arguments.height is not None else documents
    _print(arguments, shown, [_block_line(document) for document in documents])
    return EXIT_DONE


def _absent(store: SqliteStore, height: int) -> str:
    first, last = store.first_body(), store.height()
    if 0 < height < first:
        return (
            f"the transactions of block {height} are gone; kept are {first} to {last}"
        )
    return f"no block {height}; the chain's height is {last}"


def _block_document(store: SqliteStore, stored: StoredBlock) -> dict[str, Any]:
    header, certificate = stored.block.header, stored.certificate
    chain_id = store.genesis.chain_id()
    envelopes = [ENVELOPE.unpack(packed) for packed in stored.block.transactions]
    return {
        "height": header.height,
        "block": header.block_id().hex(),
        "time_ms": header.time_ms,
        "proposer": header.proposer,
        "round": certificate.round,
        "voters": list(certificate.members()),
        "state_root": header.state_root.hex(),
        "transactions": [
            {
                "id": envelope.identity(chain_id).hex(),
                "kind": Kind(envelope.kind).name.lower(),
                "sender": device_name(device_id(envelope.sender)),
            }
            for envelope in envelopes
        ],
    }


def _block_line(document: dict[str, Any]) -> str:
    kinds = [entry["kind"] for entry in document["transactions"]]
    counted = ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds)))
    voters = ",".join(str(voter) for voter in document["voters"])
    return (
        f"{document['height']:>8}  {document['block'][:16]}"
        f"  round {document['round']}  by {document['proposer']}"
        f"  signed {voters}  {counted or 'heartbeat'}"
    )


def _prove(arguments: argparse.Namespace) -> int:
    store = _open(arguments)
    try:
        identity = bytes.fromhex(arguments.update)
    except ValueError as error:
        raise OperationError(f"not hex: {arguments.update!r}") from error
    place = store.locate(identity) if len(identity) == DIGEST_BYTES else None
    stored = None if place is None else store.block(place.height)
    if place is None or stored is None:
        first = store.first_body()
        kept = f", which keeps them from height {first}" if first > 1 else ""
        raise OperationError(f"no transaction {arguments.update} on this chain{kept}")
    entries = stored.block.transactions
    final = Final(
        ENVELOPE.unpack(entries[place.place]),
        stored.block.header,
        stored.certificate,
        place.place,
        len(entries),
        merkle.path(entries, place.place),
    )
    packed = FINAL.pack(final)
    write_atomic(arguments.out, packed)
    store.close()
    document = {"height": place.height, "index": place.place, "bytes": len(packed)}
    line = f"height {place.height}, index {place.place}: {len(packed)} bytes"
    _print(arguments, document, [line])
    return EXIT_DONE


def _check_proof(arguments: argparse.Namespace) -> int:
    genesis = _genesis(arguments.genesis)
    proof_max = FINAL.bytes_max
    final = FINAL.unpack(read_limited(arguments.proof, proof_max))
    final.check(pin(genesis))
    final.transaction.check(genesis.chain_id())
    envelope = final.transaction
    document = {
        "proven": True,
        "chain": genesis.chain_id().hex(),
        "fault_model": _model(genesis),
        "height": final.header.height,
        "id": envelope.identity(genesis.chain_id()).hex(),
        "sender": device_name(device_id(envelope.sender)),
    }
    height, identity = final.header.height, document["id"]
    who = f"{identity} of {document['sender']}"
    line = f"proven ({document['fault_model']}): {who} is final at height {height}"
    _print(arguments, document, [line])
    return EXIT_DONE


def _genesis(path: Path) -> Genesis:
    try:
        return GENESIS.unpack(read_limited(path, GENESIS_BYTES_MAX))
    except ProtocolError as error:
        raise ConfigError(f"not a genesis: {error}", file=str(path)) from error

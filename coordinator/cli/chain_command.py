"""`starling chain`: look at a chain and check it, offline."""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starling.coordinator.chain.storage.chain_store import StoredBlock
from starling.coordinator.chain.verification import plain_values
from starling.coordinator.chain.verification.audit import AuditResult
from starling.coordinator.chain.verification.receipt import RECEIPT, Receipt, read
from starling.coordinator.cli import chain_trace
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.lineage.vector_export import copy_readable
from starling.coordinator.runtime.setup.damage_recovery import audit_store
from starling.coordinator.runtime.storage import receipt_reader
from starling.coordinator.runtime.storage.chain_export import export
from starling.coordinator.runtime.storage.sqlite_schema import CHAIN_FILE
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.durable.files import read_limited, write_atomic
from starling.protocol.chain.genesis import (
    GENESIS,
    GENESIS_BYTES_MAX,
    FaultModel,
    Genesis,
)
from starling.protocol.chain.light_client import payments_key, scores_key, version_key
from starling.protocol.errors import (
    EXIT_DONE,
    EXIT_FAILED,
    ConfigError,
    OperationError,
    ProtocolError,
)
from starling.protocol.wire.envelope import ENVELOPE
from starling.service.arguments import command, home_of, whole_number

_EXAMPLES = """\
  starling chain verify --home coordinator/
  starling chain show --home coordinator/ --tail 3
  starling chain prove --home coordinator/ --update ID --out update.proof
  starling chain prove --home coordinator/ --model 0:12 --out model.proof
  starling chain check-proof update.proof --genesis coordinator/genesis
  starling chain export --home coordinator/ --out audit/ --csv
  starling chain export --home coordinator/ --out audit/ --vectors
  starling chain trace --home audit/ --version 60 --data held_out.npz
"""
_PROGRESS_S = 1.0
_HEIGHT_MAX = (1 << 63) - 1


def main(argv: list[str]) -> int:
    """Runs `starling chain` with the words after it.

    Returns:
      The exit status.

    Raises:
      ConfigError, OperationError, ProtocolError, StorageError: Printed by the caller.
    """
    arguments = parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = arguments.run
    return run(arguments)


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = command(
        "chain", "Look at a coordinator's chain and check it, offline.", _EXAMPLES
    )
    printing = argparse.ArgumentParser(add_help=False)
    printing.add_argument("--json", action="store_true", help="print one JSON document")
    home = argparse.ArgumentParser(add_help=False)
    home.add_argument(
        "--home",
        metavar="DIR",
        help="the coordinator's folder (default: $STARLING_HOME)",
    )
    verbs = made.add_subparsers(dest="verb", required=True, metavar="VERB")
    check = verbs.add_parser(
        "verify", parents=[home, printing], help="re-check everything from genesis"
    )
    check.set_defaults(run=_verify)
    show = verbs.add_parser("show", parents=[home, printing], help="show blocks")
    which = show.add_mutually_exclusive_group()
    which.add_argument(
        "--height",
        type=whole_number(1, _HEIGHT_MAX),
        help="this block only",
    )
    which.add_argument(
        "--tail",
        type=whole_number(1, _HEIGHT_MAX),
        metavar="N",
        default=10,
        help="the last N (default: 10)",
    )
    show.set_defaults(run=_show)
    _add_proof_verbs(verbs, home, printing)
    tracing = verbs.add_parser(
        "trace",
        parents=[home, printing],
        help="name the boards whose updates made a version bad",
    )
    chain_trace.add_options(tracing)
    tracing.set_defaults(run=_trace)
    return made


def _add_proof_verbs(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]",
    home: argparse.ArgumentParser,
    printing: argparse.ArgumentParser,
) -> None:
    prove = verbs.add_parser(
        "prove", parents=[home, printing], help="write the proof that something is so"
    )
    what = prove.add_mutually_exclusive_group(required=True)
    what.add_argument("--update", metavar="ID", help="an update is final; its id, hex")
    what.add_argument("--model", metavar="TASK:VERSION", help="a version is final")
    what.add_argument("--score", metavar="TASK:VERSION", help="a version's scores")
    what.add_argument(
        "--payment",
        metavar="TASK:VERSION[:PAGE]",
        help="what its updates earned",
    )
    prove.add_argument("--out", required=True, type=Path, help="the proof to write")
    prove.set_defaults(run=_prove)
    auditing = verbs.add_parser(
        "export", parents=[home, printing], help="write the chain as files"
    )
    auditing.add_argument("--out", required=True, type=Path, help="the folder to write")
    auditing.add_argument("--csv", action="store_true", help="CSV, not JSON lines")
    auditing.add_argument(
        "--vectors",
        action="store_true",
        help="also a copy of chain, models and kept vectors, with what opens these: "
        "`verify`, `trace` and `starling model` read it as --home",
    )
    auditing.add_argument("--from", dest="first", type=int, help="the first height")
    auditing.add_argument("--to", dest="last", type=int, help="the last height")
    auditing.set_defaults(run=_export)
    receive = verbs.add_parser(
        "check-proof", parents=[printing], help="check a proof with the genesis alone"
    )
    receive.add_argument("proof", type=Path, help="what `prove` wrote")
    receive.add_argument(
        "--genesis", required=True, type=Path, help="the genesis that you trust"
    )
    receive.set_defaults(run=_check_proof)


def _open(arguments: argparse.Namespace) -> SqliteStore:
    return SqliteStore.read(home_of(arguments) / "state" / CHAIN_FILE)


def _print(arguments: argparse.Namespace, document: Any, lines: list[str]) -> None:  # noqa: ANN401 - JSON
    text = json.dumps(document) if arguments.json else "\n".join(lines)
    sys.stdout.write(text + "\n")


def _model(genesis: Genesis) -> str:
    return FaultModel(genesis.fault_model).name.lower()


def _verify(arguments: argparse.Namespace) -> int:
    store = _open(arguments)
    started_s = time.monotonic()
    found = audit_store(store, _progress(store.height()))
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


def _audit_document(
    genesis: Genesis, found: AuditResult, wall_s: float
) -> dict[str, Any]:
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


def _audit_lines(genesis: Genesis, found: AuditResult, wall_s: float) -> list[str]:
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
    envelopes = [ENVELOPE.unpack(packed) for packed in stored.block.transactions]
    shown = [
        plain_values.transaction(store.genesis, envelope) for envelope in envelopes
    ]
    return {**plain_values.block(stored), "transactions": shown}


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
    with store.one_moment():
        if arguments.update is not None:
            receipt = receipt_reader.transaction(store, arguments.update)
        else:
            receipt = _entry(store, arguments)
    store.close()
    packed = RECEIPT.pack(receipt)
    write_atomic(arguments.out, packed)
    height = receipt.header.height
    document = {"height": height, "bytes": len(packed)}
    _print(arguments, document, [f"height {height}: {len(packed)} bytes"])
    return EXIT_DONE


def _entry(store: SqliteStore, arguments: argparse.Namespace) -> Receipt:
    """Proof of the entry that is meant; the best version's outlives its entry."""
    key = _key(arguments)
    if arguments.model is not None:
        task, number = map(int, arguments.model.split(":"))
        kept = receipt_reader.version(store, task, number)
        if kept is not None:
            return kept
    return receipt_reader.entry(store, key)


def _key(arguments: argparse.Namespace) -> bytes:
    """The key of the state that `--model`, `--score` or `--payment` means."""
    named = (arguments.model, arguments.score, arguments.payment)
    asked = next(text for text in named if text is not None)
    try:
        task, version, *page = (int(part) for part in asked.split(":"))
        if arguments.payment is not None:
            return payments_key(task, version, *(page or [0]))
        if not page:
            make = scores_key if arguments.model is None else version_key
            return make(task, version)
    except (ValueError, TypeError):
        pass
    raise OperationError(f"not TASK:VERSION: {asked!r}")


def _check_proof(arguments: argparse.Namespace) -> int:
    genesis = _genesis(arguments.genesis)
    receipt = read(read_limited(arguments.proof, RECEIPT.bytes_max))
    receipt.check(genesis)
    document = {
        "proven": True,
        "chain": genesis.chain_id().hex(),
        "fault_model": _model(genesis),
        "height": receipt.header.height,
        **plain_values.receipt(genesis, receipt),
    }
    what = document["id"] if receipt.final else f"{document['key']} = {document['is']}"
    who = f" of {document['sender']}" if receipt.final else ""
    line = f"proven ({document['fault_model']}): {what}{who} at height"
    _print(arguments, document, [f"{line} {receipt.header.height}"])
    return EXIT_DONE


def _export(arguments: argparse.Namespace) -> int:
    store = _open(arguments)
    with store.one_moment():
        least, most = store.first_body(), store.height()
        first = least if arguments.first is None else arguments.first
        last = most if arguments.last is None else arguments.last
        if not least <= first <= last <= most:
            raise OperationError(f"transactions are kept of heights {least} to {most}")
        heights, progress = range(first, last + 1), _progress(last)
        counts = export(store, arguments.out, heights, arguments.csv, progress)
    store.close()
    document = {"from": first, "to": last, "lines": counts, "out": str(arguments.out)}
    lines = [f"{name}: {count} lines" for name, count in counts.items()]
    if arguments.vectors:
        home = CoordinatorHome(home_of(arguments))
        document["vectors"] = copy_readable(home, arguments.out)
        lines.append(f"vectors: {document['vectors']}, with what opens them")
    _print(arguments, document, lines)
    return EXIT_DONE


def _trace(arguments: argparse.Namespace) -> int:
    store = _open(arguments)
    last = store.height()
    store.close()
    document, lines = chain_trace.trace(arguments, _progress(last))
    _print(arguments, document, lines)
    return EXIT_DONE


def _genesis(path: Path) -> Genesis:
    try:
        return GENESIS.unpack(read_limited(path, GENESIS_BYTES_MAX))
    except ProtocolError as error:
        raise ConfigError(f"not a genesis: {error}", file=str(path)) from error

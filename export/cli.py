"""`starling model`: get a trained version out, and say what it is worth."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from starling.protocol.errors import EXIT_DONE, ConfigError
from starling.service.arguments import command

INT8 = "int8"
_READABLE = 0o644
_EXAMPLES = """\
  starling model list --report demo/
  starling model export --report demo/ --out model.onnx
  starling model export --home coordinator/ --version latest --out model.onnx
  starling model export --home board/ --personal --out mine.onnx
  starling model export --report demo/ --quantize int8 --data test.npz --out small.onnx
  starling model evaluate --home coordinator/ --data test.npz --json
  starling model card --report demo/ --data test.npz --out MODEL.md

DIR of --home is a coordinator's or a board's; DIR of --report is what `starling fleet
run --report DIR` left. Nothing is written that the chain does not prove.
"""

_VIRTUAL_MS_MAX = 10**11
"""Virtual fleets count from 0; a clock of boards is far beyond."""


def main(argv: list[str]) -> int:
    """Runs one verb of `starling model`.

    Returns:
      The exit status.

    Raises:
      ConfigError: For the caller's mistakes.
      FederationError: For what cannot be done or is not proven.
    """
    options = parser().parse_args(argv)
    verb: Callable[[argparse.Namespace], int] = options.run
    return verb(options)


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = command(
        "model", "Trained versions as ordinary ONNX files, with their proof.", _EXAMPLES
    )
    verbs = made.add_subparsers(dest="verb", required=True, metavar="VERB")
    _verb(verbs, "list", _list, "the versions that there are, and how good they are")
    export = _verb(verbs, "export", _export, "write a version as an ONNX file")
    _add_version(export)
    export.add_argument("--out", type=Path, required=True, metavar="FILE.onnx")
    export.add_argument(
        "--quantize",
        choices=(INT8,),
        help="int8, calibrated on --data, with the accuracy before and after",
    )
    _add_data(
        export, "for --quantize: an .npz file or table, or a folder of such files"
    )
    evaluate = _verb(verbs, "evaluate", _evaluate, "try a version on data")
    _add_version(evaluate)
    _add_data(evaluate, "an .npz file or table, or a folder of such files", needed=True)
    card = _verb(verbs, "card", _card, "write a model card in Markdown")
    _add_version(card)
    card.add_argument("--out", type=Path, metavar="FILE.md", help="default: print it")
    _add_data(card, "to try the version on, for the card's table")
    return made


def _verb(
    verbs: Any,  # noqa: ANN401 - argparse keeps the type of its subparsers private
    name: str,
    run: Callable[[argparse.Namespace], int],
    text: str,
) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = verbs.add_parser(name, help=text)
    made.add_argument("--home", type=Path, metavar="DIR", help="where the model is")
    made.add_argument("--report", type=Path, metavar="DIR", help="of a fleet's run")
    made.add_argument("--task", type=int, default=0, help="its number (default 0)")
    made.add_argument(
        "--genesis",
        type=Path,
        metavar="FILE",
        help="that you trust; default: the home's own",
    )
    made.add_argument("--json", action="store_true", help="print one JSON document")
    made.set_defaults(run=run)
    return made


def _add_version(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--version",
        metavar="best|latest|N",
        help="best on held-out data, the newest, or a number (default: best where "
        "versions were evaluated, else latest)",
    )
    made.add_argument(
        "--personal",
        action="store_true",
        help="a board's home: its own model, or the version with the parameters that "
        "never left the board",
    )


def _add_data(
    made: argparse.ArgumentParser, text: str, *, needed: bool = False
) -> None:
    made.add_argument("--data", type=Path, metavar="PATH", required=needed, help=text)
    made.add_argument(
        "--target", default="", metavar="NAME", help="column of a CSV (default: last)"
    )


@contextmanager
def _opened(options: argparse.Namespace) -> Iterator[Any]:
    # Imported late, so that --help and usage errors are quick.
    from starling.export.runtime.model_source import open_source

    source = open_source(options.home, options.report, options.genesis)
    try:
        yield source
    finally:
        source.close()


def _list(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from starling.coordinator.models.best_version import best_version

    with _opened(options) as source:
        rows = source.rows(options.task)
        best = best_version(rows, by_loss=source.ranks_by_loss(options.task))
    if options.json:
        document = {
            "task": options.task,
            "best": None if best is None else best.version,
            "versions": [asdict(row) for row in rows],
        }
        sys.stdout.write(json.dumps(document) + "\n")
        return EXIT_DONE
    lines = [f"{'version':>8}{'final':>21}{'updates':>9}{'accuracy':>10}{'loss':>10}"]
    lines[0] += f"{'epsilon':>9}  kept"
    lines += [_row_line(row, is_best=row is best) for row in rows]
    sys.stdout.write("\n".join(lines) + "\n")
    return EXIT_DONE


def _row_line(row: Any, *, is_best: bool) -> str:  # noqa: ANN401 - its module is imported late
    when = "-"
    if row.time_ms is not None and row.time_ms < _VIRTUAL_MS_MAX:
        when = f"{row.time_ms / 1000:.0f} s"
    elif row.time_ms is not None:
        when = f"{datetime.fromtimestamp(row.time_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"
    cells = [
        (row.updates, "{}", 9),
        (row.accuracy, "{:.2%}", 10),
        (row.loss, "{:.4f}", 10),
        (row.epsilon, "{:.2f}", 9),
    ]
    line = f"{row.version:>8}{when:>21}"
    for value, form, width in cells:
        line += f"{'-' if value is None else form.format(value):>{width}}"
    return f"{line}  {'yes' if row.kept else 'no'}{'  best' if is_best else ''}"


def _proven(options: argparse.Namespace, source: Any) -> Any:  # noqa: ANN401 - as above
    """The version that is meant, once everything about it holds."""
    from starling.export.model_card import EXACT_NOTE
    from starling.export.runtime.board_home import BoardModels
    from starling.export.runtime.model_source import chosen

    model = source.proven(chosen(source, options.task, options.version))
    if not options.personal:
        return model
    if not isinstance(source, BoardModels):
        raise ConfigError(
            "only a board has parameters of its own: give its home with --home",
            key="--personal",
        )
    model = source.personal(model)
    if model.is_boards_own:
        _say(f"warning: {EXACT_NOTE}")
    return model


def _export(options: argparse.Namespace) -> int:
    from starling.durable.files import write_atomic
    from starling.export.runtime.model_source import onnx_of

    # Before the home is opened: to prove a version takes a while.
    if options.quantize and options.data is None:
        raise ConfigError(
            "int8 ranges are calibrated, and compared, on examples: give --data",
            key="--quantize",
        )
    with _opened(options) as source:
        model = _proven(options, source)
    _say_proven(model)
    content = onnx_of(model)
    document = _export_document(model, options)
    if options.quantize:
        content, compared = _in_int8(options, model, content)
        document |= compared
    # Only what is complete: a file that is there is a model that was proven.
    write_atomic(options.out, content, _READABLE)
    document["bytes"] = len(content)
    if options.json:
        sys.stdout.write(json.dumps(document) + "\n")
    else:
        sys.stdout.write(f"wrote {options.out}: {len(content):,} bytes\n")
    return EXIT_DONE


def _export_document(model: Any, options: argparse.Namespace) -> dict[str, Any]:  # noqa: ANN401 - as above
    claim = model.claim
    return {
        "out": str(options.out),
        "task": claim.row.task,
        "version": claim.row.version,
        "parameters_digest": claim.digests.inference.hex(),
        "height": claim.version.header.height,
        "signers": list(model.signers),
        "personal": claim.own is not None,
    }


def _in_int8(
    options: argparse.Namespace,
    model: Any,  # noqa: ANN401 - as above
    content: bytes,
) -> tuple[bytes, dict[str, Any]]:
    """The model in int8, and what it is worth before and after."""
    from starling.export.runtime.examples import tried
    from starling.export.runtime.quantisation import (
        measured_file,
        quantised,
        with_metadata,
    )

    manifest = model.opened.manifest
    examples = tried(model, options.data, options.target)
    _say_unusable(examples)
    small = quantised(content, manifest, examples)
    before = measured_file(content, manifest, examples).document()
    after = measured_file(small, manifest, examples).document()
    for name in ("accuracy", "macro_f1", "mae", "rmse"):
        if name in before:
            _say(f"{name}: {before[name]:.4f} in float32, {after[name]:.4f} in int8")
    told = {"before": before, "after": after}
    stated = {"starling.quantised": INT8, "starling.quantised_metrics": _short(told)}
    return with_metadata(small, stated), {"quantised": told}


def _short(told: dict[str, dict[str, Any]]) -> str:
    kept = ("examples", "accuracy", "macro_f1", "mae", "rmse", "r2")
    return json.dumps(
        {
            when: {k: v for k, v in row.items() if k in kept}
            for when, row in told.items()
        }
    )


def _evaluate(options: argparse.Namespace) -> int:
    from starling.export.runtime.examples import tried

    with _opened(options) as source:
        model = _proven(options, source)
    _say_proven(model)
    examples = tried(model, options.data, options.target)
    _say_unusable(examples)
    document = {
        "task": model.claim.row.task,
        "version": model.claim.row.version,
        "data": str(options.data),
        "classes": list(model.opened.manifest.classes),
        **examples.document(),
    }
    if options.json:
        sys.stdout.write(json.dumps(document) + "\n")
        return EXIT_DONE
    for key, value in document.items():
        if key == "confusion":
            _print_confusion(value, document["classes"])
        elif value not in (None, []):
            sys.stdout.write(f"{key:<10} {_shown(value)}\n")
    return EXIT_DONE


def _shown(value: Any) -> str:  # noqa: ANN401 - JSON
    if isinstance(value, list):
        return " ".join(_shown(each) for each in value)
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _print_confusion(rows: list[list[int]] | None, classes: list[str]) -> None:
    if rows is None:
        return
    sys.stdout.write("confusion  true class by predicted class\n")
    width = max(len(str(cell)) for row in rows for cell in row) + 1
    for number, row in enumerate(rows):
        name = classes[number] if classes else str(number)
        cells = "".join(f"{cell:>{width}}" for cell in row)
        sys.stdout.write(f"{name[:10]:>10} {cells}\n")


def _card(options: argparse.Namespace) -> int:
    from starling.durable.files import write_atomic
    from starling.export.model_card import TrialOnData, model_card
    from starling.export.runtime.examples import tried

    with _opened(options) as source:
        model = _proven(options, source)
        # Read while the source is open.
        contributors = source.contributors(model.claim.row)
    _say_proven(model)
    trial = None
    if options.data is not None:
        examples = tried(model, options.data, options.target)
        _say_unusable(examples)
        loss = float(examples.losses.mean())
        trial = TrialOnData(options.data.name, examples.metrics, loss)
    text = model_card(model, contributors, trial)
    if options.json:
        sys.stdout.write(json.dumps({"card": text}) + "\n")
    elif options.out is None:
        sys.stdout.write(text)
    if options.out is not None:
        write_atomic(options.out, text.encode(), _READABLE)
        _say(f"wrote {options.out}")
    return EXIT_DONE


def _say_proven(model: Any) -> None:  # noqa: ANN401 - as above
    row, header = model.claim.row, model.claim.version.header
    _say(
        f"task {row.task}, version {row.version}: proven by the certificate of block "
        f"{header.height} ({', '.join(model.signers)})"
    )
    if row.version == 0:
        _say("note: version 0 is the model from before any training")


def _say_unusable(examples: Any) -> None:  # noqa: ANN401 - as above
    if examples.unusable:
        first = examples.complaints[0] if examples.complaints else ""
        _say(f"warning: {examples.unusable} records left out: {first}")


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")

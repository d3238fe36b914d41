"""`starling compile`: an ONNX model becomes a training bundle."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from starling.compiler.autodiff.losses import LOSSES, PLAIN
from starling.compiler.autodiff.straight_through import silent_steps
from starling.compiler.bundle import bundle_inspection, compile_report
from starling.compiler.bundle.compile_pipeline import compile_model, write_bundle
from starling.compiler.bundle.gradient_check import GradientErrors, check_bundle
from starling.protocol.errors import EXIT_DONE, ConfigError, DecodeError
from starling.protocol.model.training_bundle import LossSettings, Preprocessing
from starling.protocol.privacy.clipping_functions import CLIPPINGS, weights_lost

_EXAMPLES = """\
examples:
  starling compile model.onnx --loss cross-entropy --out bundle/
  starling compile model.onnx --loss cross-entropy --train 'head.*' --out bundle/
  starling compile model.onnx --loss mse --check --explain
  starling compile model.onnx --loss bce --out bundle/ --json
  starling compile model.onnx --loss cross-entropy --label-smoothing 0.1 --out bundle/
  starling compile inspect bundle/

Without --out nothing is written; --check and --explain still work.
exit status: 0 done, 1 the model cannot be trained, 2 usage, 78 a file or pattern
"""
_SEED = 20240229
"""Of `--check`, so that it says the same twice."""


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = argparse.ArgumentParser(
        prog="starling compile",
        description="Compile an ONNX model into a bundle that any board can train.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("model", type=Path, metavar="MODEL.onnx")
    made.add_argument("--loss", required=True, choices=sorted(LOSSES))
    _add_loss_settings(made)
    _add_clipping(made)
    made.add_argument("--out", type=Path, metavar="DIR", help="folder of the bundle")
    _add_weights(made)
    made.add_argument(
        "--output", metavar="NAME", help="that the loss reads, if there are several"
    )
    made.add_argument("--name", help="of the bundle; the graph's own by default")
    made.add_argument(
        "--classes", default="", metavar="A,B,...", help="what the outputs stand for"
    )
    made.add_argument(
        "--scale",
        type=_numbers,
        default=(1.0,),
        metavar="S[,S...]",
        help="boards feed raw * scale + offset; one value, or one per channel",
    )
    made.add_argument(
        "--offset",
        type=_numbers,
        default=(0.0,),
        metavar="O[,O...]",
        help="see --scale",
    )
    made.add_argument(
        "--check", action="store_true", help="compare with finite differences first"
    )
    made.add_argument(
        "--explain", action="store_true", help="show the rule and cost of each node"
    )
    made.add_argument("--json", action="store_true", help="print one JSON document")
    return made


def _add_weights(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--train",
        action="append",
        default=[],
        metavar="PATTERN",
        help="train only weights whose names match; may be given several times",
    )
    made.add_argument(
        "--freeze",
        action="append",
        default=[],
        metavar="PATTERN",
        help="leave weights whose names match as they are; several times, too",
    )
    made.add_argument(
        "--local",
        action="append",
        default=[],
        metavar="PATTERN",
        help="weights that are trained and stay on the board; several times, too",
    )
    made.add_argument(
        "--tie",
        action="append",
        type=lambda text: text.split(","),
        default=[],
        metavar="A,B,...",
        help="weights of equal values that are one; may be given several times",
    )
    made.add_argument(
        "--untie",
        action="store_true",
        help="train apart what an exporter merged because it had equal values",
    )


def _add_clipping(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--clipping",
        choices=CLIPPINGS,
        default=CLIPPINGS[0],
        help="of private gradients: to a norm, or all to about the clip's length",
    )


def _add_loss_settings(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--class-weights",
        type=_numbers,
        default=(),
        metavar="W,W,...",
        help="of cross-entropy: a factor for each class",
    )
    made.add_argument(
        "--label-smoothing",
        type=float,
        default=PLAIN.label_smoothing,
        metavar="S",
        help="of cross-entropy: the share of a label that all classes divide",
    )
    made.add_argument(
        "--delta",
        type=float,
        default=PLAIN.delta,
        metavar="D",
        help="of huber: the error above which it grows linearly",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Returns:
      0; errors are raised and reported by the caller.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["inspect"]:
        return bundle_inspection.main(arguments[1:])
    options = parser().parse_args(arguments)
    # Before the model is read, which takes long: a wrong number is told at once.
    settings = _settings(options)
    bundle = compile_model(
        options.model,
        loss=options.loss,
        train=options.train,
        local=options.local,
        name=options.name or options.model.stem,
        classes=tuple([name for name in options.classes.split(",") if name]),
        preprocessing=Preprocessing(options.scale, options.offset),
        settings=settings,
        output=options.output,
        clipping=options.clipping,
        tie=options.tie,
        untie=options.untie,
        freeze=options.freeze,
        tell=_say,
    )
    _warn_steps(silent_steps(bundle.network))
    if lost := weights_lost(settings.class_weights, options.clipping):
        _say(f"warning: {lost}")
    errors = None
    # Before the bundle is written, so that a wrong gradient leaves nothing behind.
    if options.check:
        _say("checking against finite differences and single examples")
        errors = check_bundle(bundle, np.random.default_rng(_SEED))
        _say(f"gradients agree: {errors}")
        _say_idle(errors, len(bundle.network.parameters))
    if options.out is not None:
        write_bundle(bundle, options.out)
        _say(f"wrote {options.out}")
    if options.json:
        found = compile_report.document(bundle)
        found |= {"check": asdict(errors)} if errors else {}
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
    else:
        sys.stdout.write(compile_report.text(bundle, explain=options.explain))
    return EXIT_DONE


def _say_idle(errors: GradientErrors, weights: int) -> None:
    """Names weights that no example moved."""
    if len(errors.idle) == weights:
        _say("warning: the gradient is zero for every example: nothing is trained")
    elif errors.idle:
        names = ", ".join(errors.idle)[:300]
        _say(f"warning: the gradient of these is zero for every example: {names}")


def _warn_steps(nodes: Sequence[str]) -> None:
    if nodes:
        names = ", ".join(nodes)[:300]
        _say(
            f"warning: no slope passes {names}: weights before them are trained "
            "through other nodes alone. A straight-through estimator, "
            "x + (step(x) - x), is known and passes"
        )


def _settings(options: argparse.Namespace) -> LossSettings:
    try:
        return LossSettings(
            options.class_weights, options.label_smoothing, options.delta
        )
    except DecodeError as error:
        raise ConfigError(str(error), key="--loss") from error


def _numbers(text: str) -> tuple[float, ...]:
    return tuple([float(part) for part in text.split(",")])


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")

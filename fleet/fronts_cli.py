"""`starling fronts`: frozen layers under a trained head, and where they come from."""

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

from starling.fleet.fronts.front_catalog import FONTS, FRONTS, front_named
from starling.protocol.errors import EXIT_DONE, ConfigError
from starling.service.arguments import command

_EXAMPLES = """\
  starling fronts list
  starling fronts show whitened --json
  starling fronts build pen --out pen.onnx
  starling fronts build fonts --fonts /usr/share/fonts --seed 2 --out own.onnx
  starling fronts build pen --model cnn --out pen-cnn.onnx
  starling fleet run --data mnist --model head --front pen --epsilon 2
  starling fleet run --data mnist --model pen-cnn.onnx --epsilon 8
  starling compile pen.onnx --train 'head.*' --loss cross-entropy --out bundle/
"""


def main(argv: list[str]) -> int:
    """Runs one verb of `starling fronts`.

    Returns:
      The exit status.

    Raises:
      FederationError: What the user must know.
    """
    options = parser().parse_args(argv)
    if options.verb == "list":
        return _list(as_json=options.json)
    if options.verb == "show":
        return _show(options.name, as_json=options.json)
    return _build(options)


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = command(
        "fronts",
        "Frozen layers under a trained head, and where they come from.",
        _EXAMPLES,
    )
    verbs = made.add_subparsers(dest="verb", required=True, metavar="VERB")
    listed = verbs.add_parser("list", help="all of them, a line each")
    shown = verbs.add_parser("show", help="what one computes, and of which data")
    built = verbs.add_parser("build", help="write one as an ONNX model with a head")
    for verb in (listed, shown):
        verb.add_argument("--json", action="store_true", help="print one JSON document")
    for verb in (shown, built):
        verb.add_argument("name", metavar="NAME", help="as `starling fronts list` says")
    built.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="the ONNX file"
    )
    built.add_argument(
        "--fonts",
        type=Path,
        metavar="DIR",
        help="of the front fonts: all fonts below this folder (default those that"
        " come with matplotlib)",
    )
    built.add_argument(
        "--model",
        metavar="NAME",
        help="of a trained front: a model of `starling fleet run`, trained whole on"
        " the same pictures, from which boards go on (default: the front and a head)",
    )
    built.add_argument("--seed", type=int, help="of a trained front (default 1)")
    return made


def _list(*, as_json: bool) -> int:
    if as_json:
        rows = [asdict(front) for front in FRONTS.values()]
        sys.stdout.write(json.dumps(rows, indent=1) + "\n")
        return EXIT_DONE
    for front in FRONTS.values():
        sys.stdout.write(f"{front.name:<12} {front.summary}; {front.origin}\n")
    return EXIT_DONE


def _show(name: str, *, as_json: bool) -> int:
    front = front_named(name)
    if as_json:
        sys.stdout.write(json.dumps(asdict(front), indent=1) + "\n")
        return EXIT_DONE
    kept = "trained once, in minutes, and kept" if front.trained else "at once"
    refused = ", ".join(front.measured_on) or "none"
    sys.stdout.write(
        f"name         {front.name}\n"
        f"computes     {front.summary}\n"
        f"comes from   {front.origin}\n"
        f"not for data {refused}\n"
        f"made         {kept}\n"
    )
    return EXIT_DONE


def _build(options: argparse.Namespace) -> int:
    # Imported late, so that list and show are quick.
    from starling.durable.files import storage_errors, write_atomic
    from starling.fleet.runtime.fronts.front_builder import (
        TRAINED,
        build_front,
        build_start,
    )
    from starling.fleet.runtime.fronts.glyph_renderer import fonts_below

    front = front_named(options.name)
    if options.fonts is not None and front.name != FONTS:
        raise ConfigError(f"{front.name} is not made from fonts", key="--fonts")
    for key, value in (("--seed", options.seed), ("--model", options.model)):
        if value is not None and not front.trained:
            raise ConfigError(f"{front.name} is not trained", key=key)
    fonts = fonts_below(options.fonts) if options.fonts is not None else ()
    network = TRAINED.get(front.name)
    if network is not None and options.seed is not None:
        network = replace(network, seed=options.seed)
    # Refused before minutes go by.
    with storage_errors(options.out.parent):
        options.out.parent.mkdir(parents=True, exist_ok=True)
    if network is not None and options.model is not None:
        model = build_start(front, options.model, _say, network=network, fonts=fonts)
    else:
        model = build_front(front, _say, network=network, fonts=fonts)
    content = model.SerializeToString(deterministic=True)
    write_atomic(options.out, content)
    _say(f"wrote {options.out}, {len(content):,} bytes")
    return EXIT_DONE


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")

"""`starling compile inspect`: what a bundle holds, checked as a board checks it."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from starling.compiler.bundle import compile_report
from starling.engine.onnx_graph import Graph
from starling.engine.opened_bundle import open_files
from starling.protocol.errors import EXIT_DONE, ConfigError
from starling.protocol.model.training_bundle import (
    BUNDLE_BYTES_MAX,
    CONTENT_FILES,
    MANIFEST,
    BundleManifest,
    bundle_digest,
    manifest_from_json,
    pack_bundle,
    unpack_bundle,
)


def main(argv: Sequence[str]) -> int:
    """Runs the command.

    Returns:
      0; errors are raised and reported by the caller.
    """
    options = _parser().parse_args(argv)
    files = read(options.bundle)
    manifest = manifest_from_json(files[MANIFEST])
    graphs = open_files(files).graphs
    if options.json:
        found = _document(files, manifest, graphs)
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
    else:
        sys.stdout.write("\n".join(_lines(files, manifest, graphs)) + "\n")
    return EXIT_DONE


def read(path: Path) -> Mapping[str, bytes]:
    """The files of a bundle, from its folder or its one wire file.

    Raises:
      ConfigError: If a file is missing or cannot be read.
      DecodeError, LimitError: If the bundle is not sound.
    """
    try:
        if not path.is_dir():
            if path.stat().st_size > BUNDLE_BYTES_MAX:
                raise ConfigError(f"over {BUNDLE_BYTES_MAX} bytes", file=str(path))
            return unpack_bundle(path.read_bytes())
        files = {
            name: (path / name).read_bytes() for name in (*CONTENT_FILES, MANIFEST)
        }
    except OSError as error:
        detail = error.strerror or "cannot be read"
        raise ConfigError(detail, file=str(error.filename or path)) from error
    # Packing checks names, sizes and digests, as of a bundle from one file.
    pack_bundle(files)
    return files


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="starling compile inspect",
        description="Check a bundle and say what it holds and what memory it needs.",
    )
    made.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder or wire file")
    made.add_argument("--json", action="store_true", help="print one JSON document")
    return made


def _document(
    files: Mapping[str, bytes], manifest: BundleManifest, graphs: Mapping[str, Graph]
) -> dict[str, object]:
    return {
        "digest": bundle_digest(pack_bundle(files)).hex(),
        "manifest": json.loads(files[MANIFEST]),
        "dimension": manifest.dimension,
        "operators": {name: item.operators for name, item in graphs.items()},
        "process_bytes": {
            name: {str(batch): size for batch, size in row.items()}
            for name, row in compile_report.memory(files).items()
        },
    }


def _lines(
    files: Mapping[str, bytes], manifest: BundleManifest, graphs: Mapping[str, Graph]
) -> list[str]:
    trained = sum([item.trainable for item in manifest.parameters])
    settings = manifest.loss_settings
    lines = [
        f"name         {manifest.name}",
        f"digest       {bundle_digest(pack_bundle(files)).hex()}",
        f"trained      {manifest.dimension:,} values in {trained} of "
        f"{len(manifest.parameters)} tensors",
        f"input        {manifest.input.dtype} {list(manifest.input.shape)}",
        f"target       {manifest.target.dtype} {list(manifest.target.shape)}",
        f"output       {manifest.output.dtype} {list(manifest.output.shape)}",
        f"loss         {manifest.loss}, smoothing {settings.label_smoothing:g}, "
        f"delta {settings.delta:g}, {len(settings.class_weights)} class weights",
        f"clipping     {manifest.clipping}",
        *([f"origin       {manifest.origin}"] if manifest.origin else []),
        "",
    ]
    lines += [
        f"{name:<24}{len(files[name]):>12,} bytes"
        + (f"{len(graphs[name].nodes):>8,} nodes" if name in graphs else "")
        for name in CONTENT_FILES
    ]
    return [*lines, "", *compile_report.memory_lines(files)]

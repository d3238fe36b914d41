"""`starling data`: what would be learned from one's own data."""

import argparse
import json
import sys
from pathlib import Path

from starling.protocol.errors import EXIT_CONFIG, EXIT_DONE
from starling.service.arguments import command

_EXAMPLES = """\
  starling data check own.csv --target price
  starling data check own.csv --target kind --group person --categories one-hot
  starling data check boards/ --target kind --bounds age=0:100
  starling data check pictures/ --json
"""


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    # Imported late, as all that takes time, so that usage errors are quick.
    from starling.protocol.model.training_bundle import LOSSES
    from starling.records.runtime.settings_file import add_data_flags

    made = command(
        "data",
        "Look at data before anything starts.",
        _EXAMPLES,
        "0 nothing stands in the way, 2 usage, 78 something is wrong with the data",
    )
    verbs = made.add_subparsers(dest="verb", required=True, metavar="VERB")
    check = verbs.add_parser(
        "check",
        help="say what would be learned, by board, and what is wrong",
        epilog=made.epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    check.add_argument(
        "path",
        type=Path,
        metavar="PATH",
        help="a .csv, .tsv, .parquet or .npz file, or a folder of these, pictures or"
        " WAV files",
    )
    add_data_flags(check.add_argument_group("what is learned"))
    check.add_argument(
        "--loss",
        choices=LOSSES,
        help="cross-entropy for labels; mse, huber or bce for numbers",
    )
    check.add_argument("--json", action="store_true", help="print one JSON document")
    return made


def main(argv: list[str]) -> int:
    """Runs one verb of `starling data`.

    Returns:
      The exit status.

    Raises:
      ConfigError: If a flag is at fault.
    """
    options = parser().parse_args(argv)
    from starling.records.check_report import document, text
    from starling.records.runtime.settings_file import data_options_of
    from starling.records.runtime.source_check import check_source

    asked = data_options_of(options, options.loss)
    records, faults = check_source(options.path, asked)
    found = document(records, faults, str(options.path))
    sys.stdout.write(
        json.dumps(found, indent=1) + "\n" if options.json else text(found)
    )
    # The faults are of the data, which to try again does not mend.
    return EXIT_CONFIG if faults else EXIT_DONE

"""`starling diag`: a bundle for whoever helps."""

import argparse
import json
import sys
from pathlib import Path

from starling.protocol.errors import EXIT_DONE
from starling.service.arguments import command, home_of
from starling.service.diagnostics import collect, kind_of

_EXAMPLES = """\
  starling diag collect --home /var/lib/starling
  starling diag collect --home broker/ --out broker.tar.gz

It holds settings, status, checks, the journal's end and names of files: no keys, which
it is searched for, and no data. Look at it before you hand it on.
"""


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = command("diag", "Gather what whoever helps needs to see.", _EXAMPLES)
    verbs = made.add_subparsers(dest="verb", required=True, metavar="VERB")
    verb = verbs.add_parser(
        "collect", help="write a bundle without secrets, and without data"
    )
    verb.add_argument(
        "--home", type=Path, help="of an agent, a coordinator or a broker"
    )
    verb.add_argument(
        "--out", type=Path, help="file to write (default: starling-diag-PART.tar.gz)"
    )
    verb.add_argument("--json", action="store_true", help="print one JSON document")
    return made


def main(argv: list[str]) -> int:
    """Runs one verb of `starling diag`.

    Returns:
      The exit status.

    Raises:
      ConfigError, OperationError, StorageError: Printed by the caller.
    """
    arguments = parser().parse_args(argv)
    home = home_of(arguments).absolute()
    out = arguments.out or Path(f"starling-diag-{kind_of(home).value}.tar.gz")
    members = collect(home, out)
    if arguments.json:
        sys.stdout.write(json.dumps({"bundle": str(out), "members": members}) + "\n")
    else:
        names = "".join(f"  {name}\n" for name in members)
        sys.stdout.write(f"wrote {out}, without keys and data:\n{names}")
    return EXIT_DONE

"""`starling console`: a coordinator in a browser, and its metrics."""

import argparse
import json
import os
import socket
import sys

from starling.protocol.errors import EXIT_DONE, ConfigError
from starling.service import listener
from starling.service.arguments import command, home_of
from starling.service.log_lines import (
    add_log_options,
    log_to_stderr,
    use_log_options,
)
from starling.service.web_access import add_web_access, web_access

NICE = 10
"""Of the console, on top of what it was started with."""
_EXAMPLES = """\
  starling console run --home coordinator --web 8080
  starling console run --home coordinator --web 0.0.0.0:8080 --web-token-file token
  starling console run --home coordinator --web 0.0.0.0:8443 --web-cert c --web-key k
  starling coordinator run --home coordinator --web 8080

The same as --web of `starling coordinator run`, for a coordinator that runs already.
It reads status.json and the chain of the home. Who signs in with a token of `starling
coordinator token new` may admit boards, publish tasks and download models, too.
/metrics is for Prometheus; docs/console.md has the alert rules and the dashboard.
"""


def main(argv: list[str]) -> int:
    """Runs one verb of `starling console`.

    Returns:
      The exit status.

    Raises:
      ConfigError: For the operator's mistakes.
      StorageError: If a file cannot be read.
    """
    options = parser().parse_args(argv)
    return _run(options)


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = command("console", "A coordinator in a browser, and its metrics.", _EXAMPLES)
    verbs = made.add_subparsers(dest="verb", required=True, metavar="VERB")
    run = verbs.add_parser("run", help="serve pages and metrics until stopped")
    run.add_argument("--home", metavar="DIR", help="the coordinator's folder")
    run.add_argument(
        "--web",
        default="8080",
        metavar="[HOST:]PORT",
        help="where to listen (default 127.0.0.1:8080); port 0 for any that is free",
    )
    add_web_access(run)
    add_log_options(run)
    run.add_argument("--json", action="store_true", help="print the address as JSON")
    # Of `starling coordinator run`, which listens itself and holds our standard input.
    run.add_argument("--inherited", type=int, help=argparse.SUPPRESS)
    return made


def _run(options: argparse.Namespace) -> int:
    home = home_of(options).absolute()
    inherited = options.inherited is not None
    # A fleet's first coordinator may not be set up yet.
    if not inherited and not home.is_dir():
        raise ConfigError("there is no such folder", file=str(home))
    # Imported late, so that --help needs no web framework.
    from starling.console.runtime.server import (
        ConsoleSettings,
        access_rules,
        serve,
    )

    use_log_options(options)
    log_to_stderr("info")
    host, port = listener.parse_address(options.web)
    settings = ConsoleSettings(home, host, web_access(options), inherited)
    tls = settings.access.tls()
    with (
        socket.socket(fileno=options.inherited)
        if inherited
        else listener.listen(host, port)
    ) as opened:
        rules = access_rules(settings, opened, tls=tls is not None)
        where = listener.url(opened, tls=tls is not None)
        shown = json.dumps({"url": where}) if options.json else f"console: {where}"
        sys.stdout.write(shown + "\n")
        sys.stdout.flush()
        # What strangers ask for never goes before a vote on this machine.
        os.nice(NICE)
        serve(settings, rules, opened, tls)
    return EXIT_DONE

"""`starling coordinator init --token`: one that joins a broker on another machine."""

import argparse
import sys
from shlex import quote

from starling.broker.runtime.token_exchange import WAIT_S, read_token
from starling.coordinator.cli.verbs import founding as founding_cli
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.setup import peer_invitations, pinned_header
from starling.coordinator.runtime.setup.broker_joining import join_broker
from starling.coordinator.runtime.verb_types import Shown
from starling.protocol.errors import ConfigError
from starling.service.arguments import waiting_s


def add_token(founding: argparse.ArgumentParser) -> None:
    """Adds what `init` asks for a broker elsewhere."""
    founding.add_argument(
        "--token",
        metavar="LINE",
        help="join the broker that it names, in place of --fleet, --broker and "
        "--genesis, or found a chain with whoever made it; - reads it from standard "
        "input",
    )
    founding.add_argument(
        "--name",
        help="for people, with --token and --parties (default: coordinator; of a "
        "party: the machine's name)",
    )
    founding.add_argument(
        "--wait",
        type=waiting_s,
        metavar="SECONDS",
        help=f"with --token: for an operator to accept (default {WAIT_S:g}); where a "
        f"chain is founded: for the other parties (default {founding_cli.WAIT_S:g})",
    )


def require_broker(options: argparse.Namespace) -> None:
    """Refuses an `init` that names neither a token nor a broker's folder.

    Raises:
      ConfigError: Naming what is missing.
    """
    for key in ("fleet", "broker"):
        if getattr(options, key) is None:
            raise ConfigError(
                "is needed, unless --token names a broker", key=f"--{key}"
            )


def join(home: CoordinatorHome, options: argparse.Namespace) -> Shown:
    """Does what `init --token` asks for.

    Raises:
      ConfigError, OperationError, TransportError, StorageError: As `join_broker`.
    """
    token = read_token(options.token)
    if token.founding:
        return founding_cli.join(home, token, options)
    if options.at:
        raise ConfigError("is for a token of --parties", key="--at")
    wait_s = WAIT_S if options.wait is None else options.wait
    name = options.name or "coordinator"
    admission = join_broker(home, token, name, wait_s, _show_code)
    # The admission names the fleet, so that the invitations of peers can be held
    # against it.
    options.fleet = admission.genesis.fleet
    peer_invitations.keep_peers(home, options)
    pinned = home.pinned()
    place = f"{admission.broker_host}:{admission.broker_port}"
    document = {
        "home": str(home.path),
        "id": home.name,
        "fleet": admission.genesis.fleet,
        "chain": admission.genesis.chain_id().hex(),
        "broker": place,
        "pinned": None if pinned is None else pinned_header.shown(pinned),
    }
    text = (
        f"coordinator {home.name} of fleet {token.fleet}, broker {place}\n"
        f"next: starling coordinator run --home {quote(str(home.path))}"
    )
    return document, text


def _show_code(code: str) -> None:
    sys.stderr.write(f"code {code}: compare it with `coordinator enrol list` there\n")
    sys.stderr.flush()

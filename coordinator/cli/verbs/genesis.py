"""The verbs that make a coordinator's keys and a chain."""

import argparse
import sys
from pathlib import Path

from starling.coordinator.cli.verb_arguments import AddCommand, home_in, show
from starling.coordinator.cli.verbs import credits_and_governance, founding, joining
from starling.coordinator.runtime.setup import peer_invitations, pinned_header
from starling.coordinator.runtime.setup.genesis_setup import (
    GenesisOptions,
    assemble_genesis,
    found,
    identify,
    read_identity,
)
from starling.durable.files import write_atomic
from starling.protocol.chain.genesis import (
    GENESIS,
    HEARTBEAT_S_MAX,
    FaultModel,
    quorum,
)
from starling.protocol.errors import EXIT_DONE
from starling.service.arguments import PORT_MAX, whole_number

_READABLE = 0o644


def add_verbs(add: AddCommand) -> None:
    """Adds `init`, `identity` and `genesis`."""
    making = add("init", _init, "make keys, genesis and settings")
    making.add_argument("--fleet", help="name of the fleet")
    making.add_argument("--broker", type=Path, help="folder of `starling broker init`")
    joining.add_token(making)
    founding.add_founding(making)
    making.add_argument(
        "--host",
        default="",
        help="where boards reach the broker (default: the broker's first --host)",
    )
    making.add_argument(
        "--broker-host",
        default="",
        metavar="HOST",
        help="where this coordinator reaches the broker (default: on this machine)",
    )
    making.add_argument(
        "--port", type=whole_number(1, PORT_MAX), default=0, help="the broker's port"
    )
    making.add_argument(
        "--genesis", type=Path, help="of a chain that several coordinators keep"
    )
    making.add_argument(
        "--join", action="store_true", help="the chain admits it later, by a motion"
    )
    _add_heartbeat(making)
    credits_and_governance.add_economy(making)
    peer_invitations.add_peers(making)
    pinned_header.add_pin(making)
    identity = add("identity", _identity, "make keys and show their public side")
    identity.add_argument("--name", default="coordinator", help="for people")
    identity.add_argument("--out", type=Path, help="file to write")
    genesis = add("genesis", _genesis, "assemble a genesis from identities")
    genesis.add_argument("identities", nargs="+", type=Path, help="identity files")
    genesis.add_argument("--fleet", required=True, help="name of the fleet")
    genesis.add_argument("--out", required=True, type=Path, help="the genesis to write")
    genesis.add_argument(
        "--fault-model",
        choices=[model.name.lower() for model in FaultModel],
        default=FaultModel.BYZANTINE.name.lower(),
        help="crash is for 2 or 3 that trust each other (default byzantine)",
    )
    _add_heartbeat(genesis)
    credits_and_governance.add_economy(genesis)


def _add_heartbeat(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--heartbeat",
        type=whole_number(1, HEARTBEAT_S_MAX),
        default=10,
        metavar="SECONDS",
        help="longest time without a block (default 10)",
    )


def _init(options: argparse.Namespace) -> int:
    home = home_in(options)
    if options.token is not None:
        return show(options, *joining.join(home, options))
    joining.require_broker(options)
    if options.parties is not None:
        return show(options, *founding.begin(home, options))
    asked = GenesisOptions(
        options.fleet,
        options.broker,
        options.host,
        options.port,
        options.heartbeat,
        options.genesis,
        options.join,
        credits_and_governance.economy(options),
        options.broker_host,
    )
    genesis = found(home, asked)
    # After the folder is made: invitations are kept in it.
    peer_invitations.keep_peers(home, options)
    pinned = pinned_header.keep_pinned(home, options.trusted)
    document = {
        "home": str(home.path),
        "id": home.name,
        "fleet": genesis.fleet,
        "chain": genesis.chain_id().hex(),
        "pinned": None if pinned is None else pinned_header.shown(pinned),
    }
    text = f"coordinator {home.name} in {home.path}"
    if pinned is not None:
        text += f"\npins {pinned_header.shown(pinned)}: compare it with its sender's"
    return show(options, document, text)


def _identity(options: argparse.Namespace) -> int:
    home = home_in(options)
    text = identify(home, options.name).to_json()
    if options.out is None:
        sys.stdout.write(text)
        return EXIT_DONE
    write_atomic(options.out, text.encode(), _READABLE)
    document = {"id": home.name, "identity": str(options.out)}
    return show(options, document, f"coordinator {home.name}: {options.out}")


def _genesis(options: argparse.Namespace) -> int:
    made = assemble_genesis(
        options.fleet,
        [read_identity(path) for path in options.identities],
        FaultModel[options.fault_model.upper()],
        options.heartbeat,
        credits_and_governance.economy(options),
    )
    write_atomic(options.out, GENESIS.pack(made), _READABLE)
    members = made.validators.members
    document = {
        "genesis": str(options.out),
        "chain": made.chain_id().hex(),
        "fault_model": options.fault_model,
        "validators": [member.name for member in members],
        "quorum": quorum(len(members), FaultModel(made.fault_model)),
    }
    text = f"{len(members)} coordinators, {document['quorum']} decide: {options.out}"
    if made.fault_model == FaultModel.CRASH:
        text += "; CRASH-ONLY: safe only while none of them lies"
    return show(options, document, text)

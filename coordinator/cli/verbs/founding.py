"""`starling coordinator init` for those who found a chain together, by a token."""

import argparse
import re
import socket
import sys
from pathlib import Path
from shlex import quote
from typing import Any

from starling.coordinator.cli.enrolment import duration_s
from starling.coordinator.cli.verbs.credits_and_governance import economy
from starling.coordinator.runtime.founding.founding_store import (
    FoundingTerms,
    party_id,
)
from starling.coordinator.runtime.founding.party import FoundedChain, join_founding
from starling.coordinator.runtime.founding.party_home import PartyOptions
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.verb_types import Shown
from starling.protocol.chain.founding import founding_code
from starling.protocol.chain.founding_messages import PARTIES_MAX, PARTIES_MIN
from starling.protocol.chain.genesis import FaultModel, quorum
from starling.protocol.errors import ConfigError
from starling.protocol.wire.enrolment_token import EnrolmentToken
from starling.service.arguments import whole_number

WAIT_S = 86_400.0
"""For the other parties, by default."""
_NAME_CHARS_MAX = 64


def add_founding(verb: argparse.ArgumentParser) -> None:
    """Adds what `init` asks of those who found a chain together."""
    verb.add_argument(
        "--parties",
        type=whole_number(PARTIES_MIN, PARTIES_MAX),
        metavar="N",
        help="found a chain of N coordinators: print a token for the other N - 1, and "
        "wait until all agree",
    )
    verb.add_argument(
        "--at",
        default="",
        metavar="NAME",
        help="with a founding token: be at the broker of the party of this name "
        "(default: the own --broker, or else the founder's)",
    )
    verb.add_argument(
        "--for",
        dest="life_s",
        type=duration_s,
        default=86_400,
        metavar="TIME",
        help="with --parties: how long the token is good (default 1d)",
    )
    verb.add_argument(
        "--anew",
        action="store_true",
        help="with --parties: forget who came before, and make another token; once "
        "all agreed: make another token, for one that did not hear of it",
    )
    verb.add_argument(
        "--fault-model",
        choices=[model.name.lower() for model in FaultModel],
        default=FaultModel.BYZANTINE.name.lower(),
        help="with --parties: crash is for 2 or 3 that trust each other (default "
        "byzantine)",
    )


def begin(home: CoordinatorHome, options: argparse.Namespace) -> Shown:
    """Does what `init --parties` asks for.

    Raises:
      ConfigError, OperationError, StorageError: As `host_founding`.
    """
    # Only those who answer newcomers need MQTT.
    from starling.coordinator.runtime.enrolment.founding_host import (
        FounderOptions,
        host_founding,
    )

    terms = FoundingTerms(
        options.parties,
        FaultModel[options.fault_model.upper()],
        options.heartbeat,
        economy(options),
        str(options.broker.absolute()),
    )
    party = _party(options, options.fleet)
    asked = FounderOptions(party, terms, options.life_s, options.anew)

    def show_token(line: str) -> None:
        _say(
            "for each other party, on its own machine, and a secret until then:\n"
            "  starling coordinator init --home DIR --token LINE"
        )
        # With --json standard output is one document, which comes once all agreed.
        stream = sys.stderr if options.json else sys.stdout
        stream.write(line + "\n")
        stream.flush()

    wait_s = WAIT_S if options.wait is None else options.wait
    return _shown(home, host_founding(home, asked, wait_s, show_token, _say))


def join(
    home: CoordinatorHome, token: EnrolmentToken, options: argparse.Namespace
) -> Shown:
    """Does what `init --token` asks for with a founder's token.

    Raises:
      ConfigError, OperationError, TransportError, StorageError: As `join_founding`.
    """
    asked = _party(options, token.fleet)
    wait_s = WAIT_S if options.wait is None else options.wait
    return _shown(home, join_founding(home, token, asked, wait_s, _say))


def _party(options: argparse.Namespace, fleet: str) -> PartyOptions:
    if options.broker is not None and options.at:
        raise ConfigError("a party with --broker is at its own", key="--at")
    if options.genesis is not None or options.join:
        raise ConfigError("is not for those who found a chain", key="--genesis, --join")
    if options.fleet not in (None, fleet):
        raise ConfigError(f"the token is of the fleet {fleet!r}", key="--fleet")
    broker: Path | None = options.broker
    return PartyOptions(
        fleet,
        options.name or _machine(),
        None if broker is None else broker.absolute(),
        options.at,
        options.host,
        options.broker_host,
    )


def _machine() -> str:
    """The machine's name, as far as it can name a party."""
    name = socket.gethostname().partition(".")[0]
    return re.sub("[^A-Za-z0-9-]", "-", name)[:_NAME_CHARS_MAX] or "coordinator"


def _shown(home: CoordinatorHome, founded: FoundedChain) -> Shown:
    roster, own = founded.roster, home.signing_key().public
    made, code = roster.genesis, founding_code(founded.record)
    rows: list[dict[str, Any]] = []
    for entry in roster.entries:
        broker = roster.broker_of(entry)
        place = broker.broker[0]
        rows.append(
            {
                "name": entry.name,
                "id": party_id(entry.public),
                "broker": f"{place.host}:{place.port}",
                "runs_it": broker == entry,
                "own": entry.public == own,
            }
        )
    model = FaultModel(made.fault_model)
    decide = quorum(len(rows), model)
    document = {
        "home": str(home.path),
        "id": home.name,
        "fleet": made.fleet,
        "chain": made.chain_id().hex(),
        "fault_model": model.name.lower(),
        "heartbeat_s": made.heartbeat_s,
        "supply": made.economy.supply,
        "quorum": decide,
        "code": code,
        "coordinators": rows,
    }
    lines = [
        f"fleet {made.fleet}: {len(rows)} coordinators, {decide} decide; a block each "
        f"{made.heartbeat_s} s at least, {made.economy.supply} credits"
    ]
    # By name, the same order everywhere, so that people can compare line by line.
    for row in sorted(rows, key=lambda each: str(each["name"])):
        how = "runs" if row["runs_it"] else "at"
        mark = "  (this one)" if row["own"] else ""
        lines.append(f"  {row['id']}  {row['name']}, {how} {row['broker']}{mark}")
    if model == FaultModel.CRASH:
        lines.append("CRASH-ONLY: safe only while none of them lies")
    lines += [
        f"code {code}: each party must see the same one; compare it, and the ids, by "
        "voice before you run",
        f"next: starling coordinator run --home {quote(str(home.path))}",
    ]
    return document, "\n".join(lines)


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()

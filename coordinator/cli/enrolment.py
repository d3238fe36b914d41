"""`starling enrol`: tokens; and `starling coordinator enrol`: who came with them."""

import argparse
import re
import sys
import time
from datetime import UTC, datetime

from starling.coordinator.cli.verb_arguments import Command, add_verb
from starling.coordinator.enrolment.registrar import (
    LIFE_S_MAX,
    USES_MAX,
    TokenRecord,
)
from starling.coordinator.runtime.enrolment.enrolment_store import (
    ClaimState,
    EnrolmentStore,
    StoredClaim,
)
from starling.coordinator.runtime.enrolment.new_token import issue_token
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.operations.board_admission import advertised_host
from starling.coordinator.runtime.setup.own_broker import own_broker
from starling.coordinator.runtime.verb_types import AddVerb, Shown
from starling.protocol.errors import ConfigError
from starling.protocol.wire.enrolment_messages import EnrolmentKind
from starling.protocol.wire.enrolment_token import letters
from starling.service.arguments import command, whole_number

_EXAMPLES = """\
  starling enrol token --home coordinator
  starling enrol token --uses 20 --for 8h --home coordinator
  starling enrol token --confirm --home coordinator
  starling enrol token --coordinator --home coordinator
  starling enrol tokens --home coordinator
  starling enrol revoke 4aaqeayeaudao --home coordinator

STARLING_HOME is the coordinator's folder when --home is not given.
"""
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def main(argv: list[str]) -> int:
    """Runs one verb of `starling enrol`.

    Returns:
      The exit status.

    Raises:
      FederationError: What the operator must know.
    """
    options = parser().parse_args(argv)
    run: Command = options.verb
    return run(options)


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = command(
        "enrol",
        "Tokens with which boards and coordinators enrol by themselves.",
        _EXAMPLES,
    )
    verbs = made.add_subparsers(required=True, metavar="VERB")
    token = add_verb(
        verbs, "token", _token, "make a token and print it: one line, secret"
    )
    token.add_argument(
        "--uses",
        type=whole_number(1, USES_MAX),
        default=1,
        help="how many may enrol with it (default 1)",
    )
    token.add_argument(
        "--for",
        dest="life_s",
        type=duration_s,
        default=3600,
        metavar="TIME",
        help="how long it is good, such as 90s, 30m, 1h, 7d (default 1h, at most 30d)",
    )
    token.add_argument(
        "--confirm",
        action="store_true",
        help="an operator accepts each newcomer by the code that it shows",
    )
    token.add_argument(
        "--coordinator",
        action="store_true",
        help="for a coordinator that joins this broker, not for boards",
    )
    add_verb(verbs, "tokens", _tokens, "list them, without their secrets")
    revoke = add_verb(verbs, "revoke", _revoke, "make a token good for nothing")
    revoke.add_argument("token", metavar="ID", help="as `tokens` shows it")
    return made


def add_verbs(add: AddVerb) -> None:
    """Adds `starling coordinator enrol`."""
    verb = add("enrol", _enrol, "list, accept or reject who came with a token")
    verb.add_argument("what", choices=("list", "accept", "reject"))
    verb.add_argument("code", nargs="?", metavar="CODE", help="that the newcomer shows")


def duration_s(text: str) -> int:
    """An argument's type: a token's life, such as `90s`, `30m`, `1h` or `7d`.

    Raises:
      argparse.ArgumentTypeError: If it is none, or longer than a token lives.
    """
    found = re.fullmatch(r"(\d{1,6})([smhd])", text)
    seconds = int(found[1]) * _UNITS[found[2]] if found else 0
    if not 1 <= seconds <= LIFE_S_MAX:
        raise argparse.ArgumentTypeError(
            f"{text!r}: give 90s, 30m, 1h, 7d; 30d is most"
        )
    return seconds


def _token(home: CoordinatorHome, options: argparse.Namespace) -> Shown:
    settings = home.config().broker
    broker = own_broker(settings)
    kind = EnrolmentKind.COORDINATOR if options.coordinator else EnrolmentKind.BOARD
    token, record = issue_token(
        broker,
        advertised_host(settings, broker),
        kind,
        options.uses,
        options.life_s,
        by_hand=options.confirm,
    )
    line, name = token.to_line(), letters(token.identity)
    verb = "coordinator init" if options.coordinator else "agent enrol"
    # To standard error: standard output holds the token alone, for scripts.
    if not options.json:
        sys.stderr.write(
            f"token {name}, for {options.uses}, until {_moment(record.expires_s)}; "
            f"there: starling {verb} --home DIR --token LINE\n"
        )
    return {"token": line, **_shown(record)}, line


def _tokens(home: CoordinatorHome, _options: argparse.Namespace) -> Shown:
    store = _store(home)
    claims, now_s = store.claims(), time.time()
    rows, lines = [], []
    for record in store.tokens().values():
        row = _shown(record)
        used = sum(claim.token == row["id"] for claim in claims)
        rows.append({**row, "used": used, "good": record.is_good(now_s)})
        how = "by code" if record.by_hand else "by itself"
        until = "until" if record.is_good(now_s) else "expired"
        lines.append(
            f"{row['id']}  {row['kind']}  {used} of {record.uses} used, {how}, "
            f"{until} {_moment(record.expires_s)}"
        )
    return {"tokens": rows}, "\n".join(lines) or "no tokens"


def _revoke(home: CoordinatorHome, options: argparse.Namespace) -> Shown:
    store, name = _store(home), options.token
    # First, so that nobody comes in with it while those that wait are rejected.
    store.remove_token(name)
    waiting = [
        claim
        for claim in store.claims()
        if claim.token == name
        and claim.state in {ClaimState.PENDING, ClaimState.ACCEPTED}
    ]
    for claim in waiting:
        store.reject(claim)
    document = {"id": name, "rejected": [claim.name for claim in waiting]}
    return document, f"token {name} is good for nothing; {len(waiting)} rejected"


def _enrol(home: CoordinatorHome, options: argparse.Namespace) -> Shown:
    store = _store(home)
    if options.what == "list":
        return _claims(store)
    if options.code is None:
        raise ConfigError("give the code that the newcomer shows", key="CODE")
    accepts = options.what == "accept"
    claim = store.decide(options.code, accepts=accepts)
    document = {"name": claim.name, "code": claim.code, "accepted": accepts}
    done = "accepted" if accepts else "rejected"
    return document, f"{done} {claim.name}, which shows {claim.code}"


def _store(home: CoordinatorHome) -> EnrolmentStore:
    # Tokens lie beside the broker, whose registrar answers newcomers.
    return EnrolmentStore(own_broker(home.config().broker).path)


def _claims(store: EnrolmentStore) -> Shown:
    claims, refused = store.claims(), store.refused()
    rows = [_row(claim) for claim in claims]
    lines = [
        f"{claim.code}  {claim.state}  {claim.kind.name.lower()} {claim.name}"
        + (f": {claim.detail}" if claim.detail else "")
        for claim in claims
    ]
    if refused:
        counted = ", ".join(f"{name} {count}" for name, count in refused.items())
        lines.append(f"messages refused: {counted}")
    document = {"claims": rows, "refused": refused}
    return document, "\n".join(lines) or "nobody came with a token"


def _row(claim: StoredClaim) -> dict[str, object]:
    return {
        "code": claim.code,
        "state": str(claim.state),
        "kind": claim.kind.name.lower(),
        "name": claim.name,
        "token": claim.token,
        "detail": claim.detail,
    }


def _shown(record: TokenRecord) -> dict[str, object]:
    return {
        "id": letters(record.identity),
        "kind": record.kind.name.lower(),
        "uses": record.uses,
        "expires": _moment(record.expires_s),
        "confirm": record.by_hand,
    }


def _moment(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M UTC")

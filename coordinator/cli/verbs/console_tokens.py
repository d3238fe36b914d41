"""`starling coordinator token`: who may sign in to the console and act."""

import argparse
import time
from datetime import UTC, datetime

from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.operations.operator_tokens import (
    DAYS,
    DAYS_MAX,
    OperatorToken,
    make_token,
    read_tokens,
    revoke_token,
    tokens_file,
)
from starling.coordinator.runtime.verb_types import AddVerb, Shown
from starling.protocol.errors import ConfigError

NEW, LIST, REVOKE = "new", "list", "revoke"


def add_verbs(add: AddVerb) -> None:
    """Adds `token`."""
    token = add("token", _token, "make, list or revoke tokens of the console")
    token.add_argument("what", choices=(NEW, LIST, REVOKE))
    token.add_argument("id", nargs="?", default="", help="of the token to revoke")
    token.add_argument("--name", default="", help="new: whose it is")
    token.add_argument(
        "--days",
        type=int,
        default=DAYS,
        help=f"new: how long it lasts, at most {DAYS_MAX} (default {DAYS})",
    )


def _token(home: CoordinatorHome, options: argparse.Namespace) -> Shown:
    home.config()
    # An id that is ignored could leave somebody to believe that a token is revoked.
    if bool(options.id) != (options.what == REVOKE):
        raise ConfigError("give the id of a token to revoke, and only then", key="id")
    if options.what == NEW:
        return _new(home, options)
    if options.what == REVOKE:
        ended = revoke_token(home, options.id)
        return ended.document(), f"revoked {ended.id} of {ended.name}"
    now_s = time.time()
    rows = [row for row in read_tokens(tokens_file(home)) if row.until_s > now_s]
    text = "\n".join(map(_line, rows)) or "there is no token"
    return {"tokens": [row.document() for row in rows]}, text


def _new(home: CoordinatorHome, options: argparse.Namespace) -> Shown:
    if not options.name:
        raise ConfigError("say whose it is: --name NAME", key="--name")
    made, token = make_token(home, options.name, options.days, time.time())
    told = "it is shown this once; revoke it with: starling coordinator token revoke"
    text = f"{token}\n{_line(made)}\n{told} {made.id}"
    return {**made.document(), "token": token}, text


def _line(row: OperatorToken) -> str:
    ends = datetime.fromtimestamp(row.until_s, UTC)
    return f"{row.id}  until {ends:%Y-%m-%d %H:%M} UTC  {row.name}"

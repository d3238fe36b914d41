"""The verbs after damage to a coordinator's folder."""

import argparse

from starling.coordinator.chain.consensus.voting_permit import resume
from starling.coordinator.cli.verb_arguments import AddCommand, home_in, show
from starling.coordinator.runtime.setup.damage_recovery import recover
from starling.coordinator.runtime.storage.double_sign_guard import write_resumption
from starling.protocol.errors import ConfigError


def add_verbs(add: AddCommand) -> None:
    """Adds `resume` and `recover`."""
    resuming = add("resume", _resume, "let it vote again though its journal was lost")
    resuming.add_argument(
        "--height",
        required=True,
        type=int,
        help="vote from here on: above every height at which it may have voted",
    )
    add("recover", _recover, "set damaged files aside; others replace them")


def _resume(options: argparse.Namespace) -> int:
    home = home_in(options)
    if options.height < 1:
        raise ConfigError("at least 1", key="height")
    chain_id = home.genesis().chain_id()
    # A validator that forgot its votes might sign a second one at a height, which is
    # slashed: below this one it is silent.
    validator, height = home.signing_key().public, options.height
    resumption = resume(home.operator_key(), chain_id, validator, height)
    write_resumption(home.state, resumption)
    text = f"votes from height {height} once it is started again"
    return show(options, {"height": height}, text)


def _recover(options: argparse.Namespace) -> int:
    found = recover(home_in(options))
    document = {
        "chain": found.chain,
        "votes": found.votes,
        "kept": [str(path) for path in found.kept],
    }
    return show(options, document, found.text())

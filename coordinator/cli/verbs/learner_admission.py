"""Taking a coordinator in: first it learns, and decides when it has caught up."""

import argparse
from pathlib import Path

from starling.coordinator.cli.verbs.credits_and_governance import (
    public_key,
)
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.operations.chain_decision import (
    add_wait,
)
from starling.coordinator.runtime.operations.decided_submission import submit_and_wait
from starling.coordinator.runtime.setup.genesis_setup import read_identity
from starling.coordinator.runtime.verb_types import AddVerb, Shown
from starling.protocol.errors import ConfigError
from starling.protocol.ids import device_id, device_name
from starling.protocol.wire.envelope import MessageKind
from starling.protocol.wire.message_bodies import LEARNER, LearnerChange


def add_verbs(add: AddVerb) -> None:
    """Adds `learner`."""
    verb = add("learner", _learner, "let a coordinator read and ask before it decides")
    verb.add_argument("what", choices=("add", "remove"), help="admit it, or no longer")
    verb.add_argument("who", help="its identity file to add it, its key to remove it")
    add_wait(verb)


def _learner(home: CoordinatorHome, options: argparse.Namespace) -> Shown:
    if options.what == "add":
        one = read_identity(Path(options.who))
        body = LearnerChange(1, one.public, one.name)
        text = f"{one.name} may learn"
    else:
        try:
            body = LearnerChange(0, public_key(options.who), "")
        except ValueError as error:
            raise ConfigError(str(error), key="who") from error
        text = "it learns no more"
    name = device_name(device_id(body.public))
    said = f"{text}: {name}"
    decision = submit_and_wait(
        home, MessageKind.LEARNER, LEARNER.pack(body), options.wait, f"not done: {said}"
    )
    document = {"id": name, "admitted": bool(body.admitted), **decision.document()}
    return document, decision.text(said, said)

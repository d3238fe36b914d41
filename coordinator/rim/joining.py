"""Taking a coordinator in: first it learns, and decides when it is level."""

import argparse
from pathlib import Path

from coordinator.rim.founding import read_identity
from coordinator.rim.governing import AddVerb, Shown, public_key, submit
from coordinator.rim.home import CoordinatorHome
from protocol.envelope import Kind
from protocol.errors import ConfigError
from protocol.ids import device_id, device_name
from protocol.messages import LEARNER, Learner


def add_verbs(add: AddVerb) -> None:
    """Adds `learner`."""
    verb = add("learner", _learner, "let a coordinator read and ask before it decides")
    verb.add_argument("what", choices=("add", "remove"), help="admit it, or no longer")
    verb.add_argument("who", help="its identity file to add it, its key to remove it")


def _learner(home: CoordinatorHome, options: argparse.Namespace) -> Shown:
    if options.what == "add":
        one = read_identity(Path(options.who))
        body = Learner(1, one.public, one.name)
        text = f"asked that {one.name} may learn"
    else:
        try:
            body = Learner(0, public_key(options.who), "")
        except ValueError as error:
            raise ConfigError(str(error), key="who") from error
        text = "asked that it learns no more"
    submit(home, Kind.LEARNER, LEARNER.pack(body))
    name = device_name(device_id(body.public))
    return {"id": name, "admitted": bool(body.admitted)}, f"{text}: {name}"

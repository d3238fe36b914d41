"""A founder and parties in folders of their own, with brokers that do not run."""

import shutil
from collections.abc import Callable
from pathlib import Path

from starling.broker.broker_settings import BrokerSettings
from starling.broker.runtime.broker_home import BrokerHome
from starling.coordinator.runtime.founding.founder import Founder, party_of
from starling.coordinator.runtime.founding.founding_store import (
    FoundingStore,
    FoundingTerms,
)
from starling.coordinator.runtime.founding.party import FoundedChain, agree
from starling.coordinator.runtime.founding.party_home import PartyOptions, own_entry
from starling.coordinator.runtime.home import CoordinatorHome
from starling.protocol.chain.credit_policy import NO_ECONOMY
from starling.protocol.chain.founding import (
    CONFIRMATION_FORMAT,
    ENTRY_FORMAT,
    document,
)
from starling.protocol.chain.founding_messages import (
    FOUNDING_CONFIRMATION,
    FOUNDING_ENTRY,
    FoundingConfirmation,
    FoundingEntry,
)
from starling.protocol.chain.genesis import FaultModel
from tests.e2e.required_mosquitto import require_mosquitto

FLEET = "meadow"


class Unanswered(Exception):
    """The founder does not know yet: a party goes on waiting."""


class Parties:
    """Everybody's folders.

    Attributes:
      path: Folder of all of them.
    """

    def __init__(self, path: Path, parties: int) -> None:
        """Begins a founding at `north`."""
        self.path = path
        self.parties = parties
        self.begin()

    def begin(self) -> None:
        """What the founder's command does first; may be repeated."""
        store = FoundingStore(self.home("north").founding)
        store.begin().release()
        own_entry(self.home("north"), store, self.options("north", broker="west"))
        store.put_terms(
            FoundingTerms(
                self.parties,
                FaultModel.BYZANTINE,
                10,
                NO_ECONOMY,
                str(self.path / "west"),
            )
        )

    @property
    def founder(self) -> Founder:
        """As a process that was just started has it."""
        return Founder(self.home("north"))

    def home(self, name: str) -> CoordinatorHome:
        return CoordinatorHome(self.path / name)

    def options(self, name: str, broker: str = "", at: str = "") -> PartyOptions:
        folder = self.path / broker if broker else None
        return PartyOptions(FLEET, name, folder, at)

    def entry(self, folder: str, asked: PartyOptions) -> FoundingEntry:
        store = FoundingStore(self.home(folder).founding)
        store.begin().release()
        return own_entry(self.home(folder), store, asked)

    def enter(self, folder: str, asked: PartyOptions) -> bytes | None:
        """Has the founder answer a party's entry."""
        said = document(ENTRY_FORMAT, FOUNDING_ENTRY, self.entry(folder, asked))
        party_of(said)
        return self.founder.answer(said)

    def confirm(self, given: FoundingConfirmation) -> bytes | None:
        """Has the founder answer a consent."""
        said = document(CONFIRMATION_FORMAT, FOUNDING_CONFIRMATION, given)
        party_of(said)
        return self.founder.answer(said)

    def ask(self, content: bytes) -> bytes:
        """Says something to the founder."""
        party_of(content)
        answer = self.founder.answer(content)
        if answer is None:
            raise Unanswered
        return answer

    def agree(
        self,
        name: str,
        broker: str = "",
        at: str = "",
        ask: Callable[[bytes], bytes] | None = None,
    ) -> FoundedChain:
        """What a party's command does."""
        store = FoundingStore(self.home(name).founding)
        with store.begin():
            return agree(
                self.home(name),
                store,
                self.options(name, broker, at),
                ask or self.ask,
                lambda _text: None,
            )


def make_brokers(path: Path) -> None:
    """Folders of two brokers, `west` and `east`."""
    require_mosquitto()
    for port, name in enumerate(("west", "east"), 18_883):
        BrokerHome(path / name).prepare(
            BrokerSettings(FLEET, bind="127.0.0.1", port=port, enrol_port=port + 100)
        )


def copied(path: Path, target: Path) -> Path:
    """The two brokers once more."""
    for name in ("west", "east"):
        shutil.copytree(path / name, target / name)
    return target

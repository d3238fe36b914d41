"""A party's folder: made from what all agreed to, genesis last."""

from pathlib import Path

import pytest

from starling.broker.runtime.broker_home import BrokerHome
from starling.coordinator.runtime.founding import party_home
from starling.coordinator.runtime.founding.founding_store import FoundingStore, party_id
from starling.coordinator.runtime.founding.party_home import complete
from starling.coordinator.runtime.home import CoordinatorHome
from starling.protocol.errors import ConfigError, StorageError
from tests.unit.coordinator.runtime.founding.parties import Parties, Unanswered


def agreed(parties: Parties) -> CoordinatorHome:
    """Completes the founding of `north`, `south` with a broker, and `third` at it."""
    words = {"south": ("east", ""), "third": ("", "south")}
    for _ in range(3):
        for name, (broker, at) in words.items():
            try:
                founded = parties.agree(name, broker, at)
            except Unanswered:
                continue
            asked = parties.options(name, broker, at)
            complete(parties.home(name), founded.roster, founded.record, asked)
    home = parties.home("north")
    store = FoundingStore(home.founding)
    roster, record = store.roster(), parties.founder.own_record()
    assert roster is not None
    assert record is not None
    complete(home, roster, record, parties.options("north", broker="west"))
    return home


def test_each_is_at_its_broker_and_reads_at_the_other(three: Parties) -> None:
    agreed(three)

    places = {}
    for name in ("north", "south", "third"):
        home = three.home(name)
        config = home.config().broker
        peers = [path.name for path in home.peers.iterdir()]
        places[name] = (config.port, Path(config.home).name, peers)
        assert home.genesis() == three.home("north").genesis()
        assert home.tls_files().certificate.exists()

    assert places == {
        "north": (18_883, "west", ["127.0.0.1-18884"]),
        "south": (18_884, "east", ["127.0.0.1-18883"]),
        "third": (18_884, "", ["127.0.0.1-18883"]),
    }


def test_brokers_give_each_the_rights_that_it_needs_and_no_more(three: Parties) -> None:
    agreed(three)
    ids = {
        name: party_id(three.home(name).signing_key().public)
        for name in ("north", "south", "third")
    }

    west = BrokerHome(three.path / "west").require_settings()
    east = BrokerHome(three.path / "east").require_settings()

    assert west.coordinators == (ids["north"],)
    assert set(west.peers) == {ids["south"], ids["third"]}
    assert set(east.coordinators) == {ids["south"], ids["third"]}
    assert east.peers == (ids["north"],)


def test_folder_is_private_and_holds_no_token_any_more(three: Parties) -> None:
    home = agreed(three)

    for path in (home.path, home.founding, home.founding / "nonce"):
        assert path.stat().st_mode & 0o077 == 0
    assert not (home.founding / "token").exists()


def test_folder_whose_disk_refuses_at_the_end_has_no_genesis(
    three: Parties, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> None:
        raise StorageError("disk full")

    monkeypatch.setattr(party_home, "write_first_config", refuse)
    with pytest.raises(StorageError):
        agreed(three)
    written = [(three.home(name).path / "genesis") for name in ("south", "third")]
    assert not any(path.exists() for path in written)
    monkeypatch.undo()

    agreed(three)

    assert all(path.exists() for path in written)


def test_broker_that_expelled_a_party_refuses_to_found(three: Parties) -> None:
    home = three.home("third")
    three.entry("third", three.options("third", at="south"))
    BrokerHome(three.path / "west").expel(home.name)

    with pytest.raises(ConfigError, match="was expelled"):
        agreed(three)

    assert not (three.home("north").path / "genesis").exists()

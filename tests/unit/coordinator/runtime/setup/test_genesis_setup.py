"""Identities, the genesis that several share, and what `init --genesis` refuses."""

from dataclasses import replace
from pathlib import Path

import pytest

from starling.broker.broker_settings import BrokerSettings
from starling.broker.runtime.broker_home import BrokerHome
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.setup.genesis_setup import (
    CoordinatorIdentity,
    GenesisOptions,
    assemble_genesis,
    found,
    identify,
    read_identity,
)
from starling.protocol.chain.genesis import GENESIS, FaultModel, Genesis
from starling.protocol.errors import ConfigError


def homes(folder: Path, count: int) -> list[CoordinatorHome]:
    return [CoordinatorHome(folder / f"c{number}") for number in range(count)]


def identities(made: list[CoordinatorHome]) -> list[CoordinatorIdentity]:
    return [identify(home, f"member {at}") for at, home in enumerate(made)]


@pytest.fixture
def broker(tmp_path: Path) -> Path:
    made = BrokerHome(tmp_path / "broker")
    try:
        made.prepare(BrokerSettings("meadow", "127.0.0.1", 18883))
    except ConfigError as error:
        pytest.skip(str(error))
    return made.path


def write(folder: Path, genesis: Genesis) -> Path:
    path = folder / "genesis"
    path.write_bytes(GENESIS.pack(genesis))
    return path


def test_identity_round_trip(tmp_path: Path) -> None:
    made = identify(CoordinatorHome(tmp_path / "c"), "north")
    (tmp_path / "north.json").write_text(made.to_json())
    assert read_identity(tmp_path / "north.json") == made


def test_identity_again_keeps_the_keys(tmp_path: Path) -> None:
    home = CoordinatorHome(tmp_path / "c")
    assert identify(home, "north") == identify(home, "north")


@pytest.mark.parametrize("field", ["public", "sealing", "operator", "tls", "name"])
def test_identity_with_another_field_is_refused(tmp_path: Path, field: str) -> None:
    mine, other = identities(homes(tmp_path, 2))
    changed = replace(mine, **{field: getattr(other, field)})
    (tmp_path / "i.json").write_text(changed.to_json())
    with pytest.raises(ConfigError, match="no coordinator's identity"):
        read_identity(tmp_path / "i.json")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"name": 1}', "\x00", '{"name": "x", "public": "zz"}']
)
def test_identity_of_nonsense_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "i.json").write_text(text)
    with pytest.raises(ConfigError):
        read_identity(tmp_path / "i.json")


@pytest.mark.parametrize("name", ["", "x" * 65])
def test_identity_name_out_of_bounds_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError):
        identify(CoordinatorHome(tmp_path / "c"), name)


def test_genesis_order_of_identities_does_not_matter(tmp_path: Path) -> None:
    known = identities(homes(tmp_path, 4))
    there = assemble_genesis("meadow", known, FaultModel.BYZANTINE, 10)
    back = assemble_genesis("meadow", known[::-1], FaultModel.BYZANTINE, 10)
    assert (there.validators, there.operators) == (back.validators, back.operators)
    assert len(there.operators) == 4


@pytest.mark.parametrize(
    ("count", "model", "repeated"),
    [
        (0, FaultModel.BYZANTINE, 0),
        (1, FaultModel.CRASH, 0),
        (4, FaultModel.CRASH, 0),
        (2, FaultModel.BYZANTINE, 1),
    ],
    ids=["none", "crash-alone", "crash-of-four", "twice"],
)
def test_genesis_that_cannot_be_is_refused(
    tmp_path: Path, count: int, model: FaultModel, repeated: int
) -> None:
    known = identities(homes(tmp_path, count))
    with pytest.raises(ConfigError):
        assemble_genesis("meadow", known + known[:repeated], model, 10)


@pytest.mark.parametrize("count", [2, 3])
def test_genesis_crash_only_is_for_two_or_three(tmp_path: Path, count: int) -> None:
    known = identities(homes(tmp_path, count))
    made = assemble_genesis("meadow", known, FaultModel.CRASH, 10)
    assert made.fault_model == FaultModel.CRASH


def test_found_with_a_shared_genesis_keeps_it(tmp_path: Path, broker: Path) -> None:
    made = homes(tmp_path, 4)
    genesis = assemble_genesis("meadow", identities(made), FaultModel.BYZANTINE, 10)
    path = write(tmp_path, genesis)
    asked = GenesisOptions("meadow", broker, "", 0, 10, path)
    assert {found(home, asked).chain_id() for home in made} == {genesis.chain_id()}
    assert found(made[0], asked) == genesis


def test_found_with_a_genesis_of_others_is_refused(
    tmp_path: Path, broker: Path
) -> None:
    *known, stranger = homes(tmp_path, 3)
    genesis = assemble_genesis("meadow", identities(known), FaultModel.BYZANTINE, 10)
    asked = GenesisOptions("meadow", broker, "", 0, 10, write(tmp_path, genesis))
    with pytest.raises(ConfigError, match="does not name the key"):
        found(stranger, asked)


def test_found_a_folder_of_another_chain_is_refused(
    tmp_path: Path, broker: Path
) -> None:
    (home,) = homes(tmp_path, 1)
    found(home, GenesisOptions("meadow", broker, "", 0, 10))
    genesis = assemble_genesis("meadow", identities([home]), FaultModel.BYZANTINE, 7)
    asked = GenesisOptions("meadow", broker, "", 0, 10, write(tmp_path, genesis))
    with pytest.raises(ConfigError, match="another chain"):
        found(home, asked)

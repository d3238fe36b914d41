"""What a registrar keeps on the disk: across restarts, damaged, and forgotten."""

import json

import pytest

from starling.coordinator.runtime.enrolment.enrolment_store import KEPT_S
from starling.protocol.errors import (
    ConfigError,
    OperationError,
)
from starling.protocol.wire.enrolment_token import letters
from tests.unit.coordinator.runtime.enrolment.registrar_world import (
    NOW_S,
    TOKEN,
    World,
    told,
)


def test_uses_are_counted_across_a_restart(world: World) -> None:
    world.token(uses=2)
    for name in ("anna", "ben"):
        world.pass_on(world.newcomer(name))
    world.begin()

    refused = world.pass_on(world.newcomer("carl"))

    assert refused is not None
    assert [claim.name for claim in world.store.claims()] == ["anna", "ben"]


def test_newcomer_goes_on_with_a_registrar_that_was_started_again(world: World) -> None:
    world.token()
    talk = world.newcomer("anna")
    world.begin()

    world.pass_on(talk)
    world.pass_on(talk)

    assert told(talk, world.handler.process_pending()) is not None


def test_document_that_is_none_is_refused_and_not_stored(world: World) -> None:
    world.token()
    talk = world.newcomer("!")

    with pytest.raises(OperationError, match="no name"):
        world.pass_on(talk)
    assert world.store.claims() == []


def test_tokens_file_holds_no_secret(world: World) -> None:
    world.token()

    kept = "".join(path.read_text() for path in world.store.path.rglob("*.json"))

    assert TOKEN.secret.hex() not in kept
    assert letters(TOKEN.secret) not in kept


def test_damaged_files_are_named(world: World) -> None:
    world.token()
    path = next((world.store.path / "tokens").glob("*.json"))
    path.write_text(json.dumps({"format": 1}))

    with pytest.raises(ConfigError, match=path.name):
        world.store.tokens()


def test_what_expired_long_ago_is_forgotten(world: World) -> None:
    world.token()
    world.pass_on(world.newcomer("anna"))
    world.store.forget_old(NOW_S + 3601)
    assert len(world.store.claims()) == 1

    world.store.forget_old(NOW_S + 3601 + KEPT_S)

    assert (world.store.tokens(), world.store.claims()) == ({}, [])


@pytest.mark.parametrize("content", ["", "[1]"])
def test_damaged_count_of_refusals_is_named(world: World, content: str) -> None:
    (world.store.path / "refused.json").write_text(content)

    with pytest.raises(ConfigError, match="refused"):
        world.store.refused()

"""`starling enrol` and `coordinator enrol`: arguments, lists, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from starling.coordinator.cli.enrolment import main
from starling.coordinator.config import FILE, CoordinatorConfig
from starling.coordinator.enrolment.registrar import TokenRecord
from starling.coordinator.runtime.enrolment.enrolment_store import (
    ClaimState,
    EnrolmentStore,
    StoredClaim,
)
from starling.protocol.crypto.scram import scram_keys
from starling.protocol.errors import EXIT_USAGE, ConfigError, OperationError
from starling.protocol.schema.toml_settings import sample
from starling.protocol.wire.enrolment_messages import EnrolmentKind
from starling.protocol.wire.enrolment_token import letters

IDENTITY = b"token-01"


@pytest.fixture
def store(tmp_path: Path) -> EnrolmentStore:
    """One token for two, and one newcomer who waits."""
    broker = tmp_path / "broker"
    text = sample(CoordinatorConfig, {"broker.home": str(broker)})
    (tmp_path / FILE).write_text(text)
    made = EnrolmentStore(broker)
    keys = scram_keys(bytes(20))
    made.add_token(TokenRecord(IDENTITY, EnrolmentKind.BOARD, keys, 2, 1 << 32, True))
    made.put_claim(
        StoredClaim(
            letters(IDENTITY),
            EnrolmentKind.BOARD,
            "anna",
            "{}",
            "ABCD-EFGH",
            "00",
            ClaimState.PENDING,
            "",
            1,
        )
    )
    return made


@pytest.mark.parametrize(
    "words",
    [
        ["--for", "1"],
        ["--for", "0s"],
        ["--for", "31d"],
        ["--for", "1h1m"],
        ["--uses", "0"],
        ["--uses", "10001"],
    ],
    ids=" ".join,
)
def test_token_of_another_form_is_a_mistake_of_usage(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["token", "--home", "x", *words])

    assert ended.value.code == EXIT_USAGE


def test_tokens_are_listed_with_their_uses(
    store: EnrolmentStore, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["tokens", "--home", str(store.path.parents[1]), "--json"])

    [row] = json.loads(capsys.readouterr().out)["tokens"]
    assert (row["id"], row["used"], row["uses"]) == (letters(IDENTITY), 1, 2)


def test_revoked_token_is_gone_and_who_waited_is_rejected(
    store: EnrolmentStore, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["revoke", letters(IDENTITY), "--home", str(store.path.parents[1])])

    assert "1 rejected" in capsys.readouterr().out
    assert store.tokens() == {}
    assert store.decisions() == {f"{letters(IDENTITY)}-anna": False}


@pytest.mark.parametrize("name", ["nobody", "../tokens/x", ""])
def test_token_that_is_unknown_is_not_revoked(store: EnrolmentStore, name: str) -> None:
    with pytest.raises(OperationError, match="no token"):
        main(["revoke", name, "--home", str(store.path.parents[1])])


def test_home_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STARLING_HOME", raising=False)

    with pytest.raises(ConfigError, match="--home"):
        main(["tokens"])


def test_revoked_token_stops_who_is_accepted_and_not_admitted_yet(
    store: EnrolmentStore,
) -> None:
    [claim] = store.claims()
    store.put_claim(replace(claim, state=ClaimState.ACCEPTED))

    main(["revoke", letters(IDENTITY), "--home", str(store.path.parents[1])])

    assert store.decisions() == {claim.stem: False}

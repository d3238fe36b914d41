"""What an agent shows of the privacy that it pays, and of its trainer's sandbox."""

import time
from dataclasses import replace
from datetime import datetime

import pytest

from starling.agent.runtime.status_file import (
    RuntimeFacts,
    describe,
    sandbox_facts,
    sandbox_warnings,
)
from starling.agent.runtime.status_reader import readable
from starling.agent.step.ongoing_work import BlobDownload, OngoingUpload
from starling.agent.training.trainer_messages import ConfinementReport, DataFacts
from starling.protocol.ids import H, Version
from starling.protocol.privacy.mechanisms import DEVICE_GAUSSIAN, NONE, RECORD_GAUSSIAN
from starling.protocol.wire.chunks import CHUNK_BYTES, ChunkAssembly, split
from tests.unit.agent.agent_harness import (
    BoardHarness,
    connected,
    fresh,
    until_spooled,
    until_training,
)

AROUND = RuntimeFacts("", "", "", {}, 0, 0, "", "")


@pytest.mark.parametrize(
    ("pledge", "records", "duplicates", "said"),
    [
        (0, 16, 0, ["set data.pledge"]),
        (32, 16, 0, []),
        (32, 64, 0, []),
        (32, 15, 0, ["fewer than half"]),
        (32, 65, 0, ["more than twice"]),
        (32, 40, 3, ["3 records stand there more than once"]),
    ],
    ids=["no pledge", "half", "twice", "too few", "too many", "duplicates"],
)
def test_owner_is_told_what_could_be_better(
    pledge: int, records: int, duplicates: int, said: list[str]
) -> None:
    board = connected(fresh(pledge=pledge))
    facts = DataFacts(records, 2, duplicates, ("a.csv: row 3: not 3 numbers",))

    shown = describe(board.settings, board.state, replace(AROUND, found=facts), 0.0)

    assert (shown["examples"], shown["examples_unusable"]) == (records, 2)
    assert shown["complaints"] == ["a.csv: row 3: not 3 numbers"]
    assert len(shown["advice"]) == len(said)
    for text, part in zip(shown["advice"], said, strict=True):
        assert part in text
    assert "a.csv: row 3" in readable(shown)


def test_data_that_teach_nothing_ask_for_somebody_whatever_the_board_does() -> None:
    board = until_spooled(connected(fresh()))
    lost = replace(AROUND, data_fault="no data: data: cannot be read")

    shown = describe(board.settings, board.state, lost, board.now_s)
    well = describe(board.settings, board.state, AROUND, board.now_s)

    assert shown["condition"] == well["condition"]
    assert (well["fault"], well["next_action"]) == ("", "")
    assert shown["fault"] == "no data: data: cannot be read"
    assert shown["next_action"].startswith("mend the data")


def test_board_that_rests_says_why_and_until_when() -> None:
    board = until_training(connected(fresh()))
    rests = replace(board.state, training=None, rest_until_s=3600.0)
    failed = replace(rests, failures=2)

    paced = describe(board.settings, rests, AROUND, 0.0)
    resting = describe(board.settings, failed, AROUND, 0.0)
    at_work = describe(board.settings, board.state, AROUND, 0.0)

    assert paced["condition"] == "rests between two updates"
    assert paced["why"] == "pace.between_s = 0"
    assert resting["why"] == "2 tries in a row failed"
    left_s = datetime.fromisoformat(paced["until"]).timestamp() - time.time()
    assert 3500.0 < left_s < 3601.0
    assert (at_work["why"], at_work["until"]) == (None, None)
    assert f"until              {paced['until']}" in readable(paced)


@pytest.mark.parametrize(
    ("between_s", "why"),
    [
        (1.0, "the task's 5 updates are spread over pace.period_days = 10"),
        (864_000.0, "pace.between_s = 864000"),
    ],
)
def test_pace_that_counts_is_named(between_s: float, why: str) -> None:
    board = until_training(connected(fresh()))
    assert board.state.offer is not None
    offer = board.state.offer
    privacy = replace(offer.spec.privacy, releases=5)
    offer = replace(offer, spec=replace(offer.spec, privacy=privacy))
    pace = replace(board.settings.pace, between_s=between_s, period_s=864_000.0)
    settings = replace(board.settings, pace=pace)
    rests = replace(board.state, offer=offer, training=None, rest_until_s=3600.0)

    assert describe(settings, rests, AROUND, 0.0)["why"] == why


@pytest.mark.parametrize("trusts", [False, True])
def test_trust_in_the_bundle_is_shown_beside_epsilon(trusts: bool) -> None:
    board = until_spooled(connected(fresh(trust_bundle=trusts)))

    shown = describe(board.settings, board.state, AROUND, 0.0)

    assert shown["privacy"]["trusts_bundle"] is trusts
    assert f"trusts_bundle {trusts}" in readable(shown)


def unit(board: BoardHarness) -> object:
    return describe(board.settings, board.state, AROUND, 0.0)["privacy"]["unit"]


def paid_by(board: BoardHarness, mechanism: int, *others: int) -> BoardHarness:
    """The board as if it had paid for other mechanisms."""
    ledger, offer = board.state.ledger, board.state.offer
    assert offer is not None
    (charge,) = ledger.charges.values()
    charges = {
        (charge.chain, charge.task, Version(number)): replace(charge, mechanism=each)
        for number, each in enumerate(others)
    }
    privacy = replace(offer.spec.privacy, mechanism=mechanism)
    spec = replace(offer.spec, privacy=privacy)
    board.state = replace(
        board.state,
        ledger=replace(ledger, charges=charges),
        offer=replace(offer, spec=spec),
    )
    return board


@pytest.mark.parametrize(
    ("mechanisms", "expected"),
    [
        ((RECORD_GAUSSIAN, RECORD_GAUSSIAN), "record"),
        ((DEVICE_GAUSSIAN, DEVICE_GAUSSIAN), "device"),
        ((DEVICE_GAUSSIAN, RECORD_GAUSSIAN), "record"),
        ((RECORD_GAUSSIAN, NONE), None),
    ],
    ids=["record", "device", "both", "none"],
)
def test_unit_is_the_weakest_that_was_paid_for(
    mechanisms: tuple[int, ...], expected: str | None
) -> None:
    board = until_spooled(connected(fresh()))

    assert unit(paid_by(board, *mechanisms)) == expected


@pytest.mark.parametrize(
    ("found", "shown", "warned"),
    [
        (None, None, 0),
        (ConfinementReport(7, 1), {"landlock": "ABI 7", "seccomp": "yes"}, 0),
        (ConfinementReport(0, 1), {"landlock": "absent", "seccomp": "yes"}, 1),
        (ConfinementReport(0, 0), {"landlock": "absent", "seccomp": "no"}, 2),
    ],
)
def test_sandbox_says_what_holds_and_warns_of_the_rest(
    found: ConfinementReport | None, shown: dict[str, str] | None, warned: int
) -> None:
    assert sandbox_facts(found) == shown
    assert len(sandbox_warnings(found)) == warned


def test_readable_status_shows_the_sandbox_in_one_line() -> None:
    shown = readable({"sandbox": sandbox_facts(ConfinementReport(7, 1))})

    assert shown == "sandbox            landlock ABI 7, seccomp yes\n"


def test_upload_on_its_way_shows_how_much_the_broker_has() -> None:
    board = until_spooled(connected(fresh()))
    (item,) = board.state.waiting
    item = replace(item, entry=replace(item.entry, size=4 * CHUNK_BYTES + 1))
    sending = OngoingUpload(item.entry.update, 4, frozenset({3}), None, 0)
    state = replace(board.state, waiting=(item,), sending=sending)

    shown = describe(board.settings, state, AROUND, 0.0)

    assert shown["spool"][0]["sent"] == 3 * CHUNK_BYTES
    assert "1 waiting, 192 of 256 KiB sent" in readable(shown)
    assert "sent" not in readable({"spool": [{"bytes": 1, "accepted": False}]})


def test_model_on_its_way_shows_how_much_has_come() -> None:
    board = connected(fresh())
    whole = bytes(2 * CHUNK_BYTES + 5)
    come = ChunkAssembly.begin(H(whole), len(whole), len(whole)).add(split(whole)[2])
    fetch = BlobDownload(come, frozenset(), 0.0, 0)

    shown = describe(board.settings, replace(board.state, fetch=fetch), AROUND, 0.0)

    assert shown["fetch"] == {"bytes": len(whole), "got": CHUNK_BYTES}
    state = replace(board.state, fetch=None)
    assert describe(board.settings, state, AROUND, 0.0)["fetch"] is None

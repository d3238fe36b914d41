"""What an agent shows of the privacy that it pays, and of its trainer's sandbox."""

from dataclasses import replace

import pytest

from agent.orders import Confinement
from agent.rim.status import (
    Surroundings,
    describe,
    readable,
    sandbox_facts,
    sandbox_warnings,
)
from protocol.ids import Version
from protocol.mechanisms import DEVICE_GAUSSIAN, NONE, RECORD_GAUSSIAN
from tests.unit.agent.lone_board import Board, connected, fresh, until_spooled

AROUND = Surroundings("", "", "", {}, 0, 0, "", "")


def unit(board: Board) -> object:
    return describe(board.settings, board.state, AROUND, 0.0)["privacy"]["unit"]


def paid_by(board: Board, mechanism: int, *others: int) -> Board:
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
        (Confinement(7, 1), {"landlock": "ABI 7", "seccomp": "yes"}, 0),
        (Confinement(0, 1), {"landlock": "absent", "seccomp": "yes"}, 1),
        (Confinement(0, 0), {"landlock": "absent", "seccomp": "no"}, 2),
    ],
)
def test_sandbox_says_what_holds_and_warns_of_the_rest(
    found: Confinement | None, shown: dict[str, str] | None, warned: int
) -> None:
    assert sandbox_facts(found) == shown
    assert len(sandbox_warnings(found)) == warned


def test_readable_status_shows_the_sandbox_in_one_line() -> None:
    shown = readable({"sandbox": sandbox_facts(Confinement(7, 1))})

    assert shown == "sandbox            landlock ABI 7, seccomp yes\n"

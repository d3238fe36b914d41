"""What a board says before it follows other validators."""

from dataclasses import replace

from starling.agent.runtime.status_file import RuntimeFacts, describe
from starling.agent.step import effects as f
from starling.agent.step import events as e
from starling.agent.step.state import FollowedTransitions
from starling.protocol.chain.genesis import Validator, ValidatorSet
from starling.protocol.chain.light_client import (
    MANIFEST,
    ModelManifest,
    ValidatorSetTransition,
)
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.ids import SealingKey
from tests.unit.agent.agent_harness import BoardHarness, fresh, names
from tests.unit.agent.fake_coordinator import COORDINATOR, VALIDATORS, certify, manifest

SECOND, THIRD = (SigningKey(bytes([number]) * 32) for number in (8, 9))


def only(key: SigningKey, name: str) -> ValidatorSet:
    return ValidatorSet((Validator(key.public, SealingKey(bytes(32)), name),))


SETS = (VALIDATORS, only(SECOND, "second"), only(THIRD, "third"))


def led_by(changes: int, version: int = 3) -> bytes:
    """A manifest of the last set's, with the changes that lead to it."""
    keys = (COORDINATOR, SECOND, THIRD)
    shown = MANIFEST.unpack(manifest(version))
    ends = []
    for number in range(changes):
        header = replace(
            shown.header,
            height=1 + number,
            validators=SETS[number].digest(),
            next_validators=SETS[number + 1].digest(),
        )
        certificate = certify(header, keys[number])
        ends.append(ValidatorSetTransition(header, certificate, SETS[number + 1]))
    last = SETS[changes].digest()
    header = replace(shown.header, height=4, validators=last, next_validators=last)
    certificate = certify(header, keys[changes])
    made: ModelManifest = replace(
        shown, header=header, certificate=certificate, handovers=tuple(ends)
    )
    return MANIFEST.pack(made)


def hears(board: BoardHarness, payload: bytes) -> tuple[f.Effect, ...]:
    board.step(e.BrokerConnected())
    return tuple(board.step(e.ManifestArrived(payload)))


def notes(effects: tuple[f.Effect, ...]) -> list[f.Note]:
    return [one for one in effects if isinstance(one, f.Note) and "follows" in one.text]


def test_board_that_follows_several_changes_warns_before_it_believes() -> None:
    board = fresh()
    effects = hears(board, led_by(2))
    (note,) = notes(effects)
    assert note.warns
    order = names(effects)
    assert order.index("Note") < order.index("PersistTrust")
    for part in ("from height 0", "to height 4", SETS[2].digest()[:8].hex(), "third"):
        assert part in note.text
    digests = SETS[0].digest(), SETS[2].digest()
    assert board.state.led == FollowedTransitions(0, digests[0], 4, digests[1], 2)
    around = RuntimeFacts("", "", "", {}, 0, 0, "", "")
    shown = describe(board.settings, board.state, around, 0.0)["followed"]
    assert shown["changes"] == 2
    assert (shown["from height"], shown["to height"]) == (0, 4)


def test_one_change_is_said_and_is_no_warning() -> None:
    board = fresh()
    (note,) = notes(hears(board, led_by(1)))
    assert not note.warns
    assert board.state.led is not None
    assert board.state.led.changes == 1


def test_board_whose_validators_stay_says_nothing() -> None:
    board = fresh()
    assert notes(hears(board, manifest(0))) == []
    assert board.state.led is None


def test_changes_that_are_known_are_not_counted_again() -> None:
    board = fresh()
    hears(board, led_by(2))
    assert notes(hears(board, led_by(2))) == []


def test_change_that_comes_with_a_known_version_is_said_too() -> None:
    board = fresh()
    hears(board, manifest(3))
    # The header that ended the set lies behind what is trusted by now.
    assert notes(hears(board, led_by(1))) == []
    later = MANIFEST.unpack(manifest(3))
    header = replace(later.header, height=9_000, next_validators=SETS[1].digest())
    end = ValidatorSetTransition(header, certify(header), SETS[1])
    (note,) = notes(hears(board, MANIFEST.pack(replace(later, handovers=(end,)))))
    assert "to height 9000" in note.text
    assert not note.warns

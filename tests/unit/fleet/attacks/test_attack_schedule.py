"""A timeline says which boards attack, how and for which versions."""

import pytest

from starling.fleet.attacks.attack_schedule import (
    AttackKind,
    BoardAttack,
    attack_of,
    board_attacks,
)
from starling.fleet.faults.fault_timeline import timeline
from starling.protocol.errors import ConfigError


@pytest.mark.parametrize("kind", AttackKind)
def test_board_attacks_reads_every_kind_and_writes_it_again(kind: AttackKind) -> None:
    (read,) = board_attacks(f"boards 1-20 {kind.value} from version 3", 20)
    assert (read.first, read.last, read.kind, read.from_version) == (1, 20, kind, 3)
    assert board_attacks(read.text, 20) == (read,)


@pytest.mark.parametrize("kind", AttackKind)
def test_attack_of_one_board_is_written_as_of_one(kind: AttackKind) -> None:
    (read,) = board_attacks(f"boards 3-3 {kind.value} from version 3", 20)
    assert read.text.startswith(f"board 3 {kind.value.split()[0]}")
    assert board_attacks(read.text, 20) == (read,)


def test_attack_of_one_board_has_its_verb() -> None:
    read = board_attacks(
        "board 1 reaches the bound from version 0; board 2 flips signs 4 from version 1"
        " to 9; board 3 mimics from version 2",
        3,
    )
    assert [each.text for each in read] == [
        "board 1 reaches the bound from version 0",
        "board 2 flips signs 4 from version 1 to version 9",
        "board 3 mimics from version 2",
    ]


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (
            "board 7 flips signs 4 from version 0 to version 9",
            BoardAttack(7, 7, AttackKind.FLIP_SIGNS, 4.0, 0, 9),
        ),
        (
            "boards 2 - 3  use alie 0.25 from version 1 to 2",
            BoardAttack(2, 3, AttackKind.LITTLE, 0.25, 1, 2),
        ),
        (
            "boards 1-2 use ipm from version 0",
            BoardAttack(1, 2, AttackKind.INNER_PRODUCT, 0.5, 0, None),
        ),
    ],
)
def test_board_attacks_reads_numbers_and_spans(text: str, read: BoardAttack) -> None:
    assert board_attacks(text, 10) == (read,)


def test_board_attacks_and_coordinators_faults_stand_in_one_timeline() -> None:
    text = "coordinator 1 lies from 5s; boards 1-2 mimic from version 0"
    assert len(board_attacks(text, 3)) == 1
    assert len(timeline(text, 1)) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("boards 1-9 mimic from version 0", "no board 9, they are 1 to 8"),
        ("board 0 mimics from version 0", "no board 0"),
        ("boards 5-2 mimic from version 0", "board 2 comes before board 5"),
        ("boards 1-2 mimic from version 4 to 4", "ends before it begins"),
        ("boards 1-2 mimic", "boards A-B ATTACK from version V"),
        ("boards 1-2 sing from version 0", "with ATTACK one of: flip signs"),
        ("boards 1-2 mimic 3 from version 0", "with ATTACK one of"),
        ("boards 1-2 flip signs 99999 from version 0", "at most 10000"),
        ("boards 1-2 plant a backdoor 1.5 from version 0", "is a class"),
        (
            "boards 1-4 mimic from version 0; boards 4-8 ride free from version 9",
            "in two ways at once",
        ),
    ],
)
def test_board_attacks_wrong_entry_is_explained(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        board_attacks(text, 8)


def test_attack_of_holds_from_its_first_to_before_its_last_version() -> None:
    text = "boards 2-3 mimic from version 1 to 3; boards 2-3 ride free from version 3"
    attacks = board_attacks(text, 4)
    kinds = [
        [attack.kind if attack else None for attack in row]
        for row in (
            [attack_of(attacks, board, version) for version in range(4)]
            for board in (1, 2, 3, 4)
        )
    ]
    told = [None, AttackKind.MIMIC, AttackKind.MIMIC, AttackKind.RIDE_FREE]
    assert kinds == [[None] * 4, told, told, [None] * 4]

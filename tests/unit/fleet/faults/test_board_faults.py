"""Faults of boards and links in a timeline: read, or refused with what is wrong."""

import pytest

from starling.fleet.attacks.attack_schedule import board_attacks
from starling.fleet.faults.board_faults import (
    BoardFault,
    BoardFaultKind,
    board_faults,
    dropped_share,
    is_away,
)
from starling.fleet.faults.fault_timeline import lasts_s, timeline, transitions
from starling.protocol.errors import ConfigError

POWER, LEAVE, PAUSE, DROP, DELAY, CARRY = BoardFaultKind


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("board 3 loses power at 10s", BoardFault(10.0, POWER, (3,), who="board 3")),
        (
            "boards 2-4 lose power at 1.5 s",
            BoardFault(1.5, POWER, (2, 3, 4), who="boards 2-4"),
        ),
        (
            "boards 20 % leave from 10s to 30s",
            BoardFault(10.0, LEAVE, (1, 6), 30.0, who="20 % of the boards"),
        ),
        ("board 7 leaves from 2s", BoardFault(2.0, LEAVE, (7,), who="board 7")),
        (
            "boards 2-3 pause from 2s to 9s",
            BoardFault(2.0, PAUSE, (2, 3), 9.0, who="boards 2-3"),
        ),
        (
            "link of board 5 drops 30 %",
            BoardFault(0.0, DROP, (5,), None, 0.3, "board 5"),
        ),
        (
            "links of boards 1-2 drop 5% from 3s to 4s",
            BoardFault(3.0, DROP, (1, 2), 4.0, 0.05, "boards 1-2"),
        ),
        (
            "links of boards 25% drop 100 % from 3s",
            BoardFault(3.0, DROP, (1, 4, 7), None, 1.0, "25 % of the boards"),
        ),
        (
            "link of board 5 delays 250ms from 1s",
            BoardFault(1.0, DELAY, (5,), None, 0.25, "board 5"),
        ),
        (
            "links of boards 1-2 carry 64 kbit/s from 3s to 4s",
            BoardFault(3.0, CARRY, (1, 2), 4.0, 64_000.0, "boards 1-2"),
        ),
    ],
)
def test_board_faults_reads_every_form(text: str, fault: BoardFault) -> None:
    assert board_faults(text, 10) == (fault,)


@pytest.mark.parametrize("boards", [1, 3, 10, 997])
def test_share_of_the_boards_is_rounded_up_and_names_each_once(boards: int) -> None:
    for percent in (1, 20, 50, 99, 100):
        (fault,) = board_faults(f"boards {percent} % leave from 1s", boards)
        assert len(set(fault.boards)) == -(-percent * boards // 100)
        assert 1 <= fault.boards[0] <= fault.boards[-1] <= boards


def test_each_reader_of_a_timeline_takes_its_own_entries() -> None:
    text = (
        "kill coordinator 1 at 1s; board 1 loses power at 2s; link of board 2 drops "
        "30 %; boards 1-2 flip signs from version 3"
    )

    assert len(timeline(text, 1)) == 1
    assert len(board_faults(text, 2)) == 2
    assert len(board_attacks(text, 2)) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("board 11 loses power at 1s", "no board 11, they are 1 to 10"),
        ("board 0 leaves from 1s", "no board 0"),
        ("boards 4-2 leave from 1s", "board 2 comes before board 4"),
        ("boards 0 % leave from 1s", "1 to 100 % of the boards"),
        ("boards 101 % leave from 1s", "1 to 100 % of the boards"),
        ("board 1 loses power", "expected 'board N loses power at Ts'"),
        ("board 1 loses power from 1s to 2s", "expected 'board N loses power at Ts'"),
        ("board 1 leaves at 3s", r"expected 'boards P % leave from Ts \[to Ts\]'"),
        ("board 1 leaves from 3s to 3s", "ends before it begins"),
        ("board 1 pauses at 3s", r"expected 'boards A-B pause from Ts \[to Ts\]'"),
        ("link of board 1 drops 0 %", "a link drops 1 to 100 %"),
        ("link of board 1 drops 101 %", "a link drops 1 to 100 %"),
        ("link of board 1 delays 0 ms", "a link is 1 to 60000 ms late"),
        ("link of board 1 delays 60001 ms", "a link is 1 to 60000 ms late"),
        ("link of board 1 delays 3 s", "expected 'link of board N delays Dms"),
        ("link of board 1 carries 0 kbit/s", "'drops 100 %' cuts it"),
        ("link of board 1 carries 3 kB", "expected 'link of board N carries K kbit/s"),
        ("link of board 1 drops", "expected 'link of board N drops P %"),
        ("link of coordinator 1 drops 3 %", "expected 'link of board N drops P %"),
        ("link of board 1 is cut", "expected 'link of board N drops P %"),
    ],
)
def test_board_faults_of_something_else_are_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match="--fault") as refused:
        board_faults(text, 10)
    assert refused.match(said)


def test_faults_at_once_add_up_and_end_one_by_one() -> None:
    faults = board_faults(
        "board 1 leaves from 1s to 5s; board 1 leaves from 3s to 9s; "
        "link of board 2 drops 10 % from 1s to 5s; link of board 2 drops 40 % from 2s "
        "to 3s; board 3 loses power at 12s",
        3,
    )

    assert [is_away(faults, 1, at_s) for at_s in (0.9, 1.0, 5.0, 9.0)] == [
        False,
        True,
        True,
        False,
    ]
    shares = [dropped_share(faults, 2, at_s) for at_s in (0.5, 1.0, 2.0, 3.0, 5.0)]
    assert shares == [0.0, 0.1, 0.4, 0.1, 0.0]
    assert not is_away(faults, 3, 12.0)
    assert lasts_s(faults) == 12.0
    ends = [each.at_s for each in transitions(faults) if not each.begins]
    assert ends == [3.0, 5.0, 5.0, 9.0]


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("boards 2-2 leave from 1s", "board 2 leaves"),
        ("boards 20 % leave from 1s", "board 1 leaves"),
        ("boards 40 % leave from 1s", "40 % of the boards leave"),
        ("boards 1-2 leave from 1s", "boards 1-2 leave"),
        ("boards 5-5 lose power at 1s", "board 5 lost power"),
        ("links of boards 3 - 3 drop 5 %", "the link of board 3 drops 5%"),
    ],
)
def test_one_board_is_named_as_one(entry: str, said: str) -> None:
    (fault,) = board_faults(entry, 5)
    assert fault.text == said

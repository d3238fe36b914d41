"""The two ledgers stand apart in a status, and each says its unit."""

from starling.agent.runtime.privacy_status import label_account, privacy_facts
from starling.agent.training.trainer_messages import LabelFacts
from starling.protocol.learning.task import MICRO
from tests.unit.agent.agent_harness import Disk, connected, fresh
from tests.unit.agent.fake_coordinator import CAP
from tests.unit.agent.round.test_label_draws import life, meadow


def test_board_of_drawn_labels_shows_their_account_and_no_epsilon_of_records() -> None:
    board = life(Disk(), None, meadow())
    found = LabelFacts(38, 0, 2, 1, 4 * MICRO)

    account = label_account(board.settings, board.state, found)
    releases = privacy_facts(board.settings, board.state)

    assert account == {
        "unit": "label, drawn once; inputs are public",
        "epsilon": 2.0,
        "epsilon_cap": 6.0,
        "epsilon_most": 4.0,
        "answers": 38,
        "outdated": 2,
        "left_out": 1,
        "forgotten_draws": 0,
    }
    assert (releases["unit"], releases["epsilon"]) == (None, 0.0)
    assert releases["epsilon_cap"] == CAP.epsilon
    assert releases["releases"] > 0
    assert releases["releases_left"] is None


def test_board_whose_owner_allows_none_shows_no_account_of_labels() -> None:
    board = connected(fresh())

    assert label_account(board.settings, board.state, None) is None
    assert privacy_facts(board.settings, board.state)["unit"] == "record"


def test_board_whose_owner_allows_draws_says_so_before_any_task_asks() -> None:
    board = connected(fresh(labels_micro=3 * MICRO))

    account = label_account(board.settings, board.state, None)

    assert account is not None
    assert account["epsilon_cap"] == 3.0
    assert account["epsilon"] is None
    assert account["epsilon_most"] is None

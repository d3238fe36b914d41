"""A fleet of processes that learns from somebody's own tables."""

import json
from pathlib import Path

import pytest

from starling.agent.privacy.label_entries import BATCH
from starling.agent.runtime.storage.agent_home import AgentHome
from starling.durable.journal import Journal
from starling.protocol.errors import EXIT_CONFIG, EXIT_DONE
from tests.e2e.fleet.fleet_process import run
from tests.e2e.required_mosquitto import require_mosquitto

pytestmark = pytest.mark.e2e


@pytest.fixture(autouse=True)
def _broker_program() -> None:
    require_mosquitto()


def write_boards(folder: Path) -> None:
    for number, name in enumerate(("north", "south", "west")):
        rows = []
        for at in range(80):
            age, city = (at * 7 + number) % 60, "Bern" if at % 3 else "Köln"
            buys = "yes" if age > 30 else "no"
            rows.append(f"{age},{city},{buys}")
        text = "age,city,buys\n" + "\n".join(rows) + "\n"
        (folder / f"{name}.csv").write_text(text, "utf-8")


def test_fleet_run_own_tables_learns_their_labels(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write_boards(tmp_path / "data")
    words = ["--data", str(tmp_path / "data"), "--target", "buys", "--buffer", "2"]
    words += ["--categories", "one-hot", "--bounds", "age=0:60", "--privacy", "none"]
    words += ["--until-version", "4", "--baseline", "--home", str(tmp_path / "home")]

    done = run(*words, "--json")

    assert done.returncode == EXIT_DONE, done.stderr
    document = json.loads(done.stdout)
    assert document["config"]["devices"] == 3
    assert document["config"]["split"] == "natural"
    assert document["versions"][-1]["accuracy"] > 0.7
    assert document["baseline"]["metric"] == "accuracy"
    manifest = json.loads((tmp_path / "home" / "bundle" / "manifest.json").read_text())
    assert manifest["classes"] == ["no", "yes"]
    assert manifest["table"]["columns"][1]["categories"] == ["Bern", "Köln"]


def test_fleet_run_draws_labels_once_on_each_board_and_says_what_that_hides(
    tmp_path: Path,
) -> None:
    (tmp_path / "data").mkdir()
    write_boards(tmp_path / "data")
    words = ["--data", str(tmp_path / "data"), "--target", "buys", "--buffer", "2"]
    words += ["--categories", "one-hot", "--bounds", "age=0:60", "--privacy", "labels"]
    words += [
        "--epsilon",
        "3",
        "--until-version",
        "6",
        "--home",
        str(tmp_path / "home"),
    ]

    done = run(*words, "--json")

    assert done.returncode == EXIT_DONE, done.stderr
    document = json.loads(done.stdout)
    assert document["versions"][-1]["accuracy"] > 0.7
    assert document["privacy"]["unit"] == "one label"
    assert document["privacy"]["delta"] == 0.0
    assert document["chain"]["verified"] is True
    boards = sorted((tmp_path / "home" / "boards").iterdir())
    assert len(boards) == 3
    for board in boards:
        home = AgentHome(board)
        journal, payloads = Journal.open(home.labels_file)
        journal.close()
        drawn = [len(BATCH.unpack(payload).drawn()) for payload in payloads]
        # A fifth was held out; whatever came after the first training drew nothing.
        assert drawn[0] > 0
        assert not any(drawn[1:])
        status = json.loads(home.status_file.read_text())
        assert status["labels"]["epsilon_most"] == 3.0
        assert status["labels"]["answers"] == drawn[0]
        assert status["privacy"]["epsilon"] == 0.0


def test_fleet_run_bad_table_is_refused_in_one_line_before_anything_starts(
    tmp_path: Path,
) -> None:
    (tmp_path / "data").mkdir()
    write_boards(tmp_path / "data")
    with (tmp_path / "data" / "west.csv").open("a") as file:
        file.write("12,Bern,\n")
    words = ["--data", str(tmp_path / "data"), "--categories", "one-hot"]

    done = run(*words, "--home", str(tmp_path / "home"))

    assert done.returncode == EXIT_CONFIG
    (line,) = done.stderr.splitlines()
    assert "west.csv: row 82, column 'buys': the target has no value" in line
    assert not (tmp_path / "home").exists()

"""Arguments of a founding: what they refuse, and what a party is called."""

import json
import re
import shlex
from pathlib import Path

import pytest

from starling import __main__ as starling
from starling.broker import cli as broker_cli
from starling.broker.runtime.broker_home import BrokerHome
from starling.broker.runtime.mosquitto_process import free_port
from starling.coordinator.cli import coordinator_command
from starling.coordinator.runtime.enrolment import founding_host
from starling.coordinator.runtime.enrolment.enrolment_store import EnrolmentStore
from starling.coordinator.runtime.founding.founder import Founder
from starling.coordinator.runtime.founding.founding_store import FoundingStore
from starling.coordinator.runtime.founding.party import agree
from starling.coordinator.runtime.founding.party_home import PartyOptions
from starling.coordinator.runtime.home import CoordinatorHome
from starling.protocol.chain.founding import founding_code
from starling.protocol.errors import EXIT_CONFIG, EXIT_DONE, EXIT_FAILED, EXIT_USAGE
from starling.protocol.wire.enrolment_messages import EnrolmentKind
from starling.protocol.wire.enrolment_token import token_from_line
from tests.e2e.required_mosquitto import require_mosquitto

TOKEN = f"starling-founding://127.0.0.1:1/meadow/{'a' * 52}/{'a' * 13}-{'a' * 32}"


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """The founder's command, at a broker that does not run."""
    require_mosquitto()
    broker = tmp_path / "broker"
    ports = ("--port", str(free_port()), "--enrol-port", str(free_port()))
    place = ("--home", str(broker), "--bind", "127.0.0.1", "--fleet", "meadow")
    assert starling.main(["broker", "init", *place, *ports]) == 0
    home = ("--home", str(tmp_path / "home"), "--fleet", "meadow", "--wait", "0")
    return ["coordinator", "init", *home, "--broker", str(broker)]


def store(tmp_path: Path) -> FoundingStore:
    return FoundingStore(tmp_path / "home" / "founding")


def test_founder_that_waits_for_nobody_has_a_token_and_says_how_to_go_on(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    status = starling.main([*words, "--parties", "3", "--name", "north"])
    first = capsys.readouterr()
    starling.main([*words, "--parties", "3", "--name", "north"])
    second = capsys.readouterr()

    assert status == EXIT_FAILED
    token = token_from_line(first.out)
    assert token.founding
    assert second.out == first.out
    assert "1 of 3 parties are in: north" in first.err
    assert "run this again to go on" in first.err
    assert "run: starling broker run" in first.err
    records = EnrolmentStore(tmp_path / "broker").tokens()
    record = records[token.identity]
    assert (record.kind, record.uses) == (EnrolmentKind.PARTY, 2)
    assert not (tmp_path / "home" / "genesis").exists()


def test_founder_that_begins_anew_makes_the_first_token_good_for_nothing(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    starling.main([*words, "--parties", "3"])
    first = token_from_line(capsys.readouterr().out)
    commitment = store(tmp_path).own()

    starling.main([*words, "--parties", "4", "--anew"])

    second = token_from_line(capsys.readouterr().out)
    assert list(EnrolmentStore(tmp_path / "broker").tokens()) == [second.identity]
    assert first.identity != second.identity
    assert store(tmp_path).own() != commitment


def test_founder_whose_founding_is_complete_makes_a_token_for_who_missed_it(
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(founding_host, "LINGER_S", 0.0)
    founding = [*words, "--parties", "2", "--name", "north"]
    starling.main(founding)
    home, south = CoordinatorHome(tmp_path / "home"), CoordinatorHome(tmp_path / "s")
    parties = FoundingStore(south.founding)
    parties.begin().release()
    founded = agree(
        south,
        parties,
        PartyOptions("meadow", "south"),
        lambda said: Founder(home).answer(said) or b"",
        print,
    )
    capsys.readouterr()
    assert starling.main(founding) == EXIT_DONE
    first = capsys.readouterr()
    assert starling.main([*founding, "--anew"]) == EXIT_DONE
    second = capsys.readouterr()

    code = founding_code(founded.record)
    assert f"code {code}: " in first.out
    assert "starling-founding://" not in first.out
    token = token_from_line(second.out.splitlines()[0])
    assert token.identity in EnrolmentStore(tmp_path / "broker").tokens()
    assert f"code {code}: " in second.out


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["--parties", "4"], "a founding of 3 with other terms"),
        (["--parties", "3", "--heartbeat", "3"], "other terms"),
        (["--parties", "3", "--genesis", "g"], "is not for those who found"),
        (["--parties", "3", "--join"], "is not for those who found"),
        (["--parties", "3", "--at", "x"], "at its own"),
        ([], "run the same `starling coordinator init` again"),
    ],
    ids=["parties", "heartbeat", "genesis", "join", "at", "alone"],
)
def test_other_words_than_the_first_are_refused(
    words: list[str], capsys: pytest.CaptureFixture[str], more: list[str], text: str
) -> None:
    starling.main([*words, "--parties", "3"])
    capsys.readouterr()

    assert starling.main([*words, *more]) == EXIT_CONFIG
    assert text in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["--parties", "4", "--fault-model", "crash"], "2 or 3 parties"),
        (["--parties", "4", "--operator-grant", "5"], "--supply"),
        (["--parties", "4", "--name", "x" * 65], "name: 1 to 64"),
    ],
    ids=["crash", "credits", "name"],
)
def test_founding_that_cannot_be_is_refused_before_anybody_comes(
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    text: str,
) -> None:
    assert starling.main([*words, *more]) == EXIT_CONFIG
    assert text in capsys.readouterr().err
    assert EnrolmentStore(tmp_path / "broker").tokens() == {}


@pytest.mark.parametrize("count", ["0", "1", "17", "four"])
def test_number_of_parties_out_of_bounds_is_a_usage_error(
    count: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        starling.main(["coordinator", "init", "--parties", count])

    assert ended.value.code == EXIT_USAGE
    assert "is no whole number in [2, 16]" in capsys.readouterr().err


def test_founder_at_a_broker_that_takes_no_newcomers_is_told_what_to_do(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    closing = (
        "broker",
        "init",
        "--home",
        str(tmp_path / "broker"),
        "--enrol-port",
        "0",
    )
    starling.main([*closing])

    assert starling.main([*words, "--parties", "3"]) == EXIT_CONFIG
    assert "--enrol-port 8884" in capsys.readouterr().err


def test_founder_whose_authority_is_away_is_told_so_at_once(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    BrokerHome(tmp_path / "broker").certificates.authority_key.unlink()

    assert starling.main([*words, "--parties", "3"]) == EXIT_CONFIG
    assert "authority.key" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["--fleet", "garden"], "the token is of the fleet 'meadow'"),
        (["--broker", "none"], "no broker here"),
        (["--broker", "none", "--at", "x"], "at its own"),
    ],
    ids=["fleet", "broker", "at"],
)
def test_party_with_words_that_do_not_fit_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], text: str
) -> None:
    home = str(tmp_path / "home")
    words = ["coordinator", "init", "--home", home, "--token", TOKEN, *more]

    assert starling.main(words) == EXIT_CONFIG
    assert text in capsys.readouterr().err


def test_party_that_meets_nobody_is_told_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = str(tmp_path / "home")
    words = ["coordinator", "init", "--home", home, "--token", TOKEN, "--wait", "1"]

    assert starling.main(words) == EXIT_FAILED
    assert "127.0.0.1:1" in capsys.readouterr().err


def test_name_of_a_broker_needs_a_founders_token(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token = TOKEN.replace("-founding", "")
    words = ["--home", str(tmp_path), "--token", token, "--at", "north"]

    assert starling.main(["coordinator", "init", *words]) == EXIT_CONFIG
    assert "is for a token of --parties" in capsys.readouterr().err


def test_token_of_a_founder_stands_apart_from_the_document(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    starling.main([*words, "--parties", "3", "--json"])
    shown = capsys.readouterr()

    assert shown.out == ""
    assert "starling-founding://" in shown.err
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(shown.out)


PAGE = Path(__file__).parents[5] / "docs" / "how-to" / "found-by-token.md"


def documented() -> list[list[list[str]]]:
    """Commands of the page, by party."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)
    return [[shlex.split(line) for line in block.splitlines()] for block in blocks]


def test_page_has_each_party_run_at_most_four_commands_and_all_are_taken() -> None:
    parties = documented()

    assert [len(commands) for commands in parties] == [4, 4, 2]
    for words in (words for commands in parties for words in commands):
        match words:
            case ["sudo", "-u", "starling", "starling", "broker", *rest]:
                broker_cli.parser().parse_args(rest)
            case ["sudo", "-u", "starling", "starling", "coordinator", *rest]:
                coordinator_command.parser().parse_args(rest)
            case _:
                assert words[:4] == ["sudo", "systemctl", "enable", "--now"]

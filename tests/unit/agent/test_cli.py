"""`starling agent`: what an operator sees, and each of their mistakes."""

import json
import os
import stat
from pathlib import Path

import pytest

from starling.agent.runtime.storage.agent_home import AgentHome
from starling.durable.locks import lock
from starling.protocol.errors import EXIT_CONFIG, EXIT_DONE, EXIT_FAILED
from tests.unit.agent.agent_command import Capture, admission, agent


def test_init_makes_private_keys_and_a_valid_configuration(home: Path) -> None:
    for name in ("device.seed", "tls.pem"):
        mode = stat.S_IMODE((home / "keys" / name).stat().st_mode)
        assert mode == 0o600
    assert AgentHome(home).config().privacy.epsilon == 8.0
    assert len((home / "keys" / "device.seed").read_bytes()) == 32


def test_init_writes_what_the_owner_pledges_and_where_the_data_are(
    tmp_path: Path,
) -> None:
    home, data = tmp_path / "other", tmp_path / "elsewhere"

    assert agent("init", "--home", home, "--pledge", "600", "--data", data) == EXIT_DONE

    found = AgentHome(home).config()
    assert (found.data.pledge, found.data.path) == (600, str(data))
    assert not found.privacy.trust_bundle


def test_home_of_a_board_on_a_metered_link_rests_long(tmp_path: Path) -> None:
    assert agent("init", "--home", tmp_path / "h", "--cellular") == EXIT_DONE

    found = AgentHome(tmp_path / "h").config().broker
    assert (found.keepalive_s, found.retry_most_s) == (600, 600.0)


def test_owner_is_told_of_a_board_that_pledges_nothing(
    tmp_path: Path, capsys: Capture
) -> None:
    for name, words in (("none", ()), ("some", ("--pledge", "600"))):
        home = tmp_path / name
        assert agent("init", "--home", home, *words) == EXIT_DONE
        told = capsys.readouterr().out
        accepted = admission(home, tmp_path)
        assert agent("enrol", "--home", home, "--admission", accepted) == EXIT_DONE
        told += capsys.readouterr().out
        assert told.count(f"number of its records to {home}") == 2 * (name == "none")


@pytest.mark.parametrize("pledge", ["-1", "1048577"])
def test_pledge_out_of_bounds_is_named(
    tmp_path: Path, pledge: str, capsys: Capture
) -> None:
    assert agent("init", "--home", tmp_path / "h", "--pledge", pledge) == EXIT_CONFIG

    assert "data.pledge" in capsys.readouterr().err


def test_init_makes_a_home_for_its_owner_alone(home: Path) -> None:
    assert (home / "data").is_dir()
    for path in (home, *home.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_run_closes_an_open_home(home: Path, tmp_path: Path) -> None:
    agent("enrol", "--home", home, "--admission", admission(home, tmp_path))
    (home / "data" / "a.npz").touch()
    for path in (home, home / "data", home / "data" / "a.npz", home / "agent.toml"):
        path.chmod(0o777)

    # Which ends it before it looks for a broker.
    (home / "agent.toml").write_text("[training]\nboard = 'none such'\n")
    assert agent("run", "--home", home) == EXIT_CONFIG

    for path in (home, *home.rglob("*")):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path


@pytest.mark.parametrize("place", [".", "..", "keys", "state/old", "link"])
def test_data_around_or_among_secrets_are_refused(
    home: Path, tmp_path: Path, capsys: Capture, place: str
) -> None:
    agent("enrol", "--home", home, "--admission", admission(home, tmp_path))
    (home / "link").symlink_to("keys")
    (home / "agent.toml").write_text(f"[data]\npath = '{place}'\n")

    assert agent("run", "--home", home) == EXIT_CONFIG

    assert "data need a folder of their own" in capsys.readouterr().err


def test_init_again_keeps_the_key_and_the_settings(home: Path, capsys: Capture) -> None:
    seed = (home / "keys" / "device.seed").read_bytes()
    (home / "agent.toml").write_text("[privacy]\nepsilon = 2.0\n")

    assert agent("init", "--home", home, "--json") == EXIT_DONE

    assert json.loads(capsys.readouterr().out)["new"] is False
    assert (home / "keys" / "device.seed").read_bytes() == seed
    assert AgentHome(home).config().privacy.epsilon == 2.0


@pytest.mark.parametrize("name", ["device.seed", "tls.pem"])
def test_key_that_is_lost_is_made_again_by_the_command_that_is_named(
    home: Path, tmp_path: Path, capsys: Capture, name: str
) -> None:
    agent("enrol", "--home", home, "--admission", admission(home, tmp_path))
    key = home / "keys" / name
    key.unlink()

    assert agent("run", "--home", home) == EXIT_CONFIG
    assert f"{key}: missing; run: starling agent init" in capsys.readouterr().err

    assert agent("init", "--home", home) == EXIT_DONE
    assert agent("enrol", "--home", home) == EXIT_DONE


@pytest.mark.parametrize("name", ["agent.toml", "admission.json", "keys/device.seed"])
def test_file_that_is_too_long_is_a_fault_of_configuration(
    home: Path, capsys: Capture, name: str
) -> None:
    with (home / name).open("ab") as file:
        file.write(b"x" * (2 << 20))
    (home / name).chmod(0o600)

    assert agent("run", "--home", home) == EXIT_CONFIG
    assert str(home / name) in capsys.readouterr().err


def test_data_that_are_a_file_or_a_circle_of_links_are_named(
    home: Path, tmp_path: Path, capsys: Capture
) -> None:
    agent("enrol", "--home", home, "--admission", admission(home, tmp_path))
    (home / "one.csv").write_text("1,2\n")
    (home / "circle").symlink_to("circle")
    for name in ("one.csv", "circle"):
        (home / "agent.toml").write_text(f"[data]\npath = '{name}'\n")

        assert agent("run", "--home", home) == EXIT_CONFIG
        assert "data.path: " in capsys.readouterr().err


def test_run_without_enrolment_says_what_to_do(home: Path, capsys: Capture) -> None:
    assert agent("run", "--home", home) == EXIT_CONFIG
    assert "not enrolled; run: starling agent enrol" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["device.seed", "tls.pem"])
@pytest.mark.parametrize("verb", ["run", "status"])
def test_key_readable_by_others_is_named(
    home: Path, capsys: Capture, name: str, verb: str
) -> None:
    (home / "keys" / name).chmod(0o644)

    agent(verb, "--home", home)

    said = capsys.readouterr()
    assert f"chmod 600 {home / 'keys' / name}" in said.out + said.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[privacy]\nepsilon = 0\n", "privacy.epsilon: 0.0 is not at least 0.001"),
        ("[privacy]\nepsilom = 1\n", "did you mean 'epsilon'?"),
        ("[data]\npledge = 1.5\n", "data.pledge: expected an integer"),
        ("[log]\nlevel = 'loud'\n", "log.level: expected debug | info"),
        ("nonsense", "not TOML"),
        (b"\xff".decode("latin-1"), "not TOML"),
    ],
    ids=["bound", "typo", "kind", "choice", "syntax", "letters"],
)
def test_wrong_configuration_names_file_key_and_bound(
    home: Path, capsys: Capture, text: str, said: str
) -> None:
    (home / "agent.toml").write_text(text)

    assert agent("run", "--home", home) == EXIT_CONFIG
    message = capsys.readouterr().err
    assert said in message
    assert str(home / "agent.toml") in message
    assert message.count("\n") == 1


def test_folder_in_the_place_of_a_file_is_a_fault_of_configuration(
    home: Path, capsys: Capture
) -> None:
    (home / "agent.toml").unlink()
    (home / "agent.toml").mkdir()

    assert agent("run", "--home", home) == EXIT_CONFIG
    assert f"{home / 'agent.toml'}: a file belongs here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "content", "remedy"),
    [
        ("keys/device.seed", b"short", "starling agent init --home"),
        ("admission.json", b"{}", "starling agent enrol --home"),
    ],
)
def test_damaged_file_of_the_home_names_its_remedy_in_log_and_status(
    home: Path, capsys: Capture, file: str, content: bytes, remedy: str
) -> None:
    (home / file).write_bytes(content)

    assert agent("run", "--home", home) == EXIT_CONFIG
    assert f"{remedy} {home}" in capsys.readouterr().err
    assert agent("status", "--home", home, "--json") == EXIT_FAILED
    document = json.loads(capsys.readouterr().out)
    assert document["condition"].startswith(str(home / file))
    assert f"{remedy} {home}" in document["next_action"]
    assert document["next_action"] != document["condition"]


def test_second_agent_on_one_home_is_refused(home: Path, capsys: Capture) -> None:
    with lock(home / "state" / "lock"):
        assert agent("run", "--home", home) == EXIT_CONFIG

    assert f"already running as pid {os.getpid()}" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["enrol", "run", "status"])
def test_home_that_is_none_says_what_to_do(
    tmp_path: Path, capsys: Capture, verb: str
) -> None:
    code = agent(verb, "--home", tmp_path / "nowhere")

    assert code in (EXIT_CONFIG, EXIT_FAILED)
    assert "nowhere" in capsys.readouterr().err


def test_home_may_come_from_the_environment(
    home: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STARLING_HOME", str(home))

    assert agent("status", "--json") == EXIT_FAILED
    assert json.loads(capsys.readouterr().out)["condition"] == "not enrolled"


def test_missing_home_is_a_configuration_error(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STARLING_HOME", raising=False)

    assert agent("status") == EXIT_CONFIG
    assert "--home" in capsys.readouterr().err

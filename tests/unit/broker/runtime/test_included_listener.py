"""Where the fleet's listener stands in a configuration, and who could not read it."""

import os
import pwd
from pathlib import Path

import pytest

from starling.broker.broker_settings import BrokerSettings
from starling.broker.runtime import broker_home
from starling.broker.runtime.broker_home import BrokerHome
from starling.broker.runtime.installation.included_listener import IncludedListener
from starling.durable.locks import lock
from starling.protocol.errors import ConfigError

pytestmark = pytest.mark.usefixtures("fake_mosquitto")


@pytest.fixture
def home(tmp_path: Path) -> BrokerHome:
    made = BrokerHome(tmp_path / "starling")
    made.prepare(BrokerSettings("meadow", "127.0.0.1", 8883))
    (tmp_path / "conf.d").mkdir()
    return made


def listener(home: BrokerHome, lines: str = "", after: str = "") -> IncludedListener:
    """In a configuration that runs as whoever runs this, and includes `conf.d`."""
    me = "root" if os.geteuid() == 0 else "nobody-of-this-name"
    main = home.path.parent / "mosquitto.conf"
    folder = home.path.parent / "conf.d"
    main.write_text(f"user {me}\n{lines}\ninclude_dir {folder}\n{after}\n")
    return IncludedListener(home, main)


def test_file_holds_the_listener_alone(home: BrokerHome) -> None:
    made = listener(home)

    assert made.file == home.path.parent / "conf.d" / "zz-starling-meadow.conf"
    assert made.text().splitlines() == [
        "# Listener of fleet meadow; written by starling broker install",
        "listener 8883 127.0.0.1",
        "allow_anonymous false",
        f"cafile {home.path}/authority.pem",
        f"certfile {home.path}/server.pem",
        f"keyfile {home.path}/server.key",
        "tls_version tlsv1.3",
        "require_certificate true",
        "use_identity_as_username true",
        "use_username_as_clientid true",
        f"acl_file {home.path}/access",
        "max_connections 20000",
    ]


def test_own_file_is_no_obstacle_to_itself(home: BrokerHome) -> None:
    made = listener(home)
    made.write()
    first = made.file.read_text()

    made.write()

    assert made.file.read_text() == first


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("zzz.conf", "require_certificate false", "would be read as of the fleet's"),
        ("home.conf", "require_certificate false", ""),
        ("ZZ.conf", "require_certificate false", ""),
        ("zzz.txt", "require_certificate false", ""),
    ],
)
def test_files_are_read_in_mosquitto_s_order(
    home: BrokerHome, name: str, content: str, said: str
) -> None:
    made = listener(home)
    (made.file.parent / name).write_text(content)

    if said:
        with pytest.raises(ConfigError, match=f"{name}:1: .*{said}"):
            made.text()
    else:
        assert made.text()


def test_lines_below_the_folder_are_read_after_it(home: BrokerHome) -> None:
    with pytest.raises(ConfigError, match=r"mosquitto\.conf:4: certfile would be"):
        listener(home, after="certfile /c").text()


@pytest.mark.parametrize(
    ("text", "said"),
    [("user root\n", "includes no folder"), (None, "missing: is Mosquitto here")],
)
def test_configuration_that_includes_nothing_is_refused(
    home: BrokerHome, text: str | None, said: str
) -> None:
    made = listener(home)
    main = home.path.parent / "mosquitto.conf"
    main.unlink()
    if text is not None:
        main.write_text(text)

    with pytest.raises(ConfigError, match=said):
        made.write()


def test_door_for_newcomers_is_none_of_that_broker_s(home: BrokerHome) -> None:
    home.prepare(BrokerSettings("meadow", "127.0.0.1", 8883, enrol_port=8884))

    with pytest.raises(ConfigError, match="--enrol-port 0"):
        listener(home).text()


def test_files_that_mosquitto_s_user_cannot_read_are_named(home: BrokerHome) -> None:
    with pytest.raises(ConfigError) as refused:
        listener(home, "user nobody").text()

    lines = str(refused.value).splitlines()[1:]
    fix = "nobody cannot read it; let the folder be that user's: chown -R nobody "
    assert lines == [
        f"  {path}: {fix}{home.path}"
        for path in (home.path, home.path, home.path / "server.key", home.path)
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="asks for files of another user")
def test_files_of_mosquitto_s_own_user_are_read(home: BrokerHome) -> None:
    nobody = pwd.getpwnam("nobody")
    for path in (home.path, *home.path.iterdir()):
        os.chown(path, nobody.pw_uid, nobody.pw_gid)

    with pytest.raises(ConfigError) as refused:
        listener(home, "user nobody").text()

    # What is left are folders of the test's own.
    assert f"{home.path}/" not in str(refused.value)
    assert f"{home.path}:" not in str(refused.value)


def test_broker_that_runs_from_the_folder_goes_first(home: BrokerHome) -> None:
    made = listener(home)
    held = lock(home.lock_file)

    with pytest.raises(ConfigError, match="already running"):
        made.write()
    assert not made.file.exists()

    held.release()
    made.write()
    assert made.remove()
    assert not made.remove()


def test_pid_file_leads_to_the_mosquitto_that_has_the_listener(
    home: BrokerHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid_file = home.path.parent / "pid"
    pid_file.write_text(f"{os.getpid()}\n")
    made = listener(home, f"pid_file {pid_file}")

    made.write()

    assert home.require_settings().pid_file == str(pid_file)
    # This process is no Mosquitto, and is sent no signal.
    assert not home.reload_running()
    # A lock that looks like the folder's keeps no Mosquitto from being told.
    told: list[Path] = []
    monkeypatch.setattr(broker_home, "is_locked", lambda _: True)

    def hang_up(file: Path) -> bool:
        told.append(file)
        return True

    monkeypatch.setattr(broker_home, "hang_up", hang_up)
    assert home.reload_running()
    assert told == [pid_file]
    made.remove()
    assert home.require_settings().pid_file == ""

"""A broker's folder: made once, brought up to date, and run without its secret key."""

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from starling.broker.broker_settings import BrokerSettings
from starling.broker.health_checks import Verdict
from starling.broker.runtime.broker_check import _authority_key
from starling.broker.runtime.broker_home import BrokerHome
from starling.broker.runtime.certificate_authority import (
    certified_hosts,
    load_certificate,
)
from starling.durable.locks import lock
from starling.protocol.errors import ConfigError

SETTINGS = BrokerSettings("garden", hosts=("broker.example.org", "192.0.2.7"))


@pytest.mark.usefixtures("fake_mosquitto")
def test_home_prepared_twice_keeps_keys_and_certificates(tmp_path: Path) -> None:
    home = BrokerHome(tmp_path / "home")
    home.prepare(SETTINGS)
    before = {file: file.read_bytes() for file in home.path.iterdir()}

    home.prepare(SETTINGS)

    assert {file: file.read_bytes() for file in home.path.iterdir()} == before
    assert home.settings() == SETTINGS


@pytest.mark.usefixtures("fake_mosquitto")
def test_home_with_other_hosts_gets_a_new_server_certificate_only(
    tmp_path: Path,
) -> None:
    home = BrokerHome(tmp_path / "home")
    home.prepare(SETTINGS)
    authority = home.authority_certificate.read_bytes()

    home.prepare(replace(SETTINGS, hosts=("other.example.org",)))

    hosts = ("127.0.0.1", "localhost", "other.example.org")
    assert certified_hosts(home.certificates.server) == hosts
    assert home.authority_certificate.read_bytes() == authority


@pytest.mark.usefixtures("fake_mosquitto")
def test_home_admits_a_coordinator_once(tmp_path: Path) -> None:
    home = BrokerHome(tmp_path / "home")
    home.prepare(SETTINGS)

    home.admit_coordinator("c2")
    home.admit_coordinator("c1")
    home.admit_coordinator("c2")

    assert home.require_settings().coordinators == ("c1", "c2")
    assert (home.path / "access").read_text().count("user c2\n") == 1


@pytest.mark.usefixtures("fake_mosquitto")
@pytest.mark.parametrize(
    ("settings", "match"),
    [
        (BrokerSettings("No Good"), "fleet: fleet name"),
        (BrokerSettings("garden", coordinators=("no good",)), "user name"),
        (
            BrokerSettings("garden", hosts=("b\u00fccher.example",)),
            "host: .*write 'xn--",
        ),
        (BrokerSettings("garden", hosts=("ok.example", "")), "host: ''"),
        (BrokerSettings("garden", hosts=("a" * 64,)), "host: "),
        (BrokerSettings("garden", "no good"), "host: 'no good'"),
    ],
    ids=["fleet", "coordinator", "letters", "empty", "long", "bind"],
)
def test_home_for_impossible_settings_is_refused_before_anything_is_written(
    tmp_path: Path, settings: BrokerSettings, match: str
) -> None:
    home = BrokerHome(tmp_path / "home")

    with pytest.raises(ConfigError, match=match):
        home.prepare(settings)
    assert not home.path.exists()


def test_home_that_was_not_made_says_which_command_makes_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="starling broker init"):
        BrokerHome(tmp_path).require_settings()


DAMAGED = [
    b"",
    b"[]",
    b"{}",
    b"null",
    b'{"fleet": 7}',
    b'{"fleet": "garden", "port": "8883"}',
    b'{"fleet": "garden", "hosts": "broker.example.org"}',
    b'{"fleet": "garden", "coordinators": [1]}',
    b'{"fleet": "garden\xff"}',
    b'{"fleet": "garden", "more": ' + b"[" * 60_000,
    b'{"fleet": "garden", "bind": "0.0.0',
]


@pytest.mark.parametrize("content", DAMAGED)
def test_home_with_damaged_settings_says_so(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broker.json").write_bytes(content)

    with pytest.raises(ConfigError, match=r"broker\.json: damaged"):
        BrokerHome(tmp_path).settings()


@pytest.mark.usefixtures("fake_mosquitto")
def test_damaged_settings_are_mended_as_the_message_says(tmp_path: Path) -> None:
    home = BrokerHome(tmp_path / "home")
    home.prepare(SETTINGS)
    settings = home.path / "broker.json"
    kept = {file: file.read_bytes() for file in home.path.glob("*.key")}
    settings.write_bytes(settings.read_bytes()[:40])

    settings.unlink()
    home.prepare(SETTINGS)

    assert home.settings() == SETTINGS
    assert {file: file.read_bytes() for file in home.path.glob("*.key")} == kept


@pytest.mark.usefixtures("fake_mosquitto")
@pytest.mark.parametrize("name", ["server.pem", "checker.pem"])
@pytest.mark.parametrize("content", [b"", b"garbage", b"x" * 20_000])
def test_damaged_certificate_is_issued_anew(
    tmp_path: Path, name: str, content: bytes
) -> None:
    home = BrokerHome(tmp_path / "home")
    home.prepare(SETTINGS)
    (home.path / name).write_bytes(content)

    assert home.prepare(SETTINGS) == ()

    issued = load_certificate(home.path / name)
    issued.verify_directly_issued_by(load_certificate(home.authority_certificate))


@pytest.mark.usefixtures("fake_mosquitto")
def test_certificate_of_somebody_else_names_none_of_our_hosts(tmp_path: Path) -> None:
    home = BrokerHome(tmp_path / "home")
    home.prepare(SETTINGS)
    home.certificates.server.write_bytes(home.authority_certificate.read_bytes())

    assert certified_hosts(home.certificates.server) == ()


@pytest.mark.usefixtures("fake_mosquitto")
def test_lock_that_names_nobody_yet_is_somebody_who_starts(tmp_path: Path) -> None:
    home = BrokerHome(tmp_path / "home")
    home.prepare(SETTINGS)

    with lock(home.lock_file):
        home.lock_file.write_bytes(b"")

        assert home.reload_running()


@pytest.mark.usefixtures("fake_mosquitto")
def test_process_that_no_longer_holds_the_lock_hears_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = BrokerHome(tmp_path / "home")
    home.prepare(SETTINGS)
    told: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, _: told.append(pid))
    # As a process leaves it that only looks, and ends; others have that number later.
    home.lock_file.write_text(f"{os.getpid()}\n")
    assert not home.reload_running()
    content = home.lock_file.read_bytes()

    with lock(tmp_path / "other"):
        assert not home.reload_running()

    assert told == []
    assert home.lock_file.read_bytes() == content


@pytest.fixture
def offline(fake_mosquitto: Path, tmp_path: Path) -> BrokerHome:
    """A finished folder whose authority's key was taken away."""
    home = BrokerHome(tmp_path / "home")
    home.prepare(SETTINGS)
    home.certificates.authority_key.rename(tmp_path / "safe")
    return home


def test_authority_s_key_taken_away_makes_no_other_authority(
    offline: BrokerHome,
) -> None:
    before = {file: file.read_bytes() for file in offline.path.iterdir()}

    assert offline.prepare(SETTINGS) == ()

    assert {file: file.read_bytes() for file in offline.path.iterdir()} == before
    server = load_certificate(offline.certificates.server)
    server.verify_directly_issued_by(load_certificate(offline.authority_certificate))


@pytest.mark.usefixtures("fake_mosquitto")
def test_check_of_a_key_on_a_token_that_was_pulled_out_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = BrokerHome(tmp_path / "home")
    home.prepare(SETTINGS)

    def fails(path: Path) -> bool:
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(Path, "exists", fails)
    row = _authority_key(home)

    assert row.verdict is Verdict.FAIL
    assert "authority.key: Input/output error" in row.found


def test_authority_that_is_lost_with_its_key_elsewhere_is_put_back(
    offline: BrokerHome,
) -> None:
    certificate = offline.authority_certificate
    before = certificate.read_bytes()
    certificate.unlink()

    with pytest.raises(ConfigError, match="put both back"):
        offline.prepare(SETTINGS)

    assert not certificate.exists()
    assert not offline.certificates.has_key()
    certificate.write_bytes(before)
    offline.prepare(SETTINGS)


def test_hosts_asked_for_without_the_key_are_told_and_the_rest_is_done(
    offline: BrokerHome,
) -> None:
    server = offline.certificates.server.read_bytes()

    undone = offline.prepare(
        replace(SETTINGS, hosts=("new.example.org",), coordinators=("c1",))
    )

    assert len(undone) == 1
    assert "server.pem does not name new.example.org" in undone[0]
    assert "authority.key is not here" in undone[0]
    assert offline.certificates.server.read_bytes() == server
    assert "user c1" in (offline.path / "access").read_text()


@pytest.mark.parametrize("name", ["server.pem", "checker.pem"])
def test_certificate_that_is_needed_and_cannot_be_issued_names_the_key(
    offline: BrokerHome, name: str
) -> None:
    (offline.path / name).unlink()

    with pytest.raises(ConfigError, match=r"authority\.key: not here"):
        offline.prepare(SETTINGS)


def test_nothing_is_issued_without_the_key_and_no_key_of_a_client_is_lost(
    offline: BrokerHome, tmp_path: Path
) -> None:
    before = (offline.path / "checker.key").read_bytes()

    with pytest.raises(ConfigError, match="put it back for this command"):
        offline.certificates.issue_files("checker", offline.path)
    assert (offline.path / "checker.key").read_bytes() == before
    assert (offline.path / "checker.pem").exists()


def test_folder_of_public_files_alone_is_no_folder_of_another_authority(
    offline: BrokerHome, tmp_path: Path
) -> None:
    copy = BrokerHome(tmp_path / "copy")
    copy.path.mkdir()
    for name in ("authority.pem", "broker.json"):
        (copy.path / name).write_bytes((offline.path / name).read_bytes())

    with pytest.raises(ConfigError, match=r"authority\.key: not here"):
        copy.admit_coordinator("c1")
    assert not copy.certificates.authority_key.exists()

"""A bundle helps, and gives nothing away: it is searched for every key's bytes."""

import base64
import json
import os
import tarfile
from pathlib import Path

import pytest

from starling import __main__ as starling
from starling.agent.runtime.storage.agent_home import AgentHome
from starling.protocol.errors import EXIT_CONFIG, EXIT_DONE, EXIT_FAILED
from starling.service.diagnostics import secret_files

DATA = "4711.25"


def started(*words: str | Path) -> int:
    return starling.main([*map(str, words)])


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A home of each part, with keys and what they write."""
    folder = tmp_path_factory.mktemp("homes")
    made = {name: folder / name for name in ("agent", "coordinator", "broker")}
    started("broker", "init", "--home", made["broker"], "--fleet", "meadow")
    started(
        *("coordinator", "init", "--home", made["coordinator"]),
        *("--fleet", "meadow", "--broker", made["broker"]),
    )
    founding = made["coordinator"] / "founding"
    founding.mkdir()
    (founding / "nonce").write_bytes(bytes(range(32)))
    (founding / "token").write_text("starling-founding://a-line-that-is-secret")
    board = AgentHome(made["agent"])
    board.begin({})
    board.write_request()
    (made["agent"] / "data" / "a.csv").write_text(f"a,y\n{DATA},1\n")
    board.status_file.write_text('{"condition": "training"}')
    return made


def members(bundle: Path) -> dict[str, bytes]:
    with tarfile.open(bundle) as archive:
        found = {}
        for entry in archive.getmembers():
            file = archive.extractfile(entry)
            assert file is not None
            found[entry.name.removeprefix("starling-diag/")] = file.read()
        return found


@pytest.mark.parametrize("part", ["agent", "coordinator", "broker"])
def test_bundle_has_no_key_in_any_form_and_no_data(
    homes: dict[str, Path], part: str, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle.tar.gz"

    assert started("diag", "collect", "--home", homes[part], "--out", bundle) == 0

    found = members(bundle)
    keys = [path.read_bytes() for path in secret_files(homes[part])]
    assert len(keys) >= 2
    assert part != "coordinator" or bytes(range(32)) in keys
    everything = b"\n".join(found.values())
    for key in keys:
        bodies = [line for line in key.splitlines() if b"-----" not in line]
        forms = [key, key.hex().encode(), base64.b64encode(key), *bodies]
        assert not [form for form in forms if len(form) > 15 and form in everything]
    assert DATA.encode() not in everything
    assert bundle.stat().st_mode & 0o777 == 0o600


def test_bundle_says_what_helps(homes: dict[str, Path], tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.tar.gz"
    started("diag", "collect", "--home", homes["agent"], "--out", bundle)

    found = members(bundle)

    assert b"condition" in found["home/status.json"]
    assert b"[privacy]" in found["home/agent.toml"]
    assert b"keys/device.seed" in found["files.txt"]
    assert b"-rw-------" in found["files.txt"]
    assert b"data/a.csv" in found["files.txt"]
    assert json.loads(found["check.json"])["checks"]
    assert found["machine.txt"].startswith(b"python 3.")


@pytest.mark.parametrize("form", ["hex", "base64", "raw"])
def test_key_that_somebody_wrote_into_a_setting_stops_the_bundle(
    homes: dict[str, Path],
    form: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    home, bundle = tmp_path / "home", tmp_path / "bundle.tar.gz"
    AgentHome(home).begin({})
    seed = (home / "keys" / "device.seed").read_bytes()
    forms = {"hex": seed.hex().encode(), "base64": base64.b64encode(seed), "raw": seed}
    (home / "status.json").write_bytes(b"note: " + forms[form])

    assert started("diag", "collect", "--home", home, "--out", bundle) == EXIT_FAILED

    assert not bundle.exists()
    assert "status.json holds a key" in capsys.readouterr().err


def test_folder_that_is_no_home_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert started("diag", "collect", "--home", tmp_path) == EXIT_CONFIG

    assert f"{tmp_path}: holds none of agent.toml" in capsys.readouterr().err


def test_bundle_is_named_after_the_part(
    homes: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        status = started("diag", "collect", "--home", homes["broker"], "--json")
    finally:
        os.chdir(before)

    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert status == EXIT_DONE
    assert said["bundle"] == "starling-diag-broker.tar.gz"
    assert (tmp_path / said["bundle"]).exists()
    assert "home/mosquitto.conf" in said["members"]

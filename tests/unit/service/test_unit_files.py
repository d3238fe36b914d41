"""The units hold what they promise, and systemd agrees."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from starling.protocol.errors import ConfigError
from starling.service.unit_files import ServiceKind, ServiceUnit, unit_text

EXPOSURE_MAX = 15
"""Tenths; 1.5 of 10, where an ordinary unit has 9.6."""
PROGRAM = Path("/usr/lib/starling/bin/starling")
KINDS = list(ServiceKind)


def unit(kind: ServiceKind, home: Path | None = None, program: Path = PROGRAM) -> str:
    return unit_text(ServiceUnit(kind, program, home or kind.home))


def analyse(*words: str | Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not here: units are not looked at")
    return subprocess.run(
        [program, *map(str, words)], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("kind", KINDS)
def test_unit_exposes_less_than_the_threshold(
    kind: ServiceKind, tmp_path: Path
) -> None:
    file = tmp_path / kind.unit_name
    file.write_text(unit(kind))

    looked = analyse("security", "--offline=true", f"--threshold={EXPOSURE_MAX}", file)

    assert looked.returncode == 0, looked.stdout[-300:] + looked.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_unit_has_no_key_that_systemd_does_not_know(
    kind: ServiceKind, tmp_path: Path
) -> None:
    file = tmp_path / kind.unit_name
    file.write_text(unit(kind, program=Path("/usr/bin/env")))

    looked = analyse("verify", "--man=no", file)

    assert (looked.returncode, looked.stderr) == (0, "")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "line",
    [
        "Type=notify",
        "RestartPreventExitStatus=78",
        "OOMPolicy=continue",
        "User=starling",
        "StateDirectoryMode=0750",
        "RuntimeDirectoryMode=0750",
        "SystemCallFilter=@system-service",
    ],
)
def test_unit_has_the_line(kind: ServiceKind, line: str) -> None:
    assert line in unit(kind).splitlines()


@pytest.mark.parametrize("kind", KINDS)
def test_unit_is_watched_and_sends_nothing_home(kind: ServiceKind) -> None:
    text = unit(kind)

    assert re.search(r"^WatchdogSec=\d+$", text, re.MULTILINE)
    assert "ORT_DISABLE_TELEMETRY=1" in text
    assert "~@resources" not in text
    assert f"ExecStart={PROGRAM} {kind.value} run --home {kind.home}" in text


def test_home_below_var_lib_is_made_by_systemd_and_another_one_is_opened() -> None:
    usual = unit(ServiceKind.AGENT)
    other = unit(ServiceKind.AGENT, Path("/srv/board"))

    assert "StateDirectory=starling\n" in usual
    assert "ReadWritePaths" not in usual
    assert "StateDirectory" not in other
    assert "ReadWritePaths=/srv/board\n" in other
    assert "ConditionPathExists=/srv/board/agent.toml\n" in other


def test_data_elsewhere_may_be_written_but_need_not_be_there() -> None:
    kind = ServiceKind.AGENT
    found = unit_text(ServiceUnit(kind, PROGRAM, kind.home, "pi", (Path("/srv/d"),)))

    assert "ReadWritePaths=-/srv/d\n" in found
    assert "User=pi\nGroup=pi\n" in found


@pytest.mark.parametrize(
    ("program", "home", "user", "key", "way_out"),
    [
        ("/home/pi/.venv/bin/starling", "/var/lib/s", "s", "program", "/usr/lib"),
        ("/usr/bin/starling", "/root/board", "s", "home", "/var/lib"),
        ("/usr/bin/starling", "/run/user/b", "s", "home", "/var/lib"),
        ("/usr/bin/starling", "board", "s", "home", "absolute"),
        ("/usr/bin/starling", "/srv/a b", "s", "home", "absolute"),
        ("/usr/bin/starling", "/srv/%h", "s", "home", "absolute"),
        ("/usr/bin/starling", "/srv/a\nUser=root", "s", "home", "absolute"),
        ("/usr/bin/starling", "/srv/a", "a\nb", "user", "no name"),
        ("/usr/bin/starling", "/srv/a", "", "user", "no name"),
    ],
)
def test_unit_that_could_not_work_is_refused(
    program: str, home: str, user: str, key: str, way_out: str
) -> None:
    asked = ServiceUnit(ServiceKind.AGENT, Path(program), Path(home), user)

    with pytest.raises(ConfigError, match=way_out) as refused:
        unit_text(asked)

    assert refused.value.key == key

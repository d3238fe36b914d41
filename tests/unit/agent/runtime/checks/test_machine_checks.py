"""What the kernel tells of the machine, and what is made of it."""

from dataclasses import replace
from pathlib import Path

import pytest

from starling.agent.runtime.checks import machine_checks
from starling.agent.runtime.checks.machine_checks import MachinePaths
from starling.broker.health_checks import Verdict

OK, WARN, FAIL = Verdict.OK, Verdict.WARN, Verdict.FAIL


@pytest.fixture
def paths(tmp_path: Path) -> MachinePaths:
    """Files that are not there yet."""
    names = ("thermal", "hwmon", "controllers", "cgroups", "memory", "limits")
    return MachinePaths(**{name: tmp_path / name for name in names})


def sensor(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text + "\n")


@pytest.mark.parametrize(
    ("readings", "verdict", "shown"),
    [
        ([], OK, "no sensor"),
        (["48300"], OK, "48.3 °C"),
        (["48300", "79999"], OK, "80.0 °C"),
        (["80000", "48300"], WARN, "80.0 °C: it slows down"),
        (["85000"], FAIL, "85.0 °C"),
        (["odd", "41000"], OK, "41.0 °C"),
    ],
)
def test_hottest_zone_decides(
    paths: MachinePaths, readings: list[str], verdict: Verdict, shown: str
) -> None:
    for number, text in enumerate(readings):
        sensor(paths.thermal / f"thermal_zone{number}", temp=text)

    row = machine_checks.heat_check(paths)

    assert (row.name, row.verdict) == ("heat.temperature", verdict)
    assert shown in row.found
    assert bool(row.fix) is (verdict is not OK)


@pytest.mark.parametrize(
    ("name", "alarm", "verdict", "shown"),
    [
        ("rpi_volt", "0", OK, "never too low"),
        ("rpi_volt", "1", WARN, "too low"),
        ("cpu_thermal", "1", OK, "no sensor"),
    ],
)
def test_alarm_of_the_boards_own_sensor_counts(
    paths: MachinePaths, name: str, alarm: str, verdict: Verdict, shown: str
) -> None:
    sensor(paths.hwmon / "hwmon0", name="other", in0_lcrit_alarm="1")
    sensor(paths.hwmon / "hwmon1", name=name, in0_lcrit_alarm=alarm)

    row = machine_checks.voltage_check(paths)

    assert row.verdict is verdict
    assert shown in row.found


@pytest.mark.parametrize(
    ("unified", "legacy", "verdict"),
    [
        ("cpu io memory pids", "", OK),
        ("cpu io pids", "memory 0 1 1", WARN),
        (None, "#name\tid\tn\ton\ncpu\t1\t1\t1\nmemory\t2\t1\t1", OK),
        (None, "cpu\t1\t1\t1\nmemory\t2\t1\t0", WARN),
        (None, None, WARN),
    ],
    ids=["unified", "unified without", "legacy", "legacy off", "none"],
)
def test_memory_of_services_is_counted_only_where_the_kernel_does(
    paths: MachinePaths, unified: str | None, legacy: str | None, verdict: Verdict
) -> None:
    for file, text in ((paths.controllers, unified), (paths.cgroups, legacy)):
        if text is not None:
            file.write_text(text + "\n")

    rows = {row.name: row for row in machine_checks.memory_checks(paths, 64)}

    assert rows["memory.cgroup"].verdict is verdict


@pytest.mark.parametrize(
    ("groups", "verdict"),
    [
        ("9:name=systemd:/system.slice/a.service\n4:memory:/\n", WARN),
        (
            "9:name=systemd:/system.slice/a.service\n4:memory:/system.slice/a.service",
            OK,
        ),
        ("9:name=systemd:/user.slice/session\n4:memory:/\n", OK),
        ("0::/system.slice/a.service\n", OK),
        (None, OK),
    ],
    ids=["no group", "a group", "no unit", "unified", "unreadable"],
)
def test_unit_without_a_memory_group_of_its_own_has_no_limit(
    paths: MachinePaths, groups: str | None, verdict: Verdict
) -> None:
    paths.controllers.write_text("memory\n")
    agent = paths.controllers.with_name("agent")
    if groups is not None:
        agent.write_text(groups)

    rows = machine_checks.memory_checks(replace(paths, agent=agent), 64)

    assert {row.name: row.verdict for row in rows}["memory.cgroup"] is verdict


@pytest.mark.parametrize(
    ("kilobytes", "trainer_mb", "verdict"),
    [("2097152", 1024, OK), ("524288", 1024, WARN), ("524288", 0, OK)],
)
def test_memory_has_to_be_there_for_a_trainer(
    paths: MachinePaths, kilobytes: str, trainer_mb: int, verdict: Verdict
) -> None:
    paths.memory.write_text(f"MemTotal: 9 kB\nMemAvailable:  {kilobytes} kB\n")

    rows = {row.name: row for row in machine_checks.memory_checks(paths, trainer_mb)}

    assert rows["memory.available"].verdict is verdict
    limited = rows["memory.trainer-limit"].verdict
    assert limited is (OK if trainer_mb else WARN)


def test_limit_that_does_not_hold_is_found(
    paths: MachinePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_checks, "_ALLOCATES", "import sys; sys.exit(1)")

    rows = {row.name: row for row in machine_checks.memory_checks(paths, 64)}

    assert rows["memory.trainer-limit"].verdict is FAIL


@pytest.mark.parametrize(
    ("free_mb", "verdict"), [(15, FAIL), (16, WARN), (127, WARN), (128, OK)]
)
def test_room_on_the_disk_has_two_bounds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free_mb: int, verdict: Verdict
) -> None:
    monkeypatch.setattr(machine_checks, "space_left", lambda _: free_mb << 20)

    assert machine_checks.disk_check(tmp_path).verdict is verdict


def test_disk_that_is_gone_is_a_row(tmp_path: Path) -> None:
    row = machine_checks.disk_check(tmp_path / "gone")

    assert row.verdict is FAIL
    assert "gone" in row.found


@pytest.mark.parametrize(
    ("plausible", "kept", "verdicts"),
    [
        (False, True, [("clock.set", FAIL)]),
        (True, False, [("clock.set", OK), ("clock.synchronised", WARN)]),
        (True, True, [("clock.set", OK), ("clock.synchronised", OK)]),
    ],
)
def test_clock_is_set_before_it_is_kept(
    monkeypatch: pytest.MonkeyPatch,
    plausible: bool,
    kept: bool,
    verdicts: list[tuple[str, Verdict]],
) -> None:
    monkeypatch.setattr(machine_checks, "clock_is_plausible", lambda: plausible)
    monkeypatch.setattr(machine_checks, "_clock_is_kept", lambda: kept)

    rows = list(machine_checks.clock_checks())

    assert [(row.name, row.verdict) for row in rows] == verdicts


@pytest.mark.parametrize(
    ("limit_mb", "trainer_mb", "verdict"), [(40, 64, WARN), (256, 64, OK), (40, 0, OK)]
)
def test_memory_of_a_container_is_what_its_limit_leaves(
    paths: MachinePaths, limit_mb: int, trainer_mb: int, verdict: Verdict
) -> None:
    paths.memory.write_text("MemAvailable:  2097152 kB\n")
    paths.limits.mkdir()
    (paths.limits / "memory.max").write_text(f"{limit_mb << 20}")
    (paths.limits / "memory.current").write_text(f"{28 << 20}")

    rows = {row.name: row for row in machine_checks.memory_checks(paths, trainer_mb)}

    row = rows["memory.available"]
    assert (row.verdict, bool(row.fix)) == (verdict, verdict is WARN)
    assert f"{limit_mb - 28} MiB of the container's {limit_mb}" in row.found

"""A board that is installed as a service enrols as the service's user."""

import getpass
from pathlib import Path

import pytest

from starling.agent.runtime.enrolment.service_enrolment import enrol_as
from starling.protocol.errors import OperationError


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program that notes its words and its standard input; fails for pledge 0."""
    made = tmp_path / "starling"
    noted = tmp_path / "noted"
    made.write_text(
        f'#!/bin/sh\necho "$@" > {noted}\ncat >> {noted}\n[ "$7" != "--pledge=0" ]\n'
    )
    made.chmod(0o755)
    return made


def test_token_goes_by_standard_input_and_the_home_is_made(
    tmp_path: Path, program: Path
) -> None:
    home = tmp_path / "state" / "home"

    enrol_as(getpass.getuser(), program, home, "LINE", ["--pledge=600"])

    words, line = (tmp_path / "noted").read_text().split("\n")
    assert words == f"agent enrol --home {home} --token - --pledge=600"
    assert line == "LINE"
    assert home.stat().st_mode & 0o777 == 0o750


def test_enrolment_that_fails_names_the_command_to_repeat(
    tmp_path: Path, program: Path
) -> None:
    with pytest.raises(OperationError, match="--token LINE"):
        enrol_as(getpass.getuser(), program, tmp_path, "secret", ["--pledge=0"])


def test_program_that_the_user_cannot_run_is_named(
    tmp_path: Path, program: Path
) -> None:
    program.chmod(0o644)

    with pytest.raises(OperationError, match=f"cannot run {program}"):
        enrol_as(getpass.getuser(), program, tmp_path, "secret", [])

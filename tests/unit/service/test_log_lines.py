"""The journal's form of a line, and everybody else's."""

import argparse
import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from starling.protocol.errors import EXIT_CONFIG, ConfigError
from starling.service.log_lines import (
    LEVEL_VARIABLE,
    VARIABLE,
    add_verbosity,
    formatter,
    is_journal,
    least_level,
    level_prefix,
    use_verbosity,
)


def record(text: str, level: int = logging.WARNING) -> logging.LogRecord:
    return logging.LogRecord("agent", level, "", 0, text, None, None)


@pytest.mark.parametrize(
    ("level", "prefix"),
    [
        (logging.CRITICAL, "<2>"),
        (logging.ERROR, "<3>"),
        (logging.WARNING, "<4>"),
        (logging.INFO, "<6>"),
        (logging.DEBUG, "<7>"),
        (logging.INFO + 5, "<6>"),
    ],
)
def test_levels_are_those_of_the_journal(level: int, prefix: str) -> None:
    assert level_prefix(level) == prefix


def stream_of(descriptor: int) -> dict[str, str]:
    status = os.fstat(descriptor)
    return {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}


def test_line_for_the_journal_has_its_level_and_no_time(tmp_path: Path) -> None:
    with (tmp_path / "journal").open("w") as file:
        form = formatter(file.fileno(), stream_of(file.fileno()))

    assert form.format(record("away")) == "<4>agent: away"
    assert form.format(record("one\ntwo")) == "<4>agent: one\n<4>two"
    assert form.format(record("")) == "<4>agent: "


def test_record_as_json_is_one_line_of_utc_and_plain_keys(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as file:
        form = formatter(file.fileno(), {VARIABLE: "json"})
        under = formatter(file.fileno(), {VARIABLE: "json", **stream_of(file.fileno())})
    made = record('one\ntwo "\u2028"')
    made.created = 1_800_000_000.25

    line = form.format(made)

    assert line.isascii()
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2027-01-15T08:00:00.250Z",
        "level": "warning",
        "logger": "agent",
        "message": 'one\ntwo "\u2028"',
    }
    assert under.format(made) == f"<4>{line}"


def test_failure_as_json_has_its_trace() -> None:
    form = formatter(-1, {VARIABLE: "json"})
    made = record("lost")
    made.exc_info = (ValueError, ValueError("odd"), None)

    assert "ValueError: odd" in json.loads(form.format(made))["exception"]


def test_form_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigError, match=f"{VARIABLE}: 'xml' is neither"):
        formatter(-1, {VARIABLE: "xml"})


@pytest.mark.parametrize(
    ("words", "level"),
    [((), "INFO"), (("--quiet",), "WARNING"), (("--verbose",), "DEBUG")],
)
def test_options_say_how_much_is_logged(
    monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], level: str
) -> None:
    monkeypatch.setattr(os, "environ", {})
    parser = argparse.ArgumentParser()
    add_verbosity(parser)

    use_verbosity(parser.parse_args(words))

    assert least_level("info") == level


def test_quiet_and_verbose_are_not_asked_for_together() -> None:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_verbosity(parser)

    with pytest.raises(argparse.ArgumentError, match="not allowed with"):
        parser.parse_args(["--quiet", "--verbose"])


def test_level_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigError, match=f"{LEVEL_VARIABLE}: 'loud' is no level"):
        least_level("info", {LEVEL_VARIABLE: "loud"})


@pytest.mark.parametrize("stream", ["", "1:2", "odd"])
def test_line_for_others_has_date_and_time(stream: str, tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as file:
        form = formatter(file.fileno(), {"JOURNAL_STREAM": stream})

    pattern = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} WARNING agent: away"
    assert re.fullmatch(pattern, form.format(record("away")))


def test_closed_descriptor_is_no_journal(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as file:
        descriptor, environment = file.fileno(), stream_of(file.fileno())

    assert not is_journal(descriptor, environment)


def test_process_under_the_journal_writes_its_form(tmp_path: Path) -> None:
    code = (
        "import logging; from starling.service.log_lines import log_to_stderr;"
        "log_to_stderr('info'); log = logging.getLogger('x');"
        "log.info('first'); log.error('second'); log.debug('unheard')"
    )
    with (tmp_path / "journal").open("w+") as file:
        environment = {**os.environ, **stream_of(file.fileno())}
        subprocess.run(
            [sys.executable, "-c", code], stderr=file, env=environment, check=True
        )

        assert (tmp_path / "journal").read_text() == "<6>x: first\n<3>x: second\n"


def test_reason_why_a_service_ends_is_an_error_in_the_journal(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "starling", "agent", "run"]
    with (tmp_path / "journal").open("w+") as file:
        environment = {**os.environ, **stream_of(file.fileno())}
        ended = subprocess.run(
            [*command, "--home", str(tmp_path / "nowhere")],
            stderr=file,
            env=environment,
            check=False,
        )

    said = (tmp_path / "journal").read_text()
    assert ended.returncode == EXIT_CONFIG
    assert said.startswith("<3>starling agent: ")

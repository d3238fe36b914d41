"""The console command: one word picks the part, and every failure has its status."""

import errno
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from starling import __main__ as starling
from starling import __version__
from starling.coordinator.chain.governance.chain_parameters import RULES_VERSION
from starling.protocol.chain.genesis import FORMAT_VERSION
from starling.protocol.errors import (
    EXIT_CONFIG,
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_USAGE,
    ConfigError,
    OperationError,
    StorageError,
)
from starling.protocol.wire.envelope import ENVELOPE_VERSION

Main = Callable[[list[str]], int]
Install = Callable[[Main], None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a function in the place of `starling agent`."""

    def put(main: Main) -> None:
        module = ModuleType("starling.agent.cli")
        monkeypatch.setattr(module, "main", main, raising=False)
        monkeypatch.setitem(sys.modules, "starling.agent.cli", module)

    return put


def test_main_hands_the_other_words_to_the_command(install: Install) -> None:
    heard: list[str] = []

    def record(words: list[str]) -> int:
        heard.extend(words)
        return 3

    install(record)

    assert starling.main(["agent", "run", "--home", "x"]) == 3
    assert heard == ["run", "--home", "x"]


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (
            ConfigError("0 is not at least 1", file="a.toml", key="port"),
            EXIT_CONFIG,
            "starling agent: a.toml: port: 0 is not at least 1\n",
        ),
        (OperationError("not enrolled"), EXIT_FAILED, "starling agent: not enrolled\n"),
        (StorageError("disk full"), EXIT_FAILED, "starling agent: disk full\n"),
        (KeyboardInterrupt(), 130, ""),
        (
            PermissionError(errno.EACCES, "Permission denied", "h/state"),
            EXIT_FAILED,
            "starling agent: h/state: Permission denied; run as the user who owns it, "
            "or give this user the right to it\n",
        ),
        (
            OSError(errno.EMFILE, "Too many open files"),
            EXIT_FAILED,
            "starling agent: Too many open files; raise the limit of open files "
            "(LimitNOFILE=, ulimit -n)\n",
        ),
    ],
    ids=[
        "configuration",
        "operation",
        "storage",
        "interrupt",
        "another user's",
        "descriptors",
    ],
)
def test_main_of_a_failing_command_says_why_in_one_line(
    install: Install,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    message: str,
) -> None:
    def fail(words: list[str]) -> int:
        raise error

    install(fail)

    assert starling.main(["agent", "run"]) == code
    assert capsys.readouterr() == ("", message)


def test_main_shows_a_name_that_the_terminal_cannot(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    def show(words: list[str]) -> int:
        sys.stdout.write("caf\udce9 \u2500 \xe4\n")
        return EXIT_DONE

    install(show)
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, "latin-1"))

    assert starling.main(["agent"]) == EXIT_DONE
    assert shown.getvalue() == b"caf\\udce9 \\u2500 \xe4\n"


def test_main_whose_output_was_closed_says_it_to_nobody(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    def show(words: list[str]) -> int:
        sys.stdout.write("shown\n")
        raise OperationError("not enrolled")

    install(show)
    # As Python leaves them where the descriptors are closed.
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)

    assert starling.main(["agent"]) == EXIT_FAILED
    for opened in (sys.stdout, sys.stderr):
        opened.close()


def test_main_of_a_bug_does_not_hide_it(install: Install) -> None:
    def fail(words: list[str]) -> int:
        raise ZeroDivisionError

    install(fail)

    with pytest.raises(ZeroDivisionError):
        starling.main(["agent"])


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_main_asked_for_help_prints_every_command(
    word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert starling.main([word]) == EXIT_DONE

    out, err = capsys.readouterr()
    assert err == ""
    assert not [name for name in starling.COMMANDS if f"\n  {name} " not in out]


@pytest.mark.parametrize(
    ("words", "message"),
    [([], "usage: starling"), (["fly"], "starling: no command 'fly'\n\nusage:")],
    ids=["nothing", "unknown"],
)
def test_main_without_a_command_is_a_usage_error(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert starling.main(words) == EXIT_USAGE

    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(message)


@pytest.mark.parametrize("word", ["-V", "--version"])
def test_main_asked_for_the_version_prints_all_three(
    word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert starling.main([word]) == EXIT_DONE

    assert capsys.readouterr() == (
        f"starling {__version__}, chain format {FORMAT_VERSION} with rules "
        f"{RULES_VERSION}, wire {ENVELOPE_VERSION}\n",
        "",
    )


def test_main_asked_for_the_version_as_json(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert starling.main(["--version", "--json"]) == EXIT_DONE

    assert json.loads(capsys.readouterr().out) == {
        "version": __version__,
        "chain": {"format": FORMAT_VERSION, "rules": RULES_VERSION},
        "wire": ENVELOPE_VERSION,
    }


def test_main_asked_for_the_version_with_more_is_a_usage_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert starling.main(["--version", "--yaml"]) == EXIT_USAGE
    assert capsys.readouterr().err.startswith("starling --version: takes --json alone")


@pytest.mark.parametrize(
    ("word", "extra"), [("agent", "agent"), ("chain", "coordinator")]
)
def test_main_of_a_part_not_installed_names_the_extra(
    word: str,
    extra: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(starling.COMMANDS, word, ("missing_part.cli", ""))

    assert starling.main([word]) == EXIT_FAILED
    assert capsys.readouterr().err == (
        f"starling {word}: the package 'missing_part' is missing; "
        f"in a checkout run: pip install '.[{extra}]'\n"
    )


def test_main_imports_only_the_part_it_runs() -> None:
    code = (
        "import sys; from starling.__main__ import main; main(['--help']);"
        "parts = {'.'.join(name.split('.')[:2]) for name in sys.modules};"
        "ours = {'starling.agent', 'starling.coordinator', 'starling.fleet'};"
        "print(sorted(parts & {*ours, 'numpy', 'msgpack'}))"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert done.stdout.endswith("\n[]\n")


def test_main_whose_reader_has_gone_fails_quietly() -> None:
    reading, writing = os.pipe()
    os.close(reading)

    with os.fdopen(writing, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "starling", "--help"],
            stdout=closed,
            stderr=subprocess.PIPE,
            check=False,
        )

    assert (done.returncode, done.stderr) == (EXIT_FAILED, b"")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_home_of_another_user_is_one_line_and_no_traceback() -> None:
    # The first `init` imports what the other user may be kept from.
    code = (
        "import os, sys; from starling.__main__ import main;"
        "words = ['agent', 'init', '--json', '--home', sys.argv[1]]; main(words);"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534); sys.exit(main(words))"
    )
    # Not under pytest's folder, which other users may not enter.
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        Path(folder).chmod(0o755)
        done = subprocess.run(
            [sys.executable, "-c", code, home],
            capture_output=True,
            text=True,
            check=False,
        )

    assert done.returncode == EXIT_FAILED
    assert done.stderr.startswith("starling agent: ")
    assert done.stderr.endswith("or give this user the right to it\n")
    assert done.stderr.count("\n") == 1

"""Bash completes what the parsers know."""

import shutil
import subprocess
from pathlib import Path

import pytest

from starling import __main__ as starling
from starling.protocol.errors import EXIT_DONE, EXIT_USAGE


@pytest.fixture(scope="module")
def bash() -> str:
    found = shutil.which("bash")
    if found is None:
        pytest.skip("bash is not here: its completion is not tried")
    return found


def completed(bash: str, script: str, line: str, folder: Path) -> list[str]:
    """Completions of a line whose last word is being typed."""
    words = line.split(" ")
    asked = (
        f"{script}\nCOMP_WORDS=({' '.join(repr(word) for word in words)})\n"
        f"COMP_CWORD={len(words) - 1}\n_starling\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        [bash, "--norc", "-c", asked],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("starling ag", ["agent"]),
        ("starling agent", ["agent"]),
        ("starling agent in", ["init", "install"]),
        ("starling agent install --pri", ["--print-unit"]),
        ("starling broker check --js", ["--json"]),
        ("starling coordinator publish --bun", ["--bundle"]),
        ("starling compile own", ["own.onnx"]),
        ("starling agent status --home bo", ["board"]),
        ("starling nonsense", []),
    ],
)
def test_line_is_completed(
    bash: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    line: str,
    expected: list[str],
) -> None:
    (tmp_path / "own.onnx").touch()
    (tmp_path / "board").mkdir()
    assert starling.main(["completion", "bash"]) == EXIT_DONE

    found = completed(bash, capsys.readouterr().out, line, tmp_path)

    assert sorted(found) == expected


def test_every_command_is_offered(
    bash: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    starling.main(["completion", "bash"])

    found = completed(bash, capsys.readouterr().out, "starling ", tmp_path)

    assert set(found) == set(starling.COMMANDS)


def test_zsh_loads_the_same_by_its_own_means(
    capsys: pytest.CaptureFixture[str],
) -> None:
    starling.main(["completion", "bash"])
    for_bash = capsys.readouterr().out
    starling.main(["completion", "zsh"])

    assert capsys.readouterr().out.endswith(f"bashcompinit\n{for_bash}")


@pytest.mark.parametrize("words", [[], ["fish"], ["bash", "zsh"]])
def test_shell_that_is_not_known_is_a_usage_error(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert starling.main(["completion", *words]) == EXIT_USAGE

    assert "bash|zsh" in capsys.readouterr().err

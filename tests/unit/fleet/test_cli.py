"""`starling fleet` says what it takes, and refuses what it cannot do."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from starling.fleet.cli import main, parser
from starling.protocol.errors import EXIT_DONE, ConfigError


def test_parser_defaults_are_the_plans_own() -> None:
    options = parser().parse_args(["run"])
    assert (options.devices, options.buffer, options.data) == (0, 4, "digits")
    assert (options.privacy, options.epsilon, options.split) == ("record", 8.0, "")


def test_main_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from starling.fleet.cli import parser\n"
        "parser().format_help()\n"
        "print(sorted({'numpy', 'onnx', 'rich', 'sklearn'} & set(sys.modules)))\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert said.stdout == "[]\n"


def test_main_unknown_flag_is_a_usage_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["run", "--boards", "3"])
    assert caught.value.code == 2
    assert "--boards" in capsys.readouterr().err


def test_main_virtual_with_home_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--home"):
        main(["run", "--virtual", "--home", str(tmp_path)])


def test_main_quiet_run_says_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ["--devices", "4", "--buffer", "2", "--until-version", "1"]

    status = main(["run", "--virtual", *sizes, "--quiet", "--report", str(tmp_path)])

    assert status == EXIT_DONE
    assert capsys.readouterr() == ("", "")
    assert (tmp_path / "report.json").exists()


def test_main_virtual_json_prints_one_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ["--devices", "4", "--buffer", "2", "--until-version", "2"]
    status = main(["run", "--virtual", *sizes, "--json", "--report", str(tmp_path)])
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert status == EXIT_DONE
    assert document["config"]["devices"] == 4
    assert document["chain"]["verified"] is True
    assert json.loads((tmp_path / "report.json").read_text()) == document
    assert "version   2/2" in printed.err

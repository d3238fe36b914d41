"""`starling model` as an operator uses it: what it prints, writes and refuses."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from starling.__main__ import main
from starling.coordinator.runtime.storage.sqlite_schema import CHAIN_FILE
from starling.protocol.errors import EXIT_CONFIG, EXIT_DONE, EXIT_FAILED

Capture = pytest.CaptureFixture[str]


def _metadata(file: Path) -> dict[str, str]:
    return {item.key: item.value for item in onnx.load(file).metadata_props}


def test_list_names_the_best_and_what_is_kept(report: Path, capsys: Capture) -> None:
    assert main(["model", "list", "--report", str(report), "--json"]) == EXIT_DONE

    document = json.loads(capsys.readouterr().out)
    versions = document["versions"]
    assert [row["version"] for row in versions] == list(range(6))
    accuracies = [row["accuracy"] for row in versions]
    assert versions[document["best"]]["accuracy"] == max(accuracies)
    assert all(row["kept"] for row in versions)

    assert main(["model", "list", "--report", str(report)]) == EXIT_DONE
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.endswith("best")] == [
        lines[document["best"] + 1]
    ]


@pytest.mark.parametrize("version", ["best", "latest", "3", "0", None])
def test_export_writes_what_stock_onnx_runtime_runs(
    report: Path, tmp_path: Path, capsys: Capture, version: str | None
) -> None:
    out = tmp_path / "model.onnx"
    words = ["model", "export", "--report", str(report), "--out", str(out), "--json"]

    assert main([*words, *(["--version", version] if version else [])]) == EXIT_DONE

    said = capsys.readouterr()
    document = json.loads(said.out)
    assert "proven by the certificate of block" in said.err
    assert ("before any training" in said.err) == (version == "0")
    assert _metadata(out)["starling.version"] == str(document["version"])
    if version in ("3", "latest"):
        assert document["version"] == (3 if version == "3" else 5)
    session = onnxruntime.InferenceSession(str(out))
    (scores,) = session.run(None, {"x": np.zeros((2, 64), np.float32)})
    assert scores.shape == (2, 10)


def test_evaluate_equals_the_coordinators_own_figure(
    coordinator: Path, digits: Path, capsys: Capture
) -> None:
    words = ["--home", str(coordinator), "--data", str(digits)]

    assert main(["model", "evaluate", *words, "--json"]) == EXIT_DONE

    found = json.loads(capsys.readouterr().out)
    assert found["examples"] == 200
    assert sum(map(sum, found["confusion"])) == 200
    right = sum(row[each] for each, row in enumerate(found["confusion"]))
    assert found["accuracy"] == right / 200
    assert main(["model", "evaluate", *words]) == EXIT_DONE
    assert "confusion  true class by predicted" in capsys.readouterr().out


def test_quantised_export_is_smaller_and_says_what_it_cost(
    report: Path, digits: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "small.onnx"
    words = ["--report", str(report), "--out", str(out), "--data", str(digits)]

    assert main(["model", "export", *words, "--quantize", "int8"]) == EXIT_DONE

    assert "in float32" in capsys.readouterr().err
    told = _metadata(out)
    metrics = json.loads(told["starling.quantised_metrics"])
    assert metrics["before"]["examples"] == 200
    assert abs(metrics["before"]["accuracy"] - metrics["after"]["accuracy"]) < 0.1
    kinds = {node.op_type for node in onnx.load(out).graph.node}
    assert "DequantizeLinear" in kinds
    assert told["starling.chain"] == _metadata_of_plain(report, tmp_path)


def _metadata_of_plain(report: Path, folder: Path) -> str:
    out = folder / "plain.onnx"
    assert main(["model", "export", "--report", str(report), "--out", str(out)]) == 0
    return _metadata(out)["starling.chain"]


def test_card_is_printed_or_written(
    report: Path, digits: Path, tmp_path: Path, capsys: Capture
) -> None:
    words = ["model", "card", "--report", str(report), "--data", str(digits)]

    assert main(words) == EXIT_DONE
    printed = capsys.readouterr().out
    assert main([*words, "--out", str(tmp_path / "MODEL.md")]) == EXIT_DONE

    assert printed == (tmp_path / "MODEL.md").read_text()
    assert "On 200 examples of digits.npz:" in printed
    assert "10 updates of 4 boards" in printed or "updates of 4 boards" in printed


def test_board_home_gives_the_model_that_it_uses(
    board: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "board.onnx"

    assert main(["model", "list", "--home", str(board), "--json"]) == EXIT_DONE
    rows = json.loads(capsys.readouterr().out)["versions"]
    assert [(row["version"], row["kept"]) for row in rows] == [(5, True)]
    assert main(["model", "export", "--home", str(board), "--out", str(out)]) == 0
    assert _metadata(out)["starling.personal"] == "false"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--version", "9"], "there is no version 9, but 0 to 5"),
        (["--version", "newest"], "'newest' is not best, latest or N"),
        (["--task", "1"], "there is no task 1, but tasks 0 to 0"),
        (["--personal"], "only a board has parameters of its own"),
        (["--quantize", "int8"], "give --data"),
        (["--quantize", "int8", "--data", "absent.npz"], "absent.npz"),
        (["--genesis", "pyproject.toml"], "not a genesis"),
        (["--home", "elsewhere"], "give --home DIR or --report DIR"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_are_told_in_one_line(
    report: Path, tmp_path: Path, capsys: Capture, words: list[str], said: str
) -> None:
    out = tmp_path / "model.onnx"
    given = ["model", "export", "--report", str(report), "--out", str(out), *words]

    assert main(given) == EXIT_CONFIG

    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("starling model: ")
    assert said in last
    assert not out.exists()


@pytest.mark.parametrize("place", ["nothing", "empty folder", "no homes"])
def test_folders_without_a_model_are_told_in_one_line(
    tmp_path: Path, capsys: Capture, place: str
) -> None:
    flag = "--home"
    if place == "no homes":
        (tmp_path / "report.json").write_text("{}")
        flag = "--report"
    folder = tmp_path / "absent" if place == "nothing" else tmp_path

    assert main(["model", "list", flag, str(folder)]) == EXIT_CONFIG

    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("harm", ["cut", "zeros", "no chain", "other genesis"])
def test_damaged_homes_are_told_in_one_line(
    coordinator: Path, tmp_path: Path, capsys: Capture, harm: str
) -> None:
    home = tmp_path / "home"
    (home / "state").mkdir(parents=True)
    chain = (coordinator / "state" / CHAIN_FILE).read_bytes()
    genesis = (coordinator / "genesis").read_bytes()
    if harm == "cut":
        chain = chain[: len(chain) // 2]
    elif harm == "zeros":
        middle = len(chain) // 3
        chain = chain[:middle] + bytes(len(chain) - middle)
    elif harm == "other genesis":
        genesis = genesis[:-1] + bytes([genesis[-1] ^ 1])
    (home / "genesis").write_bytes(genesis)
    if harm != "no chain":
        (home / "state" / CHAIN_FILE).write_bytes(chain)
    out = tmp_path / "model.onnx"

    code = main(["model", "export", "--home", str(home), "--out", str(out)])

    assert code in (EXIT_CONFIG, EXIT_FAILED)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("starling model: ")
    assert not out.exists()


def test_data_without_a_usable_record_is_refused(
    report: Path, tmp_path: Path, capsys: Capture
) -> None:
    file = tmp_path / "odd.npz"
    np.savez(file, x=np.full((3, 64), np.nan), y=np.zeros(3))

    words = ["model", "evaluate", "--report", str(report), "--data", str(file)]

    assert main(words) == EXIT_CONFIG
    assert "has no usable record" in capsys.readouterr().err.splitlines()[-1]

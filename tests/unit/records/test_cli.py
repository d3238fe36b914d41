"""`starling data check`."""

import json
from pathlib import Path

import pytest

from starling import __main__ as starling

BANK = "age,city,who,kind\n" + "".join(
    f"{20 + at},{'Bern' if at % 3 else 'Basel'},p{at % 4},{'yes' if at % 2 else 'no'}\n"
    for at in range(24)
)


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    path = tmp_path / "bank.csv"
    path.write_text(BANK)
    return path


def test_check_says_what_would_be_learned(
    bank: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["data", "check", str(bank), "--board-column", "who"]

    assert starling.main([*words, "--categories", "one-hot"]) == 0

    text = capsys.readouterr().out
    assert "records   24 of 3 values" in text
    assert "inputs    age, city (2 categories)" in text
    assert "target    kind, one of 2 labels: no, yes" in text
    assert "  p1               6 records: yes 6" in text
    assert text.endswith("nothing stands in the way\n")


def test_check_as_json_gives_scales_and_boards(
    bank: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["data", "check", str(bank), "--target", "age", "--ignore", "city"]
    words += ["--ignore", "kind", "--bounds", "age=0:100", "--group", "who", "--json"]

    code = starling.main(words)

    found = json.loads(capsys.readouterr().out)
    assert code == 78
    assert found["problems"][0]["detail"] == "leaves no column to learn from"


def test_check_names_everything_that_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "own.csv"
    path.write_text("a,b,c,y\nx,7,1,1\nz,7,,2.5\nz,7,3,4\n")

    assert starling.main(["data", "check", str(path), "--json"]) == 78

    problems = json.loads(capsys.readouterr().out)["problems"]
    assert [(one["row"], one["column"]) for one in problems] == [
        (2, "a"),
        (2, "b"),
        (3, "c"),
    ]


def test_check_with_columns_declared_in_a_file(
    bank: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    declared = tmp_path / "columns.toml"
    declared.write_text(
        "[columns.age]\nbounds = [0, 100]\n[columns.who]\nignore = true\n"
        "[columns.city]\ncategories = ['Bern', 'Basel', 'Chur']\n"
    )
    words = ["data", "check", str(bank), "--scale", "declared", "--json"]

    assert starling.main([*words, "--columns", str(declared)]) == 0

    found = json.loads(capsys.readouterr().out)
    assert found["inputs"][1]["categories"] == ["Bern", "Basel", "Chur"]
    assert found["scale"] == [0.02, 1.0, 1.0, 1.0]
    assert found["offset"] == [-1.0, 0.0, 0.0, 0.0]
    assert found["notes"] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--bounds", "age=9:1"], "--bounds: 'age=9:1' is not NAME=LEAST:MOST"),
        (["--bounds", "age"], "--bounds: 'age' is not NAME=LEAST:MOST"),
        (["--columns", "absent.toml"], "absent.toml: No such file"),
        (["--stride", "3"], "--stride"),
    ],
)
def test_check_refuses_flags(
    bank: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert starling.main(["data", "check", str(bank), *words]) == 78
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("columns = 3", "expected tables"),
        ("[rows]", "unknown: rows"),
        ("[", "not TOML"),
    ],
)
def test_check_refuses_a_file_of_columns(
    bank: Path,
    tmp_path: Path,
    content: str,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "c.toml").write_text(content)
    words = ["data", "check", str(bank), "--columns", str(tmp_path / "c.toml")]

    assert starling.main(words) == 78
    assert said in capsys.readouterr().err

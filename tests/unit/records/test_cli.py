"""`starling data check`."""

import json
from pathlib import Path

import numpy as np
import pytest

from starling import __main__ as starling
from starling.protocol.errors import EXIT_CONFIG, EXIT_DONE

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


ROWS = [f"{at % 9}.5,{at % 7}" for at in range(24)]
UNPRINTABLE = "a,b,kind\n" + "".join(
    f"{row},c\u00a0{at % 2}\n" for at, row in enumerate(ROWS)
)
LONG = "a,b,kind\n" + "".join(
    f"{row},{str(at % 2) * 300}x\n" for at, row in enumerate(ROWS)
)
HUGE_TARGET = "a,b,y\n" + "".join(
    f"{row},{'1e39' if at == 3 else at / 3}\n" for at, row in enumerate(ROWS)
)
NO_VALUE = "a,b,kind\n" + "".join(f",{at % 7},c{at % 2}\n" for at in range(24))
COMMAS = "a;b;kind\n" + "".join(f"{at % 9},5;{at % 7};c{at % 2}\n" for at in range(24))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (UNPRINTABLE, "own.csv: the name or label 'c?0' holds the character U+00A0"),
        (LONG, "over 256 letters: shorten it"),
        (
            HUGE_TARGET,
            "own.csv: row 5, column 'y': a number beyond 3e38: mend the cell",
        ),
        (NO_VALUE, "row 2, column 'a': has no value in any row"),
        (COMMAS, "row 2, column 'a': '0,5' has a decimal comma: write a point"),
    ],
    ids=["not printable", "long", "huge target", "no value", "decimal commas"],
)
def test_check_refuses_what_no_fleet_would_take(
    text: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "own.csv"
    path.write_text(text)

    assert starling.main(["data", "check", str(path)]) == 78

    assert told in capsys.readouterr().out


def test_whole_numbers_that_float32_rounds_are_no_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "own.csv"
    rows = [f"{row},{(1 << 25) * (1 + at % 2)}\n" for at, row in enumerate(ROWS)]
    path.write_text("a,b,y\n" + "".join(rows))

    assert starling.main(["data", "check", str(path)]) == 0
    assert "y, numbers (regression)" in capsys.readouterr().out

    assert starling.main(["data", "check", str(path), "--loss", "cross-entropy"]) == 78
    assert "a whole number of up to 2**24" in capsys.readouterr().out


@pytest.mark.filterwarnings("error")
def test_scale_of_great_numbers_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "own.csv"
    rows = [f"{row},{'-' * (at % 2)}3e38,{at / 7}\n" for at, row in enumerate(ROWS)]
    path.write_text("a,b,c,y\n" + "".join(rows))

    assert starling.main(["data", "check", str(path), "--json"]) == 0

    scales = json.loads(capsys.readouterr().out)["scale"]
    assert all(scale > 0 for scale in scales)
    assert scales[2] < 1e-38


def test_names_of_boards_stay_on_their_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("x\nnothing stands in the way", "\x1b[2Jy"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "own.csv").write_text(BANK)
    words = ["data", "check", str(tmp_path), "--categories", "one-hot"]

    assert starling.main([*words, "--ignore", "who"]) == 0

    text = capsys.readouterr().out
    assert "  x?nothing stands in the way 24 records" in text
    assert "\x1b" not in text


def test_loss_that_there_is_not_is_refused(bank: Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        starling.main(["data", "check", str(bank), "--loss", "hinge"])


def test_targets_of_yes_and_no_are_scaled_by_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "days.csv"
    rows = [f"{n}.5,{n % 2},{n % 3 % 2}" for n in range(30)]
    file.write_text("\n".join(["a,wet,hot", *rows]))
    flags = ["--target", "wet", "--target", "hot", "--loss", "bce"]

    assert starling.main(["data", "check", str(file), *flags]) == EXIT_DONE

    said = capsys.readouterr().out
    assert "target    wet, hot, numbers from 0 to 1 (yes or no)" in said
    assert "scales of a were measured" in said


def test_target_beyond_yes_and_no_is_named_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, arrays = tmp_path / "days.csv", tmp_path / "days.npz"
    table.write_text("a,hot\n1,0\n2,1\n3,2\n")
    np.savez(arrays, x=np.ones((3, 2)), y=np.array([0.0, 1.0, 2.0]))

    assert starling.main(["data", "check", str(table), "--loss", "bce"]) == EXIT_CONFIG
    assert "row 4, column 'hot': is not from 0 to 1" in capsys.readouterr().out
    assert starling.main(["data", "check", str(arrays), "--loss", "bce"]) == EXIT_CONFIG
    assert "y of record 3 is not from 0 to 1" in capsys.readouterr().out


def test_groups_are_what_is_dealt_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "people.csv"
    rows = [f"{n}.5,p{n % 4},{n % 2}" for n in range(40)]
    file.write_text("\n".join(["a,person,y", *rows]))

    starling.main(["data", "check", str(file), "--group", "person"])

    assert "none named: groups are dealt out" in capsys.readouterr().out

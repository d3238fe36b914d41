"""The mutation gate's table is sound, and its quick part kills."""

from pathlib import Path

import pytest

from tests.mutants.mutant import Mutant
from tests.mutants.run import MUTANTS, ROOT, copy_of_tree, planted, verdict

QUICK = [mutant for mutant in MUTANTS if mutant.quick]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of_tree(tmp_path_factory.mktemp("mutants"))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_still_applies(mutant: Mutant) -> None:
    source = (ROOT / mutant.file).read_text(encoding="utf-8")

    assert source.count(mutant.old) == 1
    assert mutant.new != mutant.old
    for test in mutant.tests:
        path, _, name = test.partition("::")
        assert (ROOT / path).exists()
        if name:
            found = (ROOT / path).read_text(encoding="utf-8")
            assert f"def {name.partition('[')[0]}(" in found


def test_names_of_mutants_are_unique() -> None:
    names = [mutant.name for mutant in MUTANTS]

    assert len(set(names)) == len(names)


def test_planted_bug_is_taken_out_again(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("limit = 8\n", encoding="utf-8")
    mutant = Mutant("a limit", "a.py", "limit = 8", "limit = 9", ())

    with planted(tmp_path, mutant):
        inside = (tmp_path / "a.py").read_text(encoding="utf-8")

    assert inside == "limit = 9\n"
    assert (tmp_path / "a.py").read_text(encoding="utf-8") == "limit = 8\n"


@pytest.mark.slow
@pytest.mark.parametrize("mutant", QUICK, ids=lambda mutant: mutant.name)
def test_mutant_is_killed(mutant: Mutant, tree: Path) -> None:
    assert verdict(tree, mutant) == "killed"

import runpy
import sys

import pytest

from tests.unit.test_language import ROOT

NAMES = sorted(
    path.stem
    for path in (ROOT / "benchmarks").glob("*.py")
    if '__name__ == "__main__"' in path.read_text("utf-8")
)


def test_benchmarks_are_found() -> None:
    assert {"ingest", "virtual", "wire"} <= {*NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_benchmark_asked_for_help_gives_it_and_measures_nothing(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
    # Some import another one, which then is a module already.
    monkeypatch.delitem(sys.modules, f"benchmarks.{name}", raising=False)

    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"benchmarks.{name}", run_name="__main__", alter_sys=True)

    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("usage: ")

"""A module that a library imports and has no use for is left out, and real later."""

import subprocess
import sys

import pytest

from starling.broker.module_stand_in import stand_in

NEVER_INSTALLED = "no_such_module_anywhere"


def test_module_is_empty_while_open_and_real_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)

    with stand_in("colorsys", unless=NEVER_INSTALLED):
        import colorsys as empty
    import colorsys

    assert not hasattr(empty, "rgb_to_hsv")
    assert hasattr(colorsys, "rgb_to_hsv")


def test_module_is_real_for_who_makes_use_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)

    with stand_in("colorsys", unless="json"):
        import colorsys

    assert hasattr(colorsys, "rgb_to_hsv")


def test_module_that_was_imported_before_stays() -> None:
    before = sys.modules["subprocess"]

    with stand_in("subprocess", unless=NEVER_INSTALLED):
        assert sys.modules["subprocess"] is before
    assert sys.modules["subprocess"] is before


def test_idle_board_imports_nothing_that_only_others_need() -> None:
    heavy = {"asyncio", "difflib", "email", "http", "numpy", "onnx", "onnxruntime"}
    program = (
        "import sys, starling.__main__, starling.agent.cli\n"
        "import starling.agent.runtime.process\n"
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "[]"

"""No file has over 400 lines, no function over 60, no folder over 15 modules."""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.unit.test_language import PACKAGES, ROOT

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
FOLDER_MODULES_MAX = 15
FOLDERS = (
    *PACKAGES,
    "benchmarks",
    "examples",
    "packaging",
    "tests",
)


def texts(*folders: str) -> Iterator[tuple[Path, str]]:
    # Links are not followed, so that `src` adds its own two modules only.
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT), path.read_text("utf-8")


def functions() -> Iterator[tuple[str, int]]:
    """Every function and its length, with its docstring, without its decorators."""
    for path, text in texts(*FOLDERS):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                length = node.end_lineno - node.lineno + 1
                yield f"{path} {node.name}", length


def test_file_is_short() -> None:
    lengths = {str(path): text.count("\n") for path, text in texts(*FOLDERS)}
    assert len(lengths) > 1000

    long = {name for name, lines in lengths.items() if lines > FILE_LINES_MAX}
    assert long == set()


def test_function_is_short() -> None:
    lengths = list(functions())
    assert len(lengths) > 5000

    long = {name for name, lines in lengths if lines > FUNCTION_LINES_MAX}
    assert long == set()


def test_folder_has_few_modules() -> None:
    # Each module of `benchmarks` is a command, `python -m benchmarks.NAME`.
    folders = [each for each in FOLDERS if each != "benchmarks"]
    paths = [path for path, _ in texts(*folders) if path.name != "__init__.py"]
    counts = Counter(str(path.parent) for path in paths)
    assert len(counts) > 50

    long = {name for name, modules in counts.items() if modules > FOLDER_MODULES_MAX}
    assert long == set()

"""No source file has over 400 lines, and no function, of tests too, over 60."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.unit.test_language import PACKAGES, ROOT

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
SOURCES = (
    *PACKAGES,
    "benchmarks",
    "console",
    "examples",
    "export",
    "packaging",
    "service",
)


def texts(*folders: str) -> Iterator[tuple[Path, str]]:
    # Links are not followed, so that `src` adds its own two modules only.
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT), path.read_text("utf-8")


def functions() -> Iterator[tuple[str, int]]:
    """Every function's place and length, with its docstring, without its decorators."""
    for path, text in texts(*SOURCES, "tests"):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                length = node.end_lineno - node.lineno + 1
                yield f"{path}:{node.lineno} {node.name}", length


def test_source_file_is_short() -> None:
    lengths = {str(path): text.count("\n") for path, text in texts(*SOURCES)}
    assert len(lengths) > 500

    assert {k: n for k, n in lengths.items() if n > FILE_LINES_MAX} == {}


def test_function_is_short() -> None:
    lengths = dict(functions())
    assert len(lengths) > 5000

    assert {k: n for k, n in lengths.items() if n > FUNCTION_LINES_MAX} == {}

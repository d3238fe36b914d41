"""Names and first lines of docstrings are plain terms of the field."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "agent",
    "broker",
    "compiler",
    "coordinator",
    "durable",
    "engine",
    "firmware_profiles",
    "fleet",
    "protocol",
    "records",
    "sandbox",
    "src",
)
QUESTION_WORDS = frozenset(
    ("how", "that", "what", "when", "where", "whether", "which", "who", "whom", "why")
)
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def sources() -> Iterator[tuple[Path, ast.Module]]:
    for package in PACKAGES:
        # Links are not followed, so that `src` adds its own two modules only.
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT), ast.parse(path.read_text("utf-8"))


def first_lines() -> Iterator[tuple[str, str]]:
    for path, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, Documented) and (text := ast.get_docstring(node)):
                yield f"{path}:{node.body[0].lineno}", text.splitlines()[0]


def test_docstring_begins_with_a_noun_or_a_verb() -> None:
    questions = [
        f"{place}: {line}"
        for place, line in first_lines()
        if line.replace("`", "").split()[0].strip(",.;:").lower() in QUESTION_WORDS
    ]

    assert questions == []


def test_public_class_name_is_used_once() -> None:
    places: dict[str, list[str]] = {}
    for path, tree in sources():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(str(path))

    assert {name: found for name, found in places.items() if len(found) > 1} == {}

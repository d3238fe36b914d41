"""Names and first lines of docstrings are plain terms of the field."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "agent",
    "broker",
    "compiler",
    "console",
    "coordinator",
    "durable",
    "engine",
    "export",
    "board_profiles",
    "fleet",
    "protocol",
    "records",
    "sandbox",
    "service",
    "src",
)
QUESTION_WORDS = frozenset(
    (
        "how",
        "that",
        "what",
        "when",
        "where",
        "whether",
        "which",
        "who",
        "whom",
        "whose",
        "why",
    )
)
PRIVATE_WORDS = frozenset(
    ("anew", "befall", "came", "hear", "heard", "hears", "lacks", "mind", "minded")
) | frozenset(("tell", "telling", "tells", "told", "want", "wanted", "whoever"))
"""In names of functions there is a standard verb for each: handle, send, request."""
OF_A_LIBRARY = frozenset(("want_write",))
"""As paho calls what they pass on."""
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@cache
def sources() -> list[tuple[Path, ast.Module]]:
    # Links are not followed, so that `src` adds its own two modules only.
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    return [
        (path.relative_to(ROOT), ast.parse(path.read_text("utf-8")))
        for path in sorted(paths)
    ]


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


def words_of(name: str) -> set[str]:
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z0-9]*|[a-z0-9]+", name)
    return {part.lower() for part in parts}


def stem(word: str) -> str:
    """Forms of one word share their first five letters."""
    return (word.rstrip("s") or word)[:5]


def glossary() -> tuple[set[str], set[str]]:
    """Stems of the words on the page, and the words that names must not have."""
    used, not_used = "", ""
    for line in (ROOT / "docs" / "glossary.md").read_text("utf-8").splitlines():
        if line.startswith("| "):
            term, meaning, others = line.strip("|").split("|")
            used, not_used = f"{used} {term} {meaning}", f"{not_used} {others}"
        else:
            used = f"{used} {line}"
    allowed = {stem(word) for word in re.findall(r"[a-z0-9]+", used.lower())}
    return allowed, set(re.findall(r"[a-z]+", not_used)) - {"not"}


def public_names() -> Iterator[tuple[str, set[str]]]:
    for path, tree in sources():
        if not path.stem.startswith("__"):
            yield str(path), words_of(path.stem)
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield f"{path}: {node.name}", words_of(node.name)


def test_name_has_only_words_of_the_glossary() -> None:
    allowed, _ = glossary()

    unknown = {
        name: missing
        for name, words in public_names()
        if (missing := {word for word in words if stem(word) not in allowed})
    }

    assert unknown == {}, "use the glossary's term, or add the word to docs/glossary.md"


def test_name_has_no_word_that_the_glossary_replaces() -> None:
    _, not_used = glossary()
    assert not_used >= {"wanting", "whole", "purse"}

    assert {name for name, words in public_names() if words & not_used} == set()


def test_function_has_a_standard_verb() -> None:
    names = {
        f"{path}: {node.name}"
        for path, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name not in OF_A_LIBRARY
        and words_of(node.name) & PRIVATE_WORDS
    }

    assert names == set()


def test_glossary_has_each_term_once() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text("utf-8")
    terms = [
        term.strip()
        for row in re.findall(r"^\| ([^|]+) \|", text, re.MULTILINE)
        for term in row.split(",")
        if row.strip() != "term"
    ]

    assert [term for term in set(terms) if terms.count(term) > 1] == []

"""What docstrings and comments name as code of ours is there."""

import ast
import builtins
import re
from collections.abc import Iterator

from tests.unit.test_language import PACKAGES, ROOT, Documented, sources

NAMED = re.compile(r"`(?:[a-z_0-9]+\.)*([a-z_0-9]+)\.([A-Za-z_]\w*)(?:\(\))?`")
KEYS = {"chain.format", "home.enrolled", "metrics.textfile"}
"""Of documents, settings and checks, in which the first word is a module's, too."""
SUFFIXES = {"acl", "conf", "json", "jsonl", "md", "npz", "pem", "py", "service", "toml"}
RAISES = re.compile(r"^Raises:\n((?:[ ]+.*\n?|\n)+)", re.MULTILINE)
RAISED = re.compile(r"^  ([A-Za-z_][\w., ]*):", re.MULTILINE)
MODULES = {path.stem for path, _ in sources()} - {"__init__", *PACKAGES}


def names_by_place() -> dict[str, set[str]]:
    """Names that modules define, by module and by each folder above it."""
    found: dict[str, set[str]] = {}
    for path, tree in sources():
        names = {path.stem}
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                names.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
        for part in (path.stem, *path.parent.parts):
            found.setdefault(part, set()).update(names)
    return found


def test_docstring_names_code_that_is_there() -> None:
    names = names_by_place()

    missing = {
        f"{path}: {place}.{name}"
        for path, _ in sources()
        for place, name in NAMED.findall((ROOT / path).read_text("utf-8"))
        if (place in MODULES or (place in names and name[0].isupper()))
        and name not in names[place] | SUFFIXES
        and f"{place}.{name}" not in KEYS
    }

    assert missing == set()


def raised(tree: ast.Module) -> Iterator[str]:
    """Names of errors in the `Raises` sections of a module."""
    for node in ast.walk(tree):
        text = ast.get_docstring(node) if isinstance(node, Documented) else None
        for section in RAISES.findall(text or ""):
            for names in RAISED.findall(section):
                yield from re.split(r", | or ", names)


def imported(tree: ast.Module) -> set[str]:
    return {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }


def test_error_that_a_docstring_says_is_raised_is_there() -> None:
    classes = {
        node.name
        for _, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    ours = classes | set(dir(builtins))

    missing = {
        f"{path}: {name}"
        for path, tree in sources()
        for name in raised(tree)
        if name.split(".")[0] not in ours | imported(tree)
    }

    assert missing == set()

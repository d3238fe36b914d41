"""What docstrings and comments name as code of ours is there."""

import ast
import re

from tests.unit.test_language import PACKAGES, ROOT, sources

NAMED = re.compile(r"`(?:[a-z_0-9]+\.)*([a-z_0-9]+)\.([A-Za-z_]\w*)(?:\(\))?`")
KEYS = {"chain.format", "metrics.textfile"}
"""Of documents and settings, in which the first word is a module's, too."""
SUFFIXES = {"acl", "conf", "json", "jsonl", "md", "npz", "pem", "py", "service", "toml"}
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

"""Links and paths in README and docs lead somewhere."""

import re
from pathlib import Path

import pytest

import starling

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "examples").rglob("*.md"),
    ]
)
LINK = re.compile(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"")
PATH = re.compile(r"`((?:[a-z_]+/)+(?:[a-z_]+\.py)?)`")
PAGES_WITH_PATHS = ["architecture.md", "design.md"]


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_pages_and_headings(page: Path) -> None:
    broken = []
    for groups in LINK.findall(page.read_text("utf-8")):
        target = groups[0] or groups[1]
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        path = page.parent / name if name else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(target)

    assert broken == []


def test_site_has_every_page_in_its_navigation() -> None:
    _, navigation = (ROOT / "mkdocs.yml").read_text("utf-8").split("\nnav:\n")
    listed = re.findall(r"^ +- [^:]+: (\S+)$", navigation, re.MULTILINE)

    docs = ROOT / "docs"
    pages = [str(page.relative_to(docs)) for page in docs.rglob("*.md")]
    assert sorted(listed) == sorted(pages)


def test_page_of_python_documents_every_stable_name() -> None:
    page = (ROOT / "docs" / "python.md").read_text("utf-8")
    documented = re.findall(r"^::: starling\.(\w+)$", page, re.MULTILINE)

    assert sorted([*documented, "__version__"]) == sorted(starling.__all__)


@pytest.mark.parametrize("name", PAGES_WITH_PATHS)
def test_paths_of_the_source_exist(name: str) -> None:
    paths = PATH.findall((ROOT / "docs" / name).read_text("utf-8"))

    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_names_that_the_argument_of_consensus_leads_to_exist() -> None:
    page = (ROOT / "docs" / "consensus.md").read_text("utf-8")
    sources: dict[str, str] = {}
    for package in ("coordinator", "protocol", "tests"):
        for path in (ROOT / package).rglob("*.py"):
            sources[path.stem] = sources.get(path.stem, "") + path.read_text("utf-8")
    names = re.findall(r"`([a-z_]+)\.(\w+)(?:\.\w+)*`", page)

    assert len(names) > 40
    assert [
        (module, name)
        for module, name in names
        if not (name == "py" and module in sources)
        and not re.search(rf"\b{name}\b", sources.get(module, ""))
    ] == []


def test_readme_leads_to_every_page() -> None:
    """Directly, or over a page that it leads to."""
    reached, waiting = set[Path](), [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or not page.is_file() or page.suffix != ".md":
            continue
        reached.add(page)
        targets = re.findall(r"\]\(([^)#\s]+\.md)", page.read_text("utf-8"))
        waiting += [(page.parent / target).resolve() for target in targets]

    assert {page for page in PAGES if page.resolve() not in reached} == set()

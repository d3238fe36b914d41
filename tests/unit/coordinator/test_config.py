import dataclasses
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from starling.coordinator.config import CoordinatorConfig
from starling.coordinator.publication.task_settings import TaskSettings
from starling.protocol.errors import ConfigError
from starling.protocol.schema.toml_settings import load_settings, sample

PAGE = Path(__file__).parents[3] / "docs" / "coordinator.md"


def rows(cls: type[Any], prefix: str = "") -> list[str]:
    """The table of a settings class as the page must show it."""
    kinds = get_type_hints(cls)
    found, nested = [], []
    for entry in dataclasses.fields(cls):
        meaning = entry.metadata["starling"]
        if dataclasses.is_dataclass(kind := kinds[entry.name]):
            assert isinstance(kind, type)
            nested += rows(kind, f"{prefix}{entry.name}.")
            continue
        default = '`""`' if entry.default == "" else f"`{entry.default}`"
        if entry.default is dataclasses.MISSING:
            default = "required"
        bounds = meaning.bounds().replace("|", "\\|")
        found.append(
            f"| `{prefix}{entry.name}` | {default} | {bounds} | {meaning.doc} |"
        )
    return found + nested


@pytest.mark.parametrize("cls", [CoordinatorConfig, TaskSettings])
def test_page_every_key_stands_there_as_it_is(cls: type[Any]) -> None:
    page = PAGE.read_text().splitlines()

    assert [row for row in rows(cls) if row not in page] == []


def test_sample_reads_back_as_the_defaults() -> None:
    text = sample(CoordinatorConfig)

    assert load_settings(CoordinatorConfig, text, "x.toml") == CoordinatorConfig()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("log = 3", "x.toml: log: expected a text"),
        ('log = "loud"', "x.toml: log: expected debug"),
        ("[leases]\nduration_s = 4", "x.toml: leases.duration_s: 4 is not at least 5"),
        ("[leases]\nduration = 9", "did you mean 'duration_s'"),
        ("leases = 3", "x.toml: leases: expected a table"),
        ("log = ", "x.toml: not TOML"),
    ],
    ids=["kind", "choice", "bound", "typo", "no table", "no TOML"],
)
def test_config_broken_names_file_key_and_bound(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_settings(CoordinatorConfig, text, "x.toml")

import pytest

from starling.coordinator.config import CoordinatorConfig
from starling.protocol.errors import ConfigError
from starling.protocol.schema.toml_settings import load_settings, sample


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

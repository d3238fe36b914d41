"""A task's draft: what is wrong with its files is said before anything is handed in."""

from pathlib import Path

import pytest

from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.operations.task_publication import draft
from starling.coordinator.task_file.task_settings import TaskSettings
from starling.protocol.errors import ConfigError
from starling.protocol.schema.toml_settings import sample


@pytest.mark.parametrize("bundle", ["", "missing", "manifest.json"])
def test_folder_that_holds_no_bundle_is_named(tmp_path: Path, bundle: str) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    text = sample(TaskSettings, {"name": "t"})

    with pytest.raises(ConfigError, match=r"no bundle: .* `starling compile --out`"):
        draft(CoordinatorHome(tmp_path), tmp_path / bundle, text, "t.toml", force=False)

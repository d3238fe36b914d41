"""Wheel and sdist install next to anything, and run from any folder."""

import json
import zipfile
from pathlib import Path

import pytest

import starling
from starling.board_profiles.catalog import catalog
from tests.install.environments import (
    Environment,
    borrowed_packages,
    build,
    empty_environment,
    require_hatchling,
    strangers_wheel,
)

pytestmark = pytest.mark.slow

STRANGERS = ("protocol", "agent")
BUNDLE_AND_DATA = """
from pathlib import Path

import numpy as np

import starling
from starling.fleet.reference_models import build_model

rng = np.random.default_rng(1)
model = build_model("softmax", (8,), 3, rng)
bundle = starling.compile_model(model, loss="cross-entropy")
starling.write_bundle(bundle, Path("bundle"))
Path("data").mkdir()
x, y = rng.normal(size=(40, 8)).astype(np.float32), rng.integers(0, 3, 40)
np.savez("data/part.npz", x=x, y=y)
"""


@pytest.fixture(scope="module")
def borrowed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require_hatchling()
    return borrowed_packages(tmp_path_factory.mktemp("borrowed") / "packages")


@pytest.fixture(scope="module", params=["wheel", "sdist"])
def distribution(
    request: pytest.FixtureRequest,
    borrowed: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    return build(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def installed(
    distribution: Path, borrowed: Path, tmp_path_factory: pytest.TempPathFactory
) -> Environment:
    """Starling between two strangers: one came before it, one after it."""
    folder = tmp_path_factory.mktemp("installed")
    environment = empty_environment(folder / "environment", borrowed)
    before, after = (strangers_wheel(name, folder) for name in STRANGERS)
    for made in (before, distribution, after):
        environment.pip("install", str(made))
    return environment


@pytest.fixture
def hostile_folder(tmp_path: Path) -> Path:
    """A folder whose own packages have our names and end whatever imports them."""
    for name in ("agent", "protocol", "fleet"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit(99)\n")
    return tmp_path


def test_wheel_holds_one_package_with_its_types_and_no_tests(
    borrowed: Path, tmp_path: Path
) -> None:
    names = zipfile.ZipFile(build("wheel", tmp_path)).namelist()

    tops = {name.split("/")[0] for name in names}
    assert tops == {"starling", f"starling_fl-{starling.__version__}.dist-info"}
    assert "starling/py.typed" in names
    assert "starling/agent/__init__.py" in names


def test_strangers_keep_their_files(installed: Environment) -> None:
    code = "import protocol, agent; print(protocol.OWNER, '|', agent.OWNER)"

    done = installed.run("python", "-c", code, cwd=installed.folder)

    assert done.stdout == "the stranger protocol | the stranger agent\n"


@pytest.mark.parametrize(
    "words", [("starling",), ("python", "-m", "starling")], ids=["script", "module"]
)
def test_command_runs_from_a_folder_with_packages_of_our_names(
    words: tuple[str, ...], installed: Environment, hostile_folder: Path
) -> None:
    done = installed.run(*words, "--version", "--json", cwd=hostile_folder)

    assert json.loads(done.stdout)["version"] == starling.__version__


def test_installed_package_is_the_one_that_runs(
    installed: Environment, tmp_path: Path
) -> None:
    code = "import starling.agent; print(starling.agent.__file__)"

    done = installed.run("python", "-c", code, cwd=tmp_path)

    assert Path(done.stdout).is_relative_to(installed.folder)


def test_fleet_trains_on_the_digits_that_come_with_it(
    installed: Environment, hostile_folder: Path
) -> None:
    done = installed.run(
        "starling",
        *("fleet", "run", "--virtual", "--data", "digits", "--privacy", "none"),
        *("--devices", "6", "--buffer", "3", "--until-version", "2", "--json"),
        cwd=hostile_folder,
    )

    assert json.loads(done.stdout)["versions"][-1]["version"] == 2


def test_board_trains_in_a_confined_process(
    installed: Environment, hostile_folder: Path
) -> None:
    (hostile_folder / "make.py").write_text(BUNDLE_AND_DATA)
    installed.run("python", "-P", "make.py", cwd=hostile_folder)

    done = installed.run(
        "starling",
        *("agent", "train-once", "--bundle", "bundle", "--data", "data"),
        "--json",
        cwd=hostile_folder,
    )

    assert json.loads(done.stdout)["records"] == 40


def test_boards_profiles_come_with_it(
    installed: Environment, hostile_folder: Path
) -> None:
    code = "from starling.board_profiles.catalog import catalog; print(*catalog())"

    done = installed.run("python", "-P", "-c", code, cwd=hostile_folder)

    assert done.stdout.split() == list(catalog())


def test_strangers_leave_and_starling_stays(borrowed: Path, tmp_path: Path) -> None:
    environment = empty_environment(tmp_path / "environment", borrowed)
    environment.pip("install", str(build("wheel", tmp_path)))
    for name in STRANGERS:
        environment.pip("install", str(strangers_wheel(name, tmp_path)))
        environment.pip("uninstall", "--yes", name)

    done = environment.run("starling", "agent", "--help", cwd=tmp_path)

    assert done.stdout.startswith("usage: starling agent")

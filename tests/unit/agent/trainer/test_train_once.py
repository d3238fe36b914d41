"""`starling agent train-once`: training on a folder, without any fleet."""

import json
from pathlib import Path

import numpy as np
import pytest

from starling import __main__ as starling
from starling.agent import open_trainer
from starling.compiler import compile_model
from starling.protocol.errors import EXIT_CONFIG, EXIT_DONE, EXIT_FAILED
from starling.protocol.model.training_bundle import pack_bundle
from tests.unit.compiler.small_models import build, node, weight

Capture = pytest.CaptureFixture[str]
FEATURES, CLASSES, RECORDS = 4, 2, 64


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle, and two classes that a line parts."""
    rng = np.random.default_rng(5)
    model = build(
        [node("Gemm", ["x", "w", "b"], ["out"])],
        {"w": weight(rng, FEATURES, CLASSES), "b": np.zeros(CLASSES, np.float32)},
        (FEATURES,),
        (CLASSES,),
    )
    files = dict(compile_model(model, loss="cross-entropy").files)
    (tmp_path / "bundle").write_bytes(pack_bundle(files))
    (tmp_path / "data").mkdir()
    x = rng.normal(size=(RECORDS, FEATURES)).astype(np.float32)
    np.savez(tmp_path / "data" / "a.npz", x=x, y=(x.sum(axis=1) > 0).astype(np.int64))
    return tmp_path


def once(folder: Path, *words: str) -> int:
    places = ("--bundle", str(folder / "bundle"), "--data", str(folder / "data"))
    return starling.main(["agent", "train-once", *places, *words])


@pytest.mark.parametrize("optimiser", ["sgd", "momentum", "adam", "adamw"])
def test_training_lowers_the_loss_with_every_optimiser(
    folder: Path, capsys: Capture, optimiser: str
) -> None:
    words = ("--epochs", "10", "--batch", "8", "--schedule", "cosine", "--json")

    assert once(folder, "--optimiser", optimiser, *words) == EXIT_DONE

    found = json.loads(capsys.readouterr().out)
    assert found["loss_after"] < found["loss_before"] / 2
    assert found["accuracy_after"] > 0.9
    assert found["records"] == RECORDS


def test_trained_parameters_are_written_where_they_are_asked_for(
    folder: Path, capsys: Capture
) -> None:
    out = folder / "trained.npy"

    assert once(folder, "--epochs", "10", "--out", str(out)) == EXIT_DONE

    theta = np.load(out)
    trainer = open_trainer(folder / "bundle")
    assert (theta.shape, theta.dtype) == (trainer.theta.shape, np.float32)
    assert "loss after" in capsys.readouterr().out
    with np.load(folder / "data" / "a.npz") as data:
        found = trainer.infer(theta, data["x"]).argmax(axis=1)
        assert (found == data["y"]).mean() > 0.8


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--epochs", "0"), "--epochs"),
        (("--batch", "0"), "--batch"),
        (("--threads", "65"), "--threads"),
        (("--learning-rate", "0"), "--learning-rate"),
        (("--engine", "steam"), "'steam' is none of ort, ort-training"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_argument_is_named(
    folder: Path, capsys: Capture, words: tuple[str, ...], said: str
) -> None:
    assert once(folder, *words) == EXIT_CONFIG

    assert said in capsys.readouterr().err


@pytest.mark.parametrize("first", ["1,,3,4,0", "1,2,3,4,yes"])
def test_first_row_that_may_be_a_record_is_refused_by_its_place(
    folder: Path, capsys: Capture, first: str
) -> None:
    text = f"{first}\n1,2,3,4,1\n2,3,4,5,0\n"
    (folder / "data" / "b.csv").write_text(text)

    assert once(folder, "--json") == EXIT_CONFIG

    assert "b.csv: row 1" in capsys.readouterr().err


def test_divergence_fails_names_the_record_and_writes_nothing(
    folder: Path, capsys: Capture
) -> None:
    with np.load(folder / "data" / "a.npz") as data:
        x, y = data["x"].copy(), data["y"].copy()
    x[3] = 3e38
    np.savez(folder / "data" / "a.npz", x=x, y=y)
    out = folder / "trained.npy"

    words = ("--learning-rate", "100", "--epochs", "50", "--out", str(out), "--json")
    assert once(folder, *words) == EXIT_FAILED

    shown = capsys.readouterr()
    assert shown.out == ""
    assert "diverged" in shown.err
    assert "record 4 of 64 holds 3e+38" in shown.err
    assert not out.exists()


def test_private_trial_learns_and_says_what_it_would_cost(
    folder: Path, capsys: Capture
) -> None:
    words = ("--epsilon", "50", "--clip", "0.5", "--learning-rate", "20", "--json")

    assert once(folder, *words) == EXIT_DONE

    found = json.loads(capsys.readouterr().out)
    assert found["loss_after"] < found["loss_before"]
    assert (found["epsilon"], found["releases"], found["clip"]) == (50, 10, 0.5)
    assert found["noise_multiplier"] > 0
    assert found["gradient_norm_median"] > 0


def test_smaller_epsilon_means_more_noise(folder: Path, capsys: Capture) -> None:
    noise = []
    for epsilon in ("1", "8"):
        assert once(folder, "--epsilon", epsilon, "--json") == EXIT_DONE
        noise.append(json.loads(capsys.readouterr().out)["noise_multiplier"])

    assert noise[0] > 2 * noise[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--epsilon", "0"), "epsilon"),
        (("--epsilon", "1", "--clip", "0"), "--clip"),
        (("--epsilon", "1", "--releases", "0"), "--releases"),
        (("--epsilon", "1", "--delta", "1"), "delta"),
    ],
)
def test_bad_argument_of_a_private_trial_is_named(
    folder: Path, capsys: Capture, words: tuple[str, ...], said: str
) -> None:
    assert once(folder, *words) == EXIT_CONFIG

    assert said in capsys.readouterr().err

"""Attacks models with and without noise: `python -m examples.privacy.epsilon DIR`.

Five boards with 80 handwritten digits each train a small network, once without privacy
and then with record-level epsilons. The attacker has the model and asks of 400 members
and of 400 other digits who was a member: those whose loss is small. One label in five
is wrong, as in real data, and wrong labels can only be learned by heart. Versions are
judged by the members, so that the attacked one is the one that remembers them best.

Writes attack.png, attack.json, and a model for each, NAME.onnx.

Source: Yeom, Giacomelli, Fredrikson, Jha 2018, arXiv:1709.01604, definition 4
(advantage) and adversary 2 (threshold on the loss); Kairouz, Oh, Viswanath 2015,
arXiv:1311.0776, theorem 2.1 (what any attack can reach against epsilon and delta).
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import onnxruntime
from numpy.typing import NDArray

import starling
from starling.fleet.runtime.dataset_catalog import open_data_set

SEED = 1
BOARDS, EACH = 5, 80
WRONG = 0.2
DELTA = 1e-5
CLASSES = 10
TRAININGS: dict[float | None, tuple[int, float | None]] = {
    None: (150, 1.5),
    8.0: (30, None),
    1.0: (20, None),
}
"""By epsilon versions and the server's step; fewer releases need less noise each."""
Arrays = tuple[NDArray[np.float32], NDArray[np.int64]]


@dataclass(frozen=True)
class Attack:
    """An attack on one model.

    Attributes:
      epsilon: Of the training; None without privacy.
      accuracy: Of the model on digits with right labels that nobody learned from.
      false_positives: At each threshold, the share of others taken for members.
      true_positives: The share of members that are found.
    """

    epsilon: float | None
    accuracy: float
    false_positives: NDArray[np.float64]
    true_positives: NDArray[np.float64]

    @property
    def advantage(self) -> float:
        """Greatest difference of both shares, in [0, 1]; 0 is guessing."""
        return float((self.true_positives - self.false_positives).max())

    @property
    def name(self) -> str:
        """As legends have it."""
        return "no privacy" if self.epsilon is None else f"epsilon {self.epsilon:g}"


def bound(
    epsilon: float, delta: float, false_positives: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Share of members that any attack can find at most.

    Args:
      epsilon: Of a record.
      delta: Of that epsilon.
      false_positives: In [0, 1].
    """
    low = np.exp(epsilon) * false_positives + delta
    high = 1 - np.exp(-epsilon) * (1 - delta - false_positives)
    found: NDArray[np.float64] = np.clip(np.minimum(low, high), 0, 1)
    return found


def losses(model: bytes, data: Arrays) -> NDArray[np.float64]:
    """Cross-entropy (n,) of each example."""
    x, y = data
    session = onnxruntime.InferenceSession(model)
    scores = session.run(None, {session.get_inputs()[0].name: x})[0].astype(float)
    scores -= scores.max(axis=1, keepdims=True)
    found: NDArray[np.float64] = (
        np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(len(y)), y]
    )
    return found


def mislabelled(data: Arrays, rng: np.random.Generator) -> Arrays:
    """The same with a share of labels moved to another class."""
    x, y = data
    moves = rng.integers(1, CLASSES, len(y)) * (rng.random(len(y)) < WRONG)
    return x, (y + moves) % CLASSES


def parts() -> tuple[Arrays, Arrays, Arrays]:
    """Members, others of the same kind, and digits with right labels."""
    rng = np.random.default_rng(SEED)
    digits = open_data_set("digits", rng).training
    x, y = digits.x.astype(np.float32), digits.y.astype(np.int64)
    order, count = rng.permutation(len(x)), BOARDS * EACH
    rows = [order[:count], order[count : 2 * count], order[2 * count :]]
    members, others, clean = [(x[part], y[part]) for part in rows]
    return mislabelled(members, rng), mislabelled(others, rng), clean


def attacked(
    epsilon: float | None, members: Arrays, others: Arrays, clean: Arrays
) -> tuple[Attack, bytes]:
    """Trains a model, and attacks it at each threshold.

    Args:
      epsilon: None for no privacy.
      members: What the boards learn from.
      others: Of the same kind; nobody learns from them.
      clean: For the accuracy.

    Returns:
      The attack, and the model that was attacked.
    """
    versions, step = TRAININGS[epsilon]
    run = starling.simulate(
        "mlp",
        members,
        boards=BOARDS,
        held_out=members,
        test=clean,
        buffer=BOARDS,
        versions=versions,
        learning_rate=step,
        privacy="none" if epsilon is None else "record",
        epsilon=epsilon or 8.0,
        delta=DELTA,
        seed=SEED,
    )
    mine, theirs = losses(run.model, members), losses(run.model, others)
    thresholds = np.sort(np.concatenate([[-1.0], mine, theirs]))
    found = [
        np.searchsorted(np.sort(part), thresholds, side="right") / len(part)
        for part in (theirs, mine)
    ]
    attack = Attack(epsilon, run.report["test_accuracy"], found[0], found[1])
    return attack, run.model


def plot(attacks: list[Attack], path: Path) -> None:
    """Draws members found against false alarms, with what epsilons allow."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 5.4), layout="constrained")
    grid = np.linspace(0, 1, 500)
    for attack, colour in zip(attacks, ("#b2182b", "#2166ac", "#1a7f37"), strict=False):
        label = f"{attack.name}: accuracy {attack.accuracy:.0%}, "
        label += f"advantage {attack.advantage:.2f}"
        axes.plot(
            attack.false_positives, attack.true_positives, color=colour, label=label
        )
        if attack.epsilon is not None:
            most = bound(attack.epsilon, DELTA, grid)
            name = f"most that epsilon {attack.epsilon:g} allows any attack"
            axes.plot(grid, most, color=colour, linestyle=":", label=name)
    axes.plot([0, 1], [0, 1], color="#777777", linewidth=0.8, label="guessing")
    axes.set(xlim=(0, 1), ylim=(0, 1.01))
    axes.set_xlabel("others taken for members")
    axes.set_ylabel("members found")
    axes.set_title("Was this digit in the training data? Attack by loss")
    axes.legend(loc="lower right", fontsize="small")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> int:
    """Trains, attacks, draws."""
    mpl.use("Agg")
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    members, others, clean = parts()
    attacks = []
    for epsilon in TRAININGS:
        attack, model = attacked(epsilon, members, others, clean)
        (folder / f"{attack.name.replace(' ', '-')}.onnx").write_bytes(model)
        sys.stdout.write(
            f"{attack.name:>12}: accuracy {attack.accuracy:.1%}, the attacker's "
            f"advantage {attack.advantage:.3f}\n"
        )
        attacks.append(attack)
    rows = [
        {"epsilon": a.epsilon, "accuracy": a.accuracy, "advantage": a.advantage}
        for a in attacks
    ]
    (folder / "attack.json").write_text(json.dumps(rows) + "\n", "utf-8")
    plot(attacks, folder / "attack.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())

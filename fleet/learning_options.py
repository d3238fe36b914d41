"""The compiler's doors, as a fleet's plan has them: loss, what is trained, and how."""

from dataclasses import dataclass

from starling.protocol.errors import ConfigError
from starling.protocol.learning.local_optimiser import OptimiserKind
from starling.protocol.model.training_bundle import LOSSES

OPTIMISERS = tuple(kind.name.lower() for kind in OptimiserKind)
BALANCED = "balanced"
_EPOCHS_MAX, _BATCH_MAX = 1000, 1 << 16


@dataclass(frozen=True)
class LearningOptions:
    """None and empty leave the choice to the data and to `fleet.presets`.

    Attributes:
      loss: One of the bundle's losses; by the targets if None.
      train: Patterns of weights; only these are trained.
      freeze: Patterns of weights that stay as they are.
      local: Patterns of trained weights that stay on the board.
      class_weights: A factor for each class.
      balanced: Whether classes weigh as they are rare, measured over all boards:
        simulation only.
      start: An ONNX file, a bundle's folder or a (d,) .npy file to begin from.
      optimiser: Of the boards' local steps.
      epochs: Of the boards' local steps.
      batch: Examples of a local step.
      local_learning_rate: Of a local step.
      prox: mu of FedProx: a local step is drawn back to the base version by mu times
        its distance.
      personal: lambda of Ditto, by which a board's own model is drawn to the fleet's;
        None for no such model.
    """

    loss: str | None = None
    train: tuple[str, ...] = ()
    freeze: tuple[str, ...] = ()
    local: tuple[str, ...] = ()
    class_weights: tuple[float, ...] = ()
    balanced: bool = False
    start: str | None = None
    optimiser: str | None = None
    epochs: int | None = None
    batch: int | None = None
    local_learning_rate: float | None = None
    prox: float | None = None
    personal: float | None = None

    def __post_init__(self) -> None:
        """Refuses what no compiler takes.

        Raises:
          ConfigError: Naming the flag.
        """
        for flag, value, choices in (
            ("--loss", self.loss, LOSSES),
            ("--optimiser", self.optimiser, OPTIMISERS),
        ):
            if value is not None and value not in choices:
                raise ConfigError(
                    f"{value!r} is not one of {', '.join(choices)}", key=flag
                )
        for flag, number, most in (
            ("--epochs", self.epochs, _EPOCHS_MAX),
            ("--batch", self.batch, _BATCH_MAX),
        ):
            if number is not None and not 1 <= number <= most:
                raise ConfigError(f"{number} is not in [1, {most}]", key=flag)
        rate = self.local_learning_rate
        if rate is not None and not 0.0 < rate <= 256.0:
            raise ConfigError(
                f"{rate:g} is not in (0, 256]", key="--local-learning-rate"
            )
        for flag, pull in (("--prox", self.prox), ("--personal", self.personal)):
            if pull is not None and not 0.0 <= pull <= 256.0:
                raise ConfigError(f"{pull:g} is not in [0, 256]", key=flag)

    def about_steps(self, privacy: str) -> str:
        """The first flag that is about steps that no board takes; empty for none.

        Args:
          privacy: A key of `fleet.plan.PRIVACY_KINDS` under which updates are no steps
            of the boards' own.
        """
        set_flags = {"--optimiser": self.optimiser, "--prox": self.prox}
        if self.personal is None or privacy != "record":
            set_flags |= {
                "--epochs": self.epochs,
                "--batch": self.batch,
                "--local-learning-rate": self.local_learning_rate,
            }
        return next((flag for flag, value in set_flags.items() if value), "")


NOTHING_ASKED = LearningOptions()
"""All is left to the data and to `fleet.presets`."""


def class_weights(text: str | None) -> tuple[tuple[float, ...], bool]:
    """Reads `--class-weights`: numbers, or `balanced`.

    Returns:
      The numbers, and whether they are to be measured.

    Raises:
      ConfigError: If it is neither.
    """
    if text is None:
        return (), False
    if text == BALANCED:
        return (), True
    try:
        return tuple([float(part) for part in text.split(",")]), False
    except ValueError as error:
        raise ConfigError(
            f"{text!r} is neither W,W,... nor {BALANCED}", key="--class-weights"
        ) from error


def selection_weights(text: str) -> tuple[int, ...]:
    """The weights of `--select`; none for an empty text.

    Raises:
      ConfigError: If one of them is no integer.
    """
    try:
        return tuple(int(word) for word in text.split(",")) if text else ()
    except ValueError as error:
        detail = f"{text[:80]!r} is not five integers with commas between them"
        raise ConfigError(detail, key="--select") from error

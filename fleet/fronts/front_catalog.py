"""The fronts that there are, and where each comes from."""

from dataclasses import dataclass

from starling.protocol.errors import ConfigError

ORIENTATION, WHITENED, FONTS, PEN = "orientation", "whitened", "fonts", "pen"
DIGITS = "digits"
HEAD_MODEL = "head"
"""What a plan calls a linear layer on a front."""


@dataclass(frozen=True)
class Front:
    """A frozen front.

    Attributes:
      name: By which a plan names it.
      summary: What it computes.
      origin: Which data it was made from; stands wherever its accuracy does.
      measured_on: Data sets of ours that it has seen: none of their records may be a
        board's, whose privacy the front would not keep.
      trained: Whether it takes minutes to make, and is kept once it is there.
    """

    name: str
    summary: str
    origin: str
    measured_on: tuple[str, ...] = ()
    trained: bool = False


_UCI = (
    "the 1,797 digits of UCI's Optical Recognition of Handwritten Digits (Alpaydin and "
    "Kaynak 1998, CC BY 4.0), drawn at 28x28"
)
FRONTS = {
    front.name: front
    for front in (
        Front(
            ORIENTATION,
            "648 features: edges in eight directions, averaged over fields of 6x6",
            "made from no data",
        ),
        Front(
            WHITENED,
            "the orientation features, centred and gently whitened: 60 of them",
            f"mean and covariance of {_UCI}",
            (DIGITS,),
        ),
        Front(
            FONTS,
            "64 features of a convolutional network of 46,080 weights",
            "trained on distorted pictures of digits, rendered from fonts and of UCI's",
            (DIGITS,),
            trained=True,
        ),
        Front(
            PEN,
            "64 features of the same network",
            "made from no data: trained on digits that a pen draws along skeletons, "
            "which are ours",
            trained=True,
        ),
    )
}
"""By name."""


def front_named(name: str) -> Front:
    """The front of a name.

    Raises:
      ConfigError: If there is none.
    """
    if name not in FRONTS:
        raise ConfigError(
            f"{name!r} is not one of {', '.join(FRONTS)}, nor an ONNX file of "
            "`starling fronts build`",
            key="--front",
        )
    return FRONTS[name]


def check_not_seen(front: Front, data: str) -> None:
    """Refuses data whose records a front was made from.

    Raises:
      ConfigError: Naming the front and what to take.
    """
    if data in front.measured_on:
        raise ConfigError(
            f"{front.name} was measured on these very records, so that neither its "
            "accuracy nor a board's epsilon would be true; take "
            f"{ORIENTATION}, or other data",
            key="--front",
        )

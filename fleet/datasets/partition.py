"""Examples, and how a fleet's boards come to hold different ones.

`n` examples, `m` boards. A partition deals indices out: every example goes to exactly
one board, and no board stays empty. All are deterministic given the generator.

The names are those of Flower Datasets: IidPartitioner, DirichletPartitioner,
ShardPartitioner.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from starling.protocol.errors import ConfigError

Indices = NDArray[np.int64]
Features = NDArray[np.float32]
Labels = NDArray[np.int64]
Targets = NDArray[Any]

IID, NATURAL = "iid", "natural"

BOARD_EXAMPLES_MIN = 16
"""Fewer cannot cover the smallest pledge of a task."""
_DIRICHLET_TRIES = 1000
_TENTHS = 10


@dataclass(frozen=True)
class Examples:
    """Inputs with their targets.

    Attributes:
      x: (n, ...) float32.
      y: (n,) int64 labels from 0, or (n, t) float32 numbers.
    """

    x: Features
    y: Targets

    def __len__(self) -> int:
        """Number of examples, n."""
        return len(self.y)

    def take(self, indices: Indices) -> "Examples":
        """The examples at these places, in this order."""
        return Examples(self.x[indices], self.y[indices])


def hold_out(
    examples: Examples, count: int, rng: np.random.Generator
) -> tuple[Examples, Examples]:
    """Shuffles, and keeps some for validation.

    Args:
      examples: n of them.
      count: How many to hold out; less than n.
      rng: Decides the order.

    Returns:
      What the boards get, and what is held out.
    """
    order = rng.permutation(len(examples))
    return examples.take(order[count:]), examples.take(order[:count])


def iid(labels: Labels, boards: int, rng: np.random.Generator) -> list[Indices]:
    """Equal shares of a shuffled deck; sizes differ by at most one."""
    return list(np.array_split(rng.permutation(len(labels)), boards))


def dirichlet(
    labels: Labels, boards: int, rng: np.random.Generator, alpha: float
) -> list[Indices]:
    """Deals each label out in proportions drawn from a Dirichlet distribution.

    Draws again while a board has fewer than `BOARD_EXAMPLES_MIN` examples.

    Args:
      labels: (n,).
      boards: m.
      rng: Draws.
      alpha: Concentration; small ones make boards specialise.

    Raises:
      ConfigError: If no draw gives every board enough.

    Source:
      Hsu, Qi, Brown, arXiv:1909.06335; the retries as in Flower Datasets.
    """
    for _ in range(_DIRICHLET_TRIES):
        shares: list[list[Indices]] = [[] for _ in range(boards)]
        for label in np.unique(labels):
            places = rng.permutation(np.flatnonzero(labels == label))
            cuts = np.cumsum(rng.dirichlet(np.full(boards, alpha)))[:-1]
            pieces = np.split(places, (cuts * len(places)).astype(np.int64))
            for share, piece in zip(shares, pieces, strict=True):
                share.append(piece)
        dealt = [np.concatenate(share) for share in shares]
        if min(len(share) for share in dealt) >= BOARD_EXAMPLES_MIN:
            return [rng.permutation(share) for share in dealt]
    raise ConfigError(
        f"dirichlet:{alpha:g} leaves one of {boards} boards with fewer than "
        f"{BOARD_EXAMPLES_MIN} of {len(labels)} examples; raise alpha or use fewer "
        "boards",
        key="--split",
    )


def shards(
    labels: Labels, boards: int, rng: np.random.Generator, shards_per_board: int
) -> list[Indices]:
    """Sorts by label, cuts into equal shards, gives each board some of them.

    Args:
      labels: (n,).
      boards: m.
      rng: Deals.
      shards_per_board: 2 in the paper: most boards know two labels.

    Source:
      McMahan et al., arXiv:1602.05629, section 3 ("pathological non-IID").
    """
    # The shuffle before the stable sort mixes the examples of one label.
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    pieces = np.array_split(order, boards * shards_per_board)
    hand = rng.permutation(len(pieces)).reshape(boards, shards_per_board)
    return [np.concatenate([pieces[int(i)] for i in row]) for row in hand]


Partition = Callable[[Labels, int, np.random.Generator], list[Indices]]


def strata(targets: Targets) -> Labels:
    """Labels as they are; numbers by the tenths of the first target, (n,)."""
    if targets.ndim == 1:
        return targets
    first = targets[:, 0]
    # Tenths stand for labels, so that the same partitions make boards differ here, too.
    edges = np.quantile(first, np.linspace(0, 1, _TENTHS + 1)[1:-1])
    return np.searchsorted(edges, first).astype(np.int64)


def natural(
    owners: NDArray[np.int32], boards: int, rng: np.random.Generator
) -> list[Indices]:
    """Whole groups of records dealt out, the largest first, to who has the fewest.

    Args:
      owners: (n,) which group each record is of, from 0.
      boards: m; at most as many as there are groups. With as many, board i has group i.
      rng: Shuffles each board's records.
    """
    sizes = np.bincount(owners)
    dealt = list(range(len(sizes)))
    if boards < len(sizes):
        loads = np.zeros(boards, np.int64)
        # The longest first keeps loads even (Graham 1969, LPT).
        for group in np.argsort(-sizes, kind="stable"):
            board = int(loads.argmin())
            dealt[group] = board
            loads[board] += sizes[group]
    board_of = np.array(dealt)[owners]
    return [rng.permutation(np.flatnonzero(board_of == each)) for each in range(boards)]


def partition_named(name: str) -> Partition:
    """A partition by its name on the command line.

    Args:
      name: `iid`, `dirichlet:ALPHA` or `shards:S`.

    Raises:
      ConfigError: If it is none of these, or its number is out of bounds.
    """
    kind, _, number = name.partition(":")
    try:
        if name == "iid":
            return iid
        if kind == "dirichlet" and 0.0 < float(number) <= 1e6:
            return lambda labels, m, rng: dirichlet(labels, m, rng, float(number))
        if kind == "shards" and 1 <= int(number) <= 1000:
            return lambda labels, m, rng: shards(labels, m, rng, int(number))
    except ValueError:
        pass
    raise ConfigError(
        f"{name!r} is not iid, dirichlet:ALPHA (ALPHA above 0) or shards:S (S from 1)",
        key="--split",
    )


def deal(
    examples: Examples,
    boards: int,
    split: str,
    rng: np.random.Generator,
    owners: tuple[NDArray[np.int32], tuple[str, ...]] | None = None,
) -> list[Examples]:
    """Each board's own examples.

    Args:
      examples: n of them.
      boards: m.
      split: For `partition_named`, or `NATURAL`.
      rng: Deals.
      owners: (n,) which group each example is of, and the groups' names; only for
        `NATURAL`.

    Raises:
      ConfigError: If there are too few examples, or groups, for so many boards.
    """
    if owners is not None and split == NATURAL:
        codes, names = owners
        if boards > len(names):
            raise ConfigError(
                f"the data name {len(names)} boards: ask for no more, or deal records "
                "out with --split iid",
                key="--devices",
            )
        dealt = natural(codes, boards, rng)
    else:
        names = tuple[str, ...]()
        dealt = partition_named(split)(strata(examples.y), boards, rng)
    _refuse_small([len(share) for share in dealt], names)
    return [examples.take(share) for share in dealt]


def _refuse_small(sizes: list[int], names: tuple[str, ...]) -> None:
    least = min(sizes)
    if least >= BOARD_EXAMPLES_MIN:
        return
    detail = (
        f"{sum(sizes)} examples are too few for {len(sizes)} boards: each needs at "
        f"least {BOARD_EXAMPLES_MIN}"
    )
    if len(names) == len(sizes):
        detail = (
            f"board {names[sizes.index(least)]!r} has {least} examples to learn from; "
            f"each needs at least {BOARD_EXAMPLES_MIN}: collect more, or join boards "
            "with --devices"
        )
    raise ConfigError(detail, key="--devices")


def checked_examples(x: NDArray[Any], y: NDArray[Any], file: str) -> Examples:
    """Takes arrays from a file as examples.

    Args:
      x: (n, ...) of any real kind.
      y: (n,) whole numbers from 0.
      file: For messages.

    Raises:
      ConfigError: Naming the file and what is wrong with it.
    """
    if x.ndim < 2 or y.ndim != 1 or len(x) != len(y) or not len(y):
        raise ConfigError(
            f"expected x (n, ...) and y (n,), found {x.shape} and {y.shape}", file=file
        )
    if x.dtype.kind not in "fiub" or y.dtype.kind not in "fiub":
        raise ConfigError("x and y must hold numbers", file=file)
    features = np.ascontiguousarray(x, np.float32)
    if not np.isfinite(features).all():
        raise ConfigError("x holds a NaN or an infinity", file=file)
    labels = y.astype(np.int64)
    if (labels != y).any() or labels.min() < 0:
        raise ConfigError("y must hold whole numbers from 0", file=file)
    return Examples(features, labels)

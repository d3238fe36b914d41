"""Records, ready to be dealt out: what every source of data becomes.

Letters: `n` records, `t` targets.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from starling.protocol.model.table_schema import TableSchema
from starling.protocol.model.training_bundle import Preprocessing
from starling.records.errors import DataError

AS_IT_STANDS = Preprocessing()
LABELS = "cross-entropy"
"""The loss of labels; every other one takes numbers."""
NUMBERS = "mse"
SHARES = "bce"
"""The loss of numbers from 0 to 1, such as answers of yes or no."""


@dataclass(frozen=True)
class Division:
    """Owners of the records: boards, or groups.

    Attributes:
      codes: (n,) int32 places in `names`.
      names: At least one, each of them with a record.
    """

    codes: NDArray[np.int32]
    names: tuple[str, ...]

    def take(self, rows: NDArray[Any]) -> "Division":
        """Of these records only; names without a record are gone."""
        used, codes = np.unique(self.codes[rows], return_inverse=True)
        names = tuple([self.names[place] for place in used])
        return Division(codes.astype(np.int32), names)


@dataclass(frozen=True)
class RecordSet:
    """Records with all that a model must know of them.

    Attributes:
      name: Of the source.
      x: (n, ...) float32 in the source's own units.
      y: (n,) int64 labels from 0, or (n, t) float32 numbers in the source's own units.
      loss: What fits the targets: "cross-entropy" for labels, "bce" for shares.
      classes: The label map: label i is called `classes[i]`; empty for numbers, and
        for labels that were whole numbers without names.
      preprocessing: How x is scaled, as the bundle will say it.
      table: The columns, if x or y came from some.
      boards: Whose each record is; None if the source does not say.
      groups: What must not be both learned and tested; None if nothing must not.
      reuse: Records in which one raw sample may stand, where windows overlap; every
        charge of privacy grows with its square.
      notes: What whoever learns from them should know, a line each.
    """

    name: str
    x: NDArray[np.float32]
    y: NDArray[Any]
    loss: str
    classes: tuple[str, ...] = ()
    preprocessing: Preprocessing = AS_IT_STANDS
    table: TableSchema | None = None
    boards: Division | None = None
    groups: Division | None = None
    reuse: int = 1
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Number of records: n."""
        return len(self.y)

    @property
    def outputs(self) -> int:
        """Values that a model must give: classes, or targets."""
        if self.loss == LABELS:
            # Two at least: a softmax over one class learns nothing.
            return max(2, len(self.classes), int(self.y.max(initial=0)) + 1)
        return int(self.y.shape[1])


def division(
    codes: NDArray[np.int32], names: Sequence[str], *, column: str, file: str
) -> Division:
    """Checks a division that a column makes.

    Raises:
      DataError: If there is one name only: nothing is divided.
    """
    made = Division(codes, tuple(names)).take(np.arange(len(codes)))
    if len(made.names) < 2:
        raise DataError(
            f"every record belongs to {made.names[0]!r}; boards or groups need two: "
            "name another column, or none",
            file=file,
            column=column,
        )
    return made

"""The parameters of a model, and where each stands in the flat vector theta.

The trainable ones tile [0, d) in model order. A local one is trained like the others
and never sent: it belongs to the board.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from starling.protocol.errors import DecodeError
from starling.protocol.schema.json_document import check_fields, integer, items, text

DIMENSION_MAX = 16 << 20
RANK_MAX = 8
NAME_CHARS_MAX = 256
_PLACE = "manifest.parameters"
_FLAGS = ("trainable", "local")


@dataclass(frozen=True)
class ModelParameter:
    """One tensor of the model.

    Attributes:
      name: As the model calls it.
      shape: Its dimensions; () is a scalar.
      offset: Where it starts in theta, row by row; None if it is frozen.
      trainable: Whether it is part of theta.
      local: Whether it stays on the board; trainable ones only.
    """

    name: str
    shape: tuple[int, ...]
    offset: int | None
    trainable: bool
    local: bool = False

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    def document(self) -> dict[str, object]:
        """As it stands in a manifest."""
        return {
            "name": self.name,
            "shape": list(self.shape),
            "offset": self.offset,
            "trainable": self.trainable,
            "local": self.local,
        }


def read_parameter(row: Any) -> ModelParameter:  # noqa: ANN401 - straight from the JSON reader
    """Reads one parameter of a manifest.

    Raises:
      DecodeError: If a field is missing, unknown or out of bounds.
    """
    check_fields(row, _PLACE, ("name", "shape", "offset", *_FLAGS))
    offset = row["offset"]
    for flag in _FLAGS:
        if type(row[flag]) is not bool:
            raise DecodeError(f"{_PLACE}: {flag} is true or false")
    if offset is not None:
        offset = integer(offset, _PLACE, 0, DIMENSION_MAX)
    name = text(row["name"], _PLACE, NAME_CHARS_MAX)
    shape = read_shape(row["shape"], _PLACE)
    return ModelParameter(name, shape, offset, row["trainable"], row["local"])


def read_shape(value: object, place: str) -> tuple[int, ...]:
    """Reads the dimensions of a tensor.

    Raises:
      DecodeError: If they are no list of positive integers, or too large together.
    """
    entries = items(value, place, RANK_MAX)
    shape = tuple([integer(entry, place, 1, DIMENSION_MAX) for entry in entries])
    if math.prod(shape) > DIMENSION_MAX:
        raise DecodeError(f"{place}: more than {DIMENSION_MAX} values")
    return shape


def check_layout(parameters: Iterable[ModelParameter], dimension: int) -> None:
    """Refuses parameters that do not tile theta, or that leave nothing to send.

    Raises:
      DecodeError: Naming the first one.
    """
    offset, shared = 0, 0
    names = set()
    for item in parameters:
        if item.name in names:
            raise DecodeError(f"{_PLACE}: {item.name!r} twice")
        names.add(item.name)
        if item.trainable:
            # Gaps and overlaps would leave values that nobody trains, or that two
            # tensors share.
            if item.offset != offset:
                raise DecodeError(f"{_PLACE}: {item.name!r} leaves a gap")
            offset += item.size
            shared += 0 if item.local else item.size
        elif item.offset is not None or item.local:
            raise DecodeError(f"{_PLACE}: frozen {item.name!r} in theta")
    if offset != dimension:
        raise DecodeError(f"manifest.dimension: parameters fill {offset}")
    if not shared:
        raise DecodeError(f"{_PLACE}: all of them are local")


def local_slices(parameters: Iterable[ModelParameter]) -> tuple[slice, ...]:
    """Slices of theta whose parameters stay on the board, in rising order."""
    return tuple(
        slice(item.offset, item.offset + item.size)
        for item in parameters
        if item.local and item.offset is not None
    )
